"""Traces for OpenTelemetry, where an address for them is set: a span a request and a job, with nothing that clients sent."""

from collections.abc import Mapping

from opentelemetry import trace

ENDPOINT = "OVERTILE_TRACES_URL"  # of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces

_tracers: list[trace.Tracer] = [trace.NoOpTracer()]  # the last one counts


def tracer() -> trace.Tracer:
    """Ours alone: were it everybody's, libraries would send spans of their own, with what clients sent."""
    return _tracers[-1]


def configure(environment: Mapping[str, str]) -> None:
    """Sends spans to the address that is set, in a thread of their own; none is set: they cost nothing."""
    if not (endpoint := environment.get(ENDPOINT)):
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource({"service.name": "overtile"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint), schedule_delay_millis=1000))
    _tracers.append(provider.get_tracer("overtile"))
