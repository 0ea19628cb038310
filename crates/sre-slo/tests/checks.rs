//! What is refused: invalid bounds, and specs that were not read from a file.

use sre_core::{RatioSeries, SliSpec, Usd, Window};
use sre_slo::{
    BudgetConfig, BudgetPolicySpec, BurnThreshold, CalendarSpec, CalibrationDelta, CostPerTask, ErrorBudget, GoodWhen,
    HallucinationRate, IndicatorSpec, PolicyCompliance, ResponseLatency, SliRegistry, Slo, SloSpec, TaskSuccessRate,
    TimeToFirstToken, ToolCallAccuracy, parse,
};

#[test]
fn indicators_refuse_bounds_that_cannot_be() {
    for target in [95.0, f64::NAN, f64::INFINITY, -1.0, 0.0] {
        assert!(TaskSuccessRate::new(target).is_err() && ToolCallAccuracy::new(target).is_err(), "{target}");
        assert!(PolicyCompliance::new(target).is_err(), "{target}");
    }
    for target in [5.0, 1.0, f64::NAN, -0.1] {
        assert!(HallucinationRate::new(target).is_err() && CalibrationDelta::new(target).is_err(), "{target}");
    }
    for (target, percentile) in [(2000.0, 95.0), (2000.0, f64::NAN), (0.0, 0.95), (f64::INFINITY, 0.95)] {
        assert!(ResponseLatency::new(target, percentile).is_err(), "{target} {percentile}");
        assert!(TimeToFirstToken::new(target, percentile).is_err(), "{target} {percentile}");
    }
    let error = CostPerTask::new(Usd::from_nanos(-5_000_000_000)).unwrap_err().to_string();
    assert_eq!(error, "`cost_per_task`: `target`: found -5, expected a finite number of at least 0");
}

#[test]
fn invalid_samples_are_dropped_and_counted() {
    let cost = CostPerTask::default();
    cost.record_cost(Usd::from_nanos(-5_000_000_000));
    assert_eq!((cost.current_value(), cost.current().dropped), (None, 1));
    let quality = HallucinationRate::default();
    quality.record_evaluation(false, f64::NAN);
    assert_eq!((quality.current_value(), quality.current().dropped), (None, 1));
    let calibration = CalibrationDelta::default();
    calibration.record_prediction(f64::NAN, true);
    assert_eq!((calibration.current_value(), calibration.current().dropped), (None, 1));
    let latency = ResponseLatency::default();
    latency.record_latency(-1.0);
    assert_eq!((latency.current_value(), latency.current().dropped), (None, 1));
}

fn build(spec: SloSpec) -> Result<Slo, String> {
    let spec = SloSpec { name: "answers".into(), target: "0.9".parse().ok(), ..spec };
    Slo::from_spec(&spec, "support", &SliRegistry::default()).map_err(|error| error.to_string())
}

