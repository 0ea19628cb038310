"""Sends plain OpenTelemetry spans to `sre serve`, by the GenAI conventions, to http://localhost:4318 or `OTEL_EXPORTER_OTLP_ENDPOINT`."""
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider(resource=Resource.create({"service.name": "support"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("support")

def answer(question, ask_model):
    with tracer.start_as_current_span("invoke_agent support") as task:
        task.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support"})
        with tracer.start_as_current_span("chat", kind=trace.SpanKind.CLIENT) as call:
            call.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini"})
            text, tokens_in, tokens_out = ask_model(question)
            call.set_attributes({"gen_ai.usage.input_tokens": tokens_in, "gen_ai.usage.output_tokens": tokens_out})
            return text
