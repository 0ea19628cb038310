//! One `use` has the main types of every feature.
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use agent_sre::CostAlertKind;
use agent_sre::event::{LlmCall, TaskFinished};
use agent_sre::prelude::*;
use agent_sre::{SpanId, TraceId};
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
        let alerts = Arc::new(PersistentAlertManager::open(folder.path().join("alerts.db")).unwrap());
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

#[test]
fn settings_serialize_in_the_form_of_their_files() {
    let researcher = ScopeLimits { per_agent_daily: "250".parse().ok(), ..ScopeLimits::default() };
    let limits = Limits {
        per_task: "1.5".parse().unwrap(),
        throttle_every: Duration::from_secs(90),
        agents: [("researcher".to_owned(), researcher)].into(),
        ..Limits::default()
    };
    // JSON is YAML.
    let json = serde_json::to_string(&limits).unwrap();
    assert_eq!(Limits::parse(&json, "limits.json").unwrap(), limits, "{json}");
    let window = SlidingWindow { size: WindowSize::Time(Duration::from_secs(60)), ..SlidingWindow::default() };
    for window in [None, Some(window), Some(SlidingWindow::default())] {
        let breaker = BreakerConfig { failure_threshold: 3, recovery_jitter: 0.25, window, ..BreakerConfig::default() };
        let json = serde_json::to_string(&breaker).unwrap();
        assert_eq!(DetectorConfig::parse(&json, "breakers.json").unwrap().tool, breaker, "{json}");
    }
}

#[test]
fn the_cost_of_a_task_serializes_by_field() {
    let guard = CostGuard::new().with_clock(Arc::new(ManualClock::new(NOW)));
    guard.record_cost("support", "4711", "0.5".parse().unwrap(), &[("gpt-5", "0.4".parse().unwrap())]).unwrap();
    let cost: TaskCost = guard.task("support", "4711").unwrap();
    let expected = serde_json::json!({
        "agent": "support", "task": "4711", "spent_usd": "0.5", "breakdown": {"gpt-5": "0.4"}, "last_at": NOW,
    });
    assert_eq!(serde_json::to_value(&cost).unwrap(), expected);
}

#[test]
fn dictionaries_have_exactly_the_fields_of_the_python_package() {
    let has = |dict: &serde_json::Value, at: &str, fields: &str| {
        let found: BTreeSet<&str> = dict.pointer(at).unwrap().as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(found, fields.split(' ').collect(), "{at} of {dict}");
    };
    let program = Program::new();
    program.fail();
    let slo = program.slo.to_dict();
    has(&slo, "", "name description status labels error_budget indicators");
    let budget = "total consumed remaining_percent is_exhausted burn_rate exhaustion_action firing_alerts";
    has(&slo, "/error_budget", budget);
    has(&program.slo.budget().to_dict(), "", budget);
    has(&slo, "/indicators/0", "name target window current_value compliance measurement_count");
    let summary = program.guard.summary().to_dict();
    has(&summary, "", "org_monthly_budget org_spent_month org_remaining_month total_records total_alerts agents");
    let agent = "agent_id daily_limit_usd per_task_limit_usd spent_today_usd remaining_today_usd utilization_percent \
                 task_count_today avg_cost_per_task throttled killed";
    has(&summary, "/agents/support", agent);
    let killed =
        program.guard.alerts().into_iter().find(|alert| alert.kind == CostAlertKind::Killed).unwrap().to_dict();
    has(&killed, "", "severity message agent_id current_value threshold action");
    assert_eq!((&killed["severity"], &killed["action"]), (&"critical".into(), &"kill".into()));
    let task = program.guard.task("support", "task-0").unwrap().to_dict();
    has(&task, "", "agent_id task_id cost_usd timestamp breakdown");
    let alert = &program.alerts.query_alerts(&AlertQuery::default()).unwrap()[0].alert;
    has(&alert.to_dict(), "", "title message severity source agent_id slo_name timestamp metadata");
}

#[test]
fn a_dictionary_of_a_budget_has_its_numbers() {
    let slo = Slo::new("answers", vec![Box::new(TaskSuccessRate::new(0.5).unwrap())]).unwrap();
    (0..40).for_each(|event| slo.record_event(event % 4 != 0));
    let expected = serde_json::json!({
        "total": 0.5, "consumed": 0.5, "remaining_percent": 50.0, "is_exhausted": false, "burn_rate": 0.5,
        "exhaustion_action": "alert", "firing_alerts": [],
    });
    assert_eq!(slo.budget().to_dict(), expected);
    (0..400).for_each(|_| slo.record_event(false));
    let spent = slo.budget().to_dict();
    assert_eq!((&spent["is_exhausted"], &spent["remaining_percent"]), (&true.into(), &0.0.into()));
}

#[test]
fn every_parse_error_is_an_error() {
    fn is_error<T: FromStr<Err: Error + Send + Sync + 'static>>() {}
    is_error::<EventKind>();
    is_error::<Format>();
    is_error::<Matcher>();
    is_error::<SloTarget>();
    is_error::<SpanId>();
    is_error::<Timestamp>();
    is_error::<TraceId>();
    is_error::<Usd>();
    is_error::<Window>();
    is_error::<agent_sre::otlp::Protocol>();
}
