"""Prometheus metrics and OpenTelemetry traces of the service; they contain nothing that clients send."""

from collections.abc import Callable, Iterable, Mapping

import psutil
from opentelemetry import trace
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from disk.process import resident_bytes

TRACES_URL = "OVERTILE_TRACES_URL"  # collector of OTLP over HTTP, for example http://127.0.0.1:4318/v1/traces

REGISTRY = CollectorRegistry()
SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600)

REQUESTS = Counter(
    "overtile_requests", "Requests by method, route and status.", ["method", "route", "status"], registry=REGISTRY
)
REQUEST_SECONDS = Histogram("overtile_request_seconds", "Duration of a request.", ["route"], buckets=SECONDS, registry=REGISTRY)
ERRORS = Counter("overtile_errors", "Errors in answers and of jobs, by code.", ["code"], registry=REGISTRY)
TILES = Counter("overtile_tiles", "Tiles that jobs have finished.", registry=REGISTRY)
JOBS = Counter("overtile_jobs_finished", "Finished jobs by state.", ["state"], registry=REGISTRY)
JOB_SECONDS = Histogram("overtile_job_seconds", "Duration of a job.", ["stage"], buckets=SECONDS, registry=REGISTRY)

_tracers: list[trace.Tracer] = [trace.NoOpTracer()]  # the last one is used


class Gauges(Collector):
    """Gauges that are measured at each scrape.

    Args:
        gauges: help text and measuring function of each gauge; the function returns None while there is no value.
    """

    def __init__(self, gauges: dict[str, tuple[str, Callable[[], float | None]]]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges that have a value."""
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


def tracer() -> trace.Tracer:
    """Return the service's own tracer; with a global one, libraries would send spans with clients' data."""
    return _tracers[-1]


def configure_tracing(environment: Mapping[str, str]) -> None:
    """Send a span of each request and job to the collector in OVERTILE_TRACES_URL; without it, spans cost nothing."""
    if not (endpoint := environment.get(TRACES_URL)):
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource({"service.name": "overtile"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint), schedule_delay_millis=1000))
    _tracers.append(provider.get_tracer("overtile"))
