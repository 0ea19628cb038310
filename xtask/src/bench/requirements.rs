//! The required bounds of criterion's benchmarks.

/// The required bound of a benchmark, relative to a peer measured in the same run or absolute.
pub(super) struct Requirement {
    pub(super) what: &'static str,
    pub(super) measured: &'static str,
    pub(super) bound: Bound,
}

pub(super) enum Bound {
    /// At most this multiple of the peer's time.
    Times(f64, &'static str),
    /// At most this number of nanoseconds.
    Nanos(f64),
}

const fn times(what: &'static str, measured: &'static str, most: f64, peer: &'static str) -> Requirement {
    Requirement { what, measured, bound: Bound::Times(most, peer) }
}

const fn nanos(what: &'static str, measured: &'static str, most: f64) -> Requirement {
    Requirement { what, measured, bound: Bound::Nanos(most) }
}

pub(super) const CORE: [Requirement; 33] = [
    times("record an event into an SLO", "record/slo_after_1k", 12.0, "record/atomic_add"),
    times("record an event after 100 million events", "record/slo_after_100M", 1.1, "record/slo_after_1k"),
    times("two threads on one SLO, per event", "record/slo_two_threads", 1.0 / 1.5, "record/slo_one_thread"),
    nanos("evaluate an SLO, all windows", "evaluate/slo", 2_000.0),
    times("record a latency", "latency/indicator_record", 3.0, "latency/ddsketch_add"),
    nanos("p95 over a window", "latency/p95", 50_000.0),
    times("OTLP protobuf, OpenInference (LangGraph)", "otlp-langgraph/adapter", 2.0, "otlp-langgraph/prost_decode"),
    times(
        "OTLP protobuf, OpenInference (OpenAI Agents)",
        "otlp-openai-agents/adapter",
        2.0,
        "otlp-openai-agents/prost_decode",
    ),
    times(
        "OTLP protobuf, GenAI (Semantic Kernel)",
        "otlp-semantic-kernel/adapter",
        2.0,
        "otlp-semantic-kernel/prost_decode",
    ),
    times("OTLP protobuf, OpenLLMetry", "otlp-traceloop/adapter", 2.0, "otlp-traceloop/prost_decode"),
    times("OTLP protobuf, Vercel AI SDK", "otlp-vercel-ai/adapter", 2.0, "otlp-vercel-ai/prost_decode"),
    nanos("a record of AutoGen (300,000 a second)", "frameworks/autogen", 3_333.0),
    nanos("a record of CrewAI (300,000 a second)", "frameworks/crewai", 3_333.0),
    nanos("a record of Dify (300,000 a second)", "frameworks/dify", 3_333.0),
    nanos("a record of LangChain (300,000 a second)", "frameworks/langchain", 3_333.0),
    nanos("a record of LangGraph (300,000 a second)", "frameworks/langgraph", 3_333.0),
    nanos("a record of LlamaIndex (300,000 a second)", "frameworks/llamaindex", 3_333.0),
    nanos("a record of the OpenAI Agents SDK (300,000 a second)", "frameworks/openai-agents", 3_333.0),
    nanos("a record of Semantic Kernel (300,000 a second)", "frameworks/semantic-kernel", 3_333.0),
    nanos("an event of `--from sre` (300,000 a second)", "sre/line", 3_333.0),
    nanos("a span of OpenInference, LangGraph (300,000 a second)", "spans/otlp-langgraph", 3_333.0),
    nanos("a span of OpenInference, OpenAI Agents (300,000 a second)", "spans/otlp-openai-agents", 3_333.0),
    nanos("a span of GenAI, Semantic Kernel (300,000 a second)", "spans/otlp-semantic-kernel", 3_333.0),
    nanos("a span of OpenLLMetry (300,000 a second)", "spans/otlp-traceloop", 3_333.0),
    nanos("a span of the Vercel AI SDK (300,000 a second)", "spans/otlp-vercel-ai", 3_333.0),
    nanos("send an alert to a callback", "alerts/send", 1_000.0),
    nanos("repeat the only open alert", "alerts/dedup_hit/1", 150.0),
    nanos("repeat any of a thousand", "alerts/dedup_hit/1000", 150.0),
    nanos("repeat one, with a million open", "alerts/hot/1000000", 150.0),
    nanos("repeat any of a million", "alerts/dedup_hit/1000000", 150.0),
    times("repeat any of a million, against one cache miss", "alerts/dedup_hit/1000000", 2.0, "alerts/memory_load"),
    nanos("an alert through the durable path (50,000 a second)", "alerts_durable/send_all", 20_000.0),
    times("the durable path, against bare SQLite", "alerts_durable/send_all", 3.0, "alerts_durable/sqlite_bare"),
];

pub(super) const GUARDS: [Requirement; 16] = [
    times("a protected call, consecutive failures", "breaker/consecutive", 1.0, "breaker/recloser"),
    times(
        "a protected call by two threads, consecutive failures",
        "breaker/consecutive_two_threads",
        1.0 / 3.0,
        "breaker/recloser_two_threads",
    ),
    times("a protected call, window of calls", "breaker/window_of_calls", 1.0, "breaker/recloser"),
    times(
        "a protected call by two threads, window of calls",
        "breaker/window_of_calls_two_threads",
        1.0 / 3.0,
        "breaker/recloser_two_threads",
    ),
    times("a protected call, window of time", "breaker/window_of_time", 1.0, "breaker/recloser"),
    times(
        "a protected call by two threads, window of time",
        "breaker/window_of_time_two_threads",
        1.0 / 3.0,
        "breaker/recloser_two_threads",
    ),
    times("a protected `tower` service", "breaker_layer/ours", 1.0, "breaker_layer/tower_resilience"),
    nanos("check 100,000 agents for a cascade, 1 % open", "cascade/check", 1_000_000.0),
    nanos("check 100,000 agents, nothing open", "cascade/check_nothing_open", 1_000_000.0),
    nanos("check 100,000 agents, a hub open and all exposed", "cascade/check_all_exposed", 1_000_000.0),
    times("check and charge, 10,000 agents in random order", "charge/guard_1", 2.0, "charge/governor_1"),
    times("check and charge by two threads, each for agents of its own", "charge/guard_2", 1.0 / 1.5, "charge/guard_1"),
    times("check and charge without anomaly detection", "charge/guard_without_anomalies_1", 2.0, "charge/governor_1"),
    times(
        "check and charge without anomaly detection by two threads",
        "charge/guard_without_anomalies_2",
        1.0 / 1.5,
        "charge/guard_without_anomalies_1",
    ),
    times(
        "check and charge, a million agents in random order",
        "charge_million/guard_1",
        2.0,
        "charge_million/governor_1",
    ),
    times(
        "check and charge without anomaly detection, a million agents",
        "charge_million/guard_without_anomalies_1",
        2.0,
        "charge_million/governor_1",
    ),
];

pub(super) const EXPORTERS: [Requirement; 11] = [
    nanos("an event into the outbox (100,000 a second)", "export/push", 10_000.0),
    nanos("an event to a request of OTLP, compressed", "export/otlp", 1_000.0),
    nanos("of Langfuse, compressed", "export/langfuse", 1_000.0),
    nanos("of LangSmith", "export/langsmith", 1_000.0),
    nanos("of Phoenix, compressed", "export/phoenix", 1_000.0),
    nanos("of Braintrust", "export/braintrust", 1_000.0),
    nanos("of Datadog", "export/datadog", 1_000.0),
    nanos("of MLflow, compressed", "export/mlflow", 1_000.0),
    nanos("of AgentOps, compressed", "export/agentops", 1_000.0),
    nanos("of Weights & Biases, which takes one of sixteen", "export/wandb", 1_000.0),
    nanos("of Helicone, a score of each tool call", "export/helicone", 1_000.0),
];

pub(super) const TRACE: [Requirement; 5] = [
    nanos("parse a `traceparent`", "trace/parse", 25.0),
    nanos("format a `traceparent`", "trace/format", 25.0),
    times("read the context of a request", "trace/extract", 1.0, "trace/opentelemetry_extract"),
    times("write the headers of a request", "trace/inject", 1.0, "trace/opentelemetry_inject"),
    times("start and end a span, with its attributes", "trace/span", 1.0, "trace/opentelemetry_span"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_row_of_a_table_has_a_label_of_its_own() {
        for table in [&CORE[..], &GUARDS[..], &EXPORTERS[..], &TRACE[..]] {
            let labels: BTreeSet<&str> = table.iter().map(|requirement| requirement.what).collect();
            assert_eq!(labels.len(), table.len(), "{labels:?}");
            assert!(labels.iter().all(|label| !label.starts_with("the same")), "{labels:?}");
        }
    }
}
