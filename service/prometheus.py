"""Prometheus metrics of the service: requests, errors by code, the queue, the engine, memory; nothing from clients' files."""

from collections.abc import Callable, Iterable

import psutil
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from disk.process import resident_bytes

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


class Gauges(Collector):
    """Gauges that are measured at each scrape.

    Args:
        gauges: help text and measuring function of each gauge; the function returns None while there is no value.
    """

    def __init__(self, gauges: dict[str, tuple[str, Callable[[], float | None]]]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        """Yield each gauge that has a value."""
        for name, (text, value) in self._gauges.items():
            if (measurement := value()) is not None:
                yield GaugeMetricFamily(name, text, value=measurement)


def exposition(gauges: Gauges) -> bytes:
    """Return all metrics in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(gauges)
    return generate_latest(REGISTRY) + generate_latest(registry)


def process_memory_bytes(process_id: int | None) -> float | None:
    """Return the resident memory of a process; None if it has ended, or the system doesn't report it."""
    try:
        return None if process_id is None else float(resident_bytes(process_id))
    except psutil.Error:
        return None