#[test]
fn a_hand_built_spec_is_checked_like_one_from_a_file() {
    let policy = |policy| SloSpec { error_budget_policy: Some(policy), ..Default::default() };
    let threshold = BurnThreshold::new(2.0, sre_core::Severity::Warning, Window::HOUR);
    let named = |name: &str| IndicatorSpec { name: Some(name.into()), ..IndicatorSpec::new("response_latency") };
    for (spec, expected) in [
        (
            policy(BudgetPolicySpec { policy: Some("mine".into()), ..Default::default() }),
            "`answers`: `error_budget_policy.policy`: found mine, expected sre-workbook",
        ),
        (
            policy(BudgetPolicySpec {
                policy: Some("sre-workbook".into()),
                thresholds: vec![threshold],
                ..Default::default()
            }),
            "found both `policy` and `thresholds`",
        ),
        (policy(BudgetPolicySpec { significance: Some(f64::NAN), ..Default::default() }), "`significance`: found NaN"),
        (
            SloSpec { calendar: Some(CalendarSpec { period: "often".into(), ..calendar() }), ..Default::default() },
            "`calendar.period`: found often",
        ),
        (SloSpec { inherits_from: Some("base".into()), ..Default::default() }, "`inherits_from`: found base"),
        (
            SloSpec {
                good_when: Some(GoodWhen { max_duration_ms: Some(f64::NAN), ..Default::default() }),
                ..Default::default()
            },
            "`good_when.max_duration_ms`: found NaN",
        ),
        (
            SloSpec { indicators: vec![named("p95"), named("p95")], ..Default::default() },
            "`indicators[1].name`: found p95",
        ),
        (SloSpec { indicators: vec![IndicatorSpec::new("speed")], ..Default::default() }, "`type`: found `speed`"),
    ] {
        let error = build(spec).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
    assert!(build(SloSpec { calendar: Some(calendar()), ..Default::default() }).is_ok());
}

fn calendar() -> CalendarSpec {
    CalendarSpec { start: "2026-01-01 00:00:00".into(), time_zone: "UTC".into(), period: "1M".into() }
}

#[test]
fn a_child_inherits_the_fields_of_the_policy_that_it_does_not_set() {
    let yaml = "
name: base
target: 0.9
error_budget_policy: {policy: sre-workbook, min_bad: 5, exhaustion_action: freeze_deployments}
---
name: child
inherits_from: base
error_budget_policy: {expected_events: 1000}
---
name: own
inherits_from: base
error_budget_policy: {thresholds: [{rate: 3, severity: warning}]}
";
    let specs = parse(yaml, "slos.yaml", &SliRegistry::default()).unwrap();
    let policy = |index: usize| specs[index].error_budget_policy.clone().unwrap();
    assert_eq!(policy(1), BudgetPolicySpec { expected_events: Some(1000), ..policy(0) });
    let thresholds = policy(2).thresholds.clone();
    assert_eq!((thresholds.len(), policy(2).policy.clone()), (1, None), "thresholds replace the named policy");
    assert_eq!(policy(2), BudgetPolicySpec { thresholds, policy: None, ..policy(0) });
}

#[test]
fn two_indicators_of_one_type_have_names_of_their_own() {
    let yaml = "
name: answers
target: 0.9
indicators:
  - {type: response_latency, target_ms: 2000}
  - {type: response_latency, target_ms: 5000, percentile: 0.99}
  - {type: response_latency, target_ms: 2000, window: 24h}
  - {type: response_latency, name: slowest, target_ms: 60000, percentile: 1}
";
    let registry = SliRegistry::default();
    let specs = parse(yaml, "slos.yaml", &registry).unwrap();
    let slo = Slo::from_spec(&specs[0], "support", &registry).unwrap();
    let names: Vec<String> = slo.indicator_summary().into_iter().map(|indicator| indicator.name).collect();
    assert_eq!(names, ["response_latency", "response_latency_1h", "response_latency_24h", "slowest"]);
    let error = parse(
        "name: x\ntarget: 0.9\nindicators: [{type: steps_per_task, name: a}, {type: cost_per_task, name: a}]",
        "x.yaml",
        &registry,
    );
    let message =
        "x.yaml:1: `indicators[1].name`: found a, expected a name that no other indicator of the objective has";
    assert_eq!(error.unwrap_err().to_string(), message);
}

#[test]
fn a_budget_that_was_consumed_before_says_so_without_events() {
    let budget =
        |consumed| ErrorBudget::new(BudgetConfig { total: Some(0.1), consumed, ..Default::default() }).unwrap();
    assert_eq!((budget(0.4).consumed(), budget(0.4).remaining()), (Some(0.4), Some(0.6)));
    assert_eq!((budget(0.0).consumed(), budget(0.4).is_exhausted()), (None, false));
    assert!(budget(1.0).is_exhausted());
}

#[test]
fn a_custom_type_may_have_parameters_of_text_and_flags() {
    let mut registry = SliRegistry::default();
    registry.register_type("refusals", |params| {
        let name = params.text("label", "refusals")?;
        let target = params.share("target", 0.1)? / if params.flag("strict", false)? { 10.0 } else { 1.0 };
        let spec = SliSpec::ratio_at_most(name, target, params.window(Window::DAY)?)?;
        Ok(Box::new(std::sync::Arc::new(Refusals(RatioSeries::new(spec)))))
    });
    let yaml = "name: x\nindicators: [{type: refusals, label: declined, target: 5%, strict: true}]";
    let spec = parse(yaml, "x.yaml", &registry).unwrap().remove(0);
    let slo = Slo::from_spec(&spec, "a", &registry).unwrap();
    assert_eq!((slo.indicator_summary()[0].name.as_str(), slo.budget().config().total), ("declined", Some(0.005)));
    let error = parse("name: x\nindicators: [{type: refusals, strict: perhaps}]", "x.yaml", &registry).unwrap_err();
    assert_eq!(error.to_string(), "x.yaml:2: `indicators[0].strict: perhaps`: expected true or false");
    let of_type = registry.sli_type("refusals").unwrap();
    assert_eq!(of_type.create(&Default::default()).unwrap().spec().target, 0.1);
    assert!(registry.sli_type("nothing").is_none());
    assert_eq!(registry.get_type("refusals").unwrap().name(), of_type.name());
}

struct Refusals(RatioSeries);

impl sre_core::Sli for Refusals {
    fn spec(&self) -> &SliSpec {
        self.0.spec()
    }

    fn reading(&self, now: sre_core::Timestamp) -> sre_core::SliReading {
        self.0.reading(now)
    }

    fn observe(&self, _: &sre_core::AgentEvent) {}
}
