//! Indicators of a user's own.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use sre_core::event::TaskFinished;
use sre_core::{
    AgentEvent, Counts, Event, EventKind, ExhaustionAction, IndicatorSnapshot, RatioSeries, SignalKind, Sli,
    SliReading, SliSpec, Status, Timestamp, Window,
};
use sre_slo::{
    BudgetConfig, BurnPolicy, ErrorBudget, GoodWhen, PolicyCompliance, ResponseLatency, Slo, TaskSuccessRate,
};

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

/// Ratio of tasks that the model refused: the fifteen lines of the documentation.
struct RefusalRate(RatioSeries);

impl Sli for RefusalRate {
    fn spec(&self) -> &SliSpec {
        self.0.spec()
    }

    fn reading(&self, now: Timestamp) -> SliReading {
        self.0.reading(now)
    }

    fn counts(&self, window: Window, now: Timestamp) -> Option<Counts> {
        Some(self.0.counts(window, now))
    }

    fn observe(&self, event: &AgentEvent) {
        if let Event::TaskFinished(task) = &event.event {
            self.0.record(event.time, task.error.as_deref() == Some("refused"));
        }
    }
}

fn refusal_rate(name: &str) -> RefusalRate {
    RefusalRate(RatioSeries::new(SliSpec::ratio_at_most(name, 0.02, Window::DAY).unwrap()))
}

/// Ratio of tasks that succeeded, under another name than the built-in one.
struct Answered(RatioSeries);

impl Sli for Answered {
    fn spec(&self) -> &SliSpec {
        self.0.spec()
    }

    fn reading(&self, now: Timestamp) -> SliReading {
        self.0.reading(now)
    }

    fn counts(&self, window: Window, now: Timestamp) -> Option<Counts> {
        Some(self.0.counts(window, now))
    }

    fn cover(&self, shortest: Window, longest: Window) {
        self.0.cover(shortest, longest);
    }

    fn counts_outcomes_of(&self) -> Option<EventKind> {
        Some(EventKind::TaskFinished)
    }

    fn observe(&self, event: &AgentEvent) {
        if let Event::TaskFinished(task) = &event.event {
            self.0.record(event.time, task.success);
        }
    }
}

fn answered() -> Answered {
    Answered(RatioSeries::new(SliSpec::ratio_at_least("answered", 0.9, Window::DAY).unwrap()))
}

fn finished(at: Timestamp, is_refused: bool) -> AgentEvent {
    let mut task = TaskFinished::new(!is_refused);
    task.error = is_refused.then(|| "refused".to_owned());
    AgentEvent::new(at, "support", task)
}

#[test]
fn a_custom_ratio_alerts_like_a_built_in_one() {
    let refusals = refusal_rate("refusal_rate");
    let slo = Slo::new("answers", vec![Box::new(TaskSuccessRate::new(0.5).unwrap()), Box::new(refusals)]).unwrap();
    for task in 0..100 {
        let mut event = finished(NOW, task % 10 == 0);
        if let Event::TaskFinished(task) = &mut event.event {
            // A refusal is no failure here.
            task.success = true;
        }
        slo.observe(&event);
    }
    let snapshot = slo.snapshot_at(NOW);
    // The whole budget of the indicator is consumed five times over, which alone is critical.
    assert_eq!((snapshot.status, snapshot.budget_status), (Status::Critical, Status::Healthy));
    assert_eq!(snapshot.indicators[1].error_budget.unwrap().consumed, Some(5.0));
}

/// Also one that the program holds too, by an `Arc`, and that several objectives share.
#[test]
fn a_custom_ratio_is_exact_over_the_windows_of_every_objective_that_has_it() {
    let mut rng = Rng::with_seed(7);
    let shared = Arc::new(refusal_rate("refusal_rate"));
    let over = |days: u64| {
        let slo = Slo::new(format!("answers-{days}"), vec![Box::new(shared.clone())]).unwrap();
        let config = BudgetConfig { total: Some(0.02), window: Window::days(days), ..Default::default() };
        slo.with_budget(ErrorBudget::new(config).unwrap())
    };
    let slos = [over(70), over(400), over(90)];
    let mut times: Vec<(i64, bool)> = (0..30_000).map(|_| (rng.i64(0..450 * 86_400), rng.u8(..10) == 0)).collect();
    times.sort_unstable();
    let start = NOW.as_secs() - 450 * 86_400;
    times
        .iter()
        .for_each(|(second, is_refused)| shared.observe(&finished(Timestamp::from_secs(start + second), *is_refused)));
    for (slo, days) in slos.iter().zip([70_u32, 400, 90]) {
        let found = slo.snapshot_at(NOW).indicators[0].error_budget.unwrap().consumed.unwrap();
        let consumed = |days: f64| {
            let from = 450.0 * 86_400.0 - days * 86_400.0;
            let inside: Vec<bool> =
                times.iter().filter(|(second, _)| *second as f64 >= from).map(|(_, bad)| *bad).collect();
            inside.iter().filter(|bad| **bad).count() as f64 / inside.len() as f64 / 0.02
        };
        let exact = consumed(f64::from(days));
        assert!((found / exact - 1.0).abs() < 0.02, "{found} over {days} days, expected {exact}");
        let counts = shared.counts(Window::days(days.into()), NOW).unwrap().total();
        let expected = times.iter().filter(|(second, _)| *second >= (450 - i64::from(days)) * 86_400).count() as f64;
        assert!((counts as f64 / expected - 1.0).abs() < 0.015, "{counts} over {days} days, expected {expected}");
    }
}

