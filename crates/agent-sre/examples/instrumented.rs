//! An agent with manual instrumentation: its runs count toward an objective, and a signal handler prints status
//! changes.
//!
//! `cargo run --example instrumented --features langgraph`

use std::sync::Arc;

use agent_sre::langgraph::LangGraphAdapter;
use agent_sre::slo::{SliRegistry, SloEngine, parse};
use agent_sre::{
    Clock, Collect, LlmUsage, Recorder, RunLimits, Runtime, Signal, SignalKind, SloStatusChange, Snapshot, SystemClock,
};

const OBJECTIVE: &str = "
name: answers
target: 90%
indicators:
  - type: task_success_rate
    target: 0.9
  - type: cost_per_task
    target_usd: 0.05
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = SliRegistry::default();
    let engine = SloEngine::new(parse(OBJECTIVE, "answers.yaml", &registry)?, registry)?;
    let print = |signal: &Signal| {
        if let SignalKind::SloStatusChanged(SloStatusChange { from, to, .. }) = &signal.kind {
            println!("{} of {}: {from} → {to}", signal.slo, signal.agent);
        }
    };
    let runtime = Arc::new(Runtime::builder().engine(Arc::new(engine)).handle("screen", Arc::new(print)).build()?);
    let adapter = LangGraphAdapter::new(RunLimits::default(), Recorder::new(runtime.clone()));
    for question in 0..40 {
        answer(&adapter, question);
        runtime.evaluate(SystemClock.now());
    }
    println!("{:?}", adapter.snapshot());
    for snapshot in runtime.snapshots(SystemClock.now()) {
        if let Snapshot::Slo(slo) = snapshot {
            println!(
                "{}: {} good, {} bad, {:?} of the budget left",
                slo.name, slo.good, slo.bad, slo.error_budget.remaining
            );
        }
    }
    Ok(())
}

/// The agent, which fails from question 20 on.
fn answer(adapter: &LangGraphAdapter, question: u32) {
    let mut run = adapter.on_graph_start("support");
    run.on_node_start("answer");
    run.on_llm_call(LlmUsage { input_tokens: 400, output_tokens: 80, cost_usd: "0.012".parse().ok() });
    run.on_tool_call("search", None);
    run.on_node_end("answer", None);
    let error = (question >= 20).then_some("the model is overloaded");
    run.on_graph_end(error.is_none(), error);
}
