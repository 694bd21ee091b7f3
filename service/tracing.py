"""OpenTelemetry traces, if a collector is set: a span for each request and job, without anything that clients send."""

from collections.abc import Mapping

from opentelemetry import trace

ENDPOINT = "OVERTILE_TRACES_URL"  # a collector of OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces

_tracers: list[trace.Tracer] = [trace.NoOpTracer()]  # the last one is used


def tracer() -> trace.Tracer:
    """Return the service's own tracer; with a global one, libraries would send spans with clients' data."""
    return _tracers[-1]


def configure(environment: Mapping[str, str]) -> None:
    """Send spans to the collector in OVERTILE_TRACES_URL, from a thread; without it, spans cost nothing."""
    if not (endpoint := environment.get(ENDPOINT)):
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource({"service.name": "overtile"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint), schedule_delay_millis=1000))
    _tracers.append(provider.get_tracer("overtile"))
