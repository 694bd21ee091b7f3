"""What /metrics says, for Prometheus: requests, errors by code, the queue, the engine, memory; nothing out of files."""

from collections.abc import Callable, Iterable

import psutil
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

REGISTRY = CollectorRegistry()
SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600)

REQUESTS = Counter(
    "overtile_requests", "Requests, by the route's own pattern.", ["method", "route", "status"], registry=REGISTRY
)
REQUEST_SECONDS = Histogram("overtile_request_seconds", "Of a request.", ["route"], buckets=SECONDS, registry=REGISTRY)
ERRORS = Counter("overtile_errors", "Errors that clients and jobs were told of, by code.", ["code"], registry=REGISTRY)
TILES = Counter("overtile_tiles", "Tiles that jobs went through.", registry=REGISTRY)
JOBS = Counter("overtile_jobs_finished", "Jobs that came to an end, by how.", ["state"], registry=REGISTRY)
JOB_SECONDS = Histogram("overtile_job_seconds", "Of a job.", ["stage"], buckets=SECONDS, registry=REGISTRY)


class Now(Collector):
    """What is asked for when somebody looks.

    Args:
        figures: name -> its help and its value; None where there is none now.
    """

    def __init__(self, figures: dict[str, tuple[str, Callable[[], float | None]]]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Each as a gauge."""
        for name, (text, value) in self._figures.items():
            if (found := value()) is not None:
                yield GaugeMetricFamily(name, text, value=found)


def exposition(now: Now) -> bytes:
    """All of it in Prometheus's text format."""
    asked = CollectorRegistry()
    asked.register(now)
    return generate_latest(REGISTRY) + generate_latest(asked)


def resident_bytes(process_id: int | None) -> float | None:
    """Memory of a process; None where it is gone, or the system doesn't say."""
    try:
        return None if process_id is None else float(psutil.Process(process_id).memory_info().rss)
    except psutil.Error:
        return None
