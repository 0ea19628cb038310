// Sends the Vercel AI SDK's spans to `sre serve`. Load it first: `node --import ./vercel_ai_tap.mjs agent.mjs`,
// and give each call its agent's name: `telemetry: { functionId: "support" }`.
import { OpenTelemetry } from "@ai-sdk/otel";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { NodeSDK } from "@opentelemetry/sdk-node";
import { registerTelemetry } from "ai";

process.env.OTEL_LOG_LEVEL ??= "warn"; // Reports spans that are lost.
const traceExporter = new OTLPTraceExporter(); // To http://localhost:4318, or OTEL_EXPORTER_OTLP_ENDPOINT.
const sdk = new NodeSDK({ serviceName: "support", traceExporter });
sdk.start();
registerTelemetry(new OpenTelemetry());
process.once("beforeExit", () => {
  const exit = (reason) => {
    console.error("sre serve: spans lost:", reason);
    process.exit();
  };
  setTimeout(exit, 2000, "no answer within 2 seconds").unref();
  sdk.shutdown().catch((error) => exit(error.message));
});
