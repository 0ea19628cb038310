"""The same as otel_agent.py, by OTLP/gRPC."""
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode
from grpc import Compression

provider = TracerProvider(resource=Resource.create({"service.name": "support"}))
exporter = OTLPSpanExporter(insecure=True, compression=Compression.Gzip)
provider.add_span_processor(BatchSpanProcessor(exporter))
tracer = provider.get_tracer("support")
for question in ["hello", "hello again", "and again", "#fail"]:
    with tracer.start_as_current_span("invoke_agent support") as task:
        task.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support"})
        with tracer.start_as_current_span("chat", kind=trace.SpanKind.CLIENT) as call:
            call.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini"})
            if question == "#fail":
                call.set_status(Status(StatusCode.ERROR, "the model does not answer"))
                print("failed:", question)
            else:
                call.set_attributes({"gen_ai.usage.input_tokens": 50, "gen_ai.usage.output_tokens": 10})
provider.shutdown()
