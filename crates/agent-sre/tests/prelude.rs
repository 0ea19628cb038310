//! One `use` has the main types of every feature.
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use agent_sre::event::{LlmCall, TaskFinished};
use agent_sre::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

/// A program with objectives, limits, breakers and alerts.
struct Program {
    runtime: Runtime,
    slo: Arc<Slo>,
    totals: Arc<AgentTotals>,
    guard: Arc<CostGuard>,
    alerts: Arc<PersistentAlertManager>,
    _folder: tempfile::TempDir,
}

impl Program {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let alerts = Arc::new(agent_sre::alerts::open(folder.path().join("alerts.db")).unwrap());
        alerts.add_channel(CallbackChannel::new("nobody", |_| {}), ChannelConfig::default()).unwrap();
        let target: SloTarget = "95%".parse().unwrap();
        let success = TaskSuccessRate::new(target.ratio()).unwrap();
        let slo = Arc::new(Slo::new("answers", vec![Box::new(success)]).unwrap());
        let clock = Arc::new(ManualClock::new(NOW));
        let limits = Limits { per_agent_daily: "1".parse().unwrap(), ..Limits::default() };
        let guard = Arc::new(CostGuard::with_limits(limits).unwrap().with_clock(clock.clone()));
        let detector = CascadeDetector::with_config(DetectorConfig::default(), clock).unwrap();
        let totals = Arc::new(AgentTotals::new(10));
        let runtime = Runtime::builder()
            .engine(slo.clone())
            .engine(totals.clone())
            .engine(Arc::new(CostObserver::new(guard.clone())))
            .engine(Arc::new(detector))
            .alert_manager(alerts.clone())
            .build()
            .unwrap();
        Self { runtime, slo, totals, guard, alerts, _folder: folder }
    }

    /// Records 20 failed tasks, which cost more than the agent may spend a day.
    fn fail(&self) {
        for task in 0..20 {
            let mut call = LlmCall::new(Some("gpt-5".to_owned()));
            call.cost_usd = "0.06".parse().ok();
            let events = [Event::from(call), Event::from(TaskFinished::new(false))];
            for event in events {
                self.runtime.record(AgentEvent::new(NOW, "support", event).of_task(format!("task-{task}")));
            }
        }
        self.runtime.evaluate(NOW);
        assert!(self.runtime.flush(Duration::from_secs(10)));
    }
}

#[test]
fn every_engine_reaches_the_alert_manager_by_one_call() {
    let program = Program::new();
    program.fail();
    let sent = program.alerts.query_alerts(&AlertQuery::default()).unwrap();
    for engine in ["slo/", "cost/", "breaker/"] {
        assert!(sent.iter().any(|record| record.alert.dedup_key.starts_with(engine)), "an alert of {engine}");
    }
    assert_eq!(program.guard.budget("support").status, CostStatus::Killed);
    // Its metrics are those of the runtime, too.
    let mut exporter = PrometheusExporter::new();
    exporter.collect(&program.runtime, NOW).unwrap();
    assert!(exporter.render().contains("sre_alerts_total{outcome=\"sent\"}"));
    assert!(program.runtime.get::<PersistentAlertManager>().is_some());
}

#[test]
fn what_programs_read_is_json_that_can_be_read_back() {
    fn assert_round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(found: T) {
        let json = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<T>(&json).unwrap(), found, "{json}");
    }
    let program = Program::new();
    program.fail();
    let adapter = LangGraphAdapter::new(RunLimits::default(), Recorder::new(Arc::new(program.runtime)));
    adapter.on_graph_start("support").on_graph_end(true, None);
    assert_round_trip(adapter.snapshot());
    assert_round_trip(program.totals.agents());
    assert_round_trip(program.slo.snapshot_at(NOW));
    assert_round_trip(program.slo.budget().reading(NOW));
    assert_round_trip(program.slo.indicators().next().unwrap().reading(NOW));
    assert_round_trip(program.guard.summary());
    assert_round_trip(program.guard.snapshot_at(NOW));
}
