"""Writes the OpenTelemetry spans of the process to a file: one a line, in the JSON of `sre_core::Span`."""

import json

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import format_span_id, format_trace_id

AGENT = "python"


class Lines(SpanExporter):
    def __init__(self, path):
        self.file = open(path, "a", buffering=1)

    def export(self, spans):
        for span in spans:
            record = {
                "trace_id": format_trace_id(span.context.trace_id),
                "span_id": format_span_id(span.context.span_id),
                "name": span.name,
                "role": span.kind.name.lower(),
                "agent": AGENT,
                "start": span.start_time / 1e9,
                "end": span.end_time / 1e9,
            }
            if span.parent:
                record["parent_span_id"] = format_span_id(span.parent.span_id)
            if request_id := span.attributes.get("jsonrpc.request.id"):
                record["request_id"] = str(request_id)
            self.file.write(json.dumps(record) + "\n")
        return SpanExportResult.SUCCESS


def write_spans(path):
    provider = TracerProvider(resource=Resource({"service.name": AGENT}))
    provider.add_span_processor(SimpleSpanProcessor(Lines(path)))
    trace.set_tracer_provider(provider)