#[test]
fn a_short_window_is_exact_in_an_indicator_that_passes_it_on() {
    let shared = Arc::new(answered());
    let slo = Slo::new("answers", vec![Box::new(shared.clone())]).unwrap();
    let mut policy = BurnPolicy::standard();
    policy.thresholds[0].window = "12s".parse().unwrap();
    let config = BudgetConfig { total: Some(0.2), policy, ..Default::default() };
    let _slo = slo.with_budget(ErrorBudget::new(config).unwrap());
    let at = |millis: u64| NOW.saturating_add(Duration::from_millis(millis));
    (0..1_000).for_each(|event| shared.observe(&finished(at(event * 10), true)));
    let found = shared.counts("1s".parse().unwrap(), at(9_990)).unwrap().total();
    assert!((99..=102).contains(&found), "{found} of 100");
}

#[test]
fn an_indicator_shares_the_budget_by_what_it_counts_whatever_its_name() {
    let shares = |indicator: Box<dyn Sli>, event: EventKind| {
        let config = BudgetConfig { total: Some(0.01), ..Default::default() };
        let slo = Slo::new("answers", vec![indicator]).unwrap().with_budget(ErrorBudget::new(config).unwrap());
        let slo = slo.with_good_when(GoodWhen { event, ..GoodWhen::default() });
        slo.snapshot_at(NOW).indicators[0].shares_budget
    };
    let task = EventKind::TaskFinished;
    assert!(shares(Box::new(answered()), task));
    assert!(shares(Box::new(Arc::new(answered())), task));
    assert!(!shares(Box::new(refusal_rate("task_success_rate")), task), "only the name is that of the built-in one");
    assert!(!shares(Box::new(answered()), EventKind::ToolCall), "the objective counts other events");
    let compliance = || Box::new(PolicyCompliance::new(0.99).unwrap());
    assert!(shares(compliance(), EventKind::PolicyCheck));
    assert!(!shares(compliance(), task));
}

#[test]
fn a_shared_budget_is_shown_at_its_indicator_and_named_in_signals() {
    let slo = burning();
    let snapshot = slo.snapshot_at(NOW);
    let [own, latency] = &snapshot.indicators[..] else { panic!("two indicators") };
    let of = |indicator: &IndicatorSnapshot| {
        (indicator.error_budget, indicator.burn_rates.clone(), indicator.alerts.clone(), indicator.shares_budget)
    };
    let objective = (Some(snapshot.error_budget), snapshot.burn_rates.clone(), snapshot.alerts.clone(), true);
    assert_eq!((of(own), latency.shares_budget), (objective, false));
    assert_eq!(snapshot.budget_indicator(), Some("answered"));
    let signal = snapshot.status_changed(Status::Healthy, ExhaustionAction::Alert, NOW);
    assert!(signal.message.starts_with("The error budget of answered is burning too fast."), "{}", signal.message);
    let SignalKind::SloStatusChanged(change) = signal.kind else { panic!("{:?}", signal.kind) };
    assert_eq!(change.indicator.as_deref(), Some("answered"));
    // Its metrics are those of the objective, once.
    let mut names = Vec::new();
    snapshot.metrics(&mut |metric| {
        names.push((metric.name.to_string(), metric.labels.iter().any(|(_, value)| value == "answered")));
    });
    assert!(names.iter().any(|(name, _)| name == "sre.slo.alert_firing"));
    assert!(!names.contains(&("sre.indicator.alert_firing".to_owned(), true)), "{names:?}");
}

/// Creates an objective whose budget is that of `answered`, and that has a latency, too.
fn answers() -> Slo {
    let indicators: Vec<Box<dyn Sli>> =
        vec![Box::new(answered()), Box::new(ResponseLatency::new(2_000.0, 0.95).unwrap())];
    Slo::new("answers", indicators).unwrap().for_agent("support")
}

/// Creates an objective whose budget burns at five but is not spent.
fn burning() -> Slo {
    let slo = answers();
    let before = NOW.saturating_sub(Duration::from_secs(86_400));
    (0..1_000).for_each(|_| slo.observe(&finished(before, false)));
    (0..100).for_each(|task| slo.observe(&finished(NOW, task % 2 == 0)));
    slo
}

#[test]
fn a_signal_has_the_numbers_of_the_indicator_that_alone_is_to_blame() {
    let slo = answers();
    for _ in 0..100 {
        let mut task = TaskFinished::new(true);
        task.duration_ms = Some(5_000.0);
        slo.observe(&AgentEvent::new(NOW, "support", task));
    }
    let signal = slo.snapshot_at(NOW).status_changed(Status::Healthy, ExhaustionAction::Alert, NOW);
    let SignalKind::SloStatusChanged(change) = signal.kind else { panic!("{:?}", signal.kind) };
    assert_eq!(change.indicator.as_deref(), Some("response_latency"));
    assert_eq!(change.burn.map(|burn| (burn.rate, burn.bad)), Some((Some(20.0), 100)));
    assert_eq!((change.alert.map(|alert| alert.firing), change.spent_in_s), (Some(true), Some(0.0)));
    assert_eq!(change.consumed, Some(0.0), "that of the objective's budget");
}
