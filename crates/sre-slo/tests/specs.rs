//! Objectives as text: parsing, error messages and round trips.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use sre_core::{EventKind, Severity, Usd, Window};
use sre_slo::{
    BudgetPolicySpec, BurnThreshold, CalendarSpec, ChangeKind, ExhaustionAction, GoodWhen, IndicatorSpec, SCHEMA,
    SliRegistry, Slo, SloSpec, SloTarget, TimeSlices, diff, from_openslo, parse, to_openslo, to_yaml,
};

fn read(yaml: &str) -> Result<Vec<SloSpec>, String> {
    parse(yaml, "slos/support.yaml", &SliRegistry::default()).map_err(|error| error.to_string())
}

const WHOLE: &str = r#"
name: answers
description: Tasks succeed.
service: support
target: 95%
window: 7d
indicators:
  - type: task_success_rate
    target: 0.95
  - type: response_latency
    target_ms: 5000
    percentile: 0.99
    window: 1h
  - type: cost_per_task
    target_usd: "0.25"
  - {type: delegation_chain_depth, max_depth: 2}
good_when: {event: task_finished, success: true, max_duration_ms: 9000, max_cost_usd: 0.5}
error_budget_policy:
  thresholds:
    - {rate: 3, severity: warning, window: 6h}
    - {rate: 12, severity: critical}
  min_events: 30
  expected_events: 1000
  exhaustion_action: throttle
calendar: {start: "2026-01-01 00:00:00", time_zone: Europe/Berlin, period: 1M}
time_slices: {window: 1m, target: 99%}
labels: {team: platform, tier: 1}
"#;

/// The official SDK reads a list of documents too.
#[test]
fn openslo_documents_may_be_a_list() {
    let registry = SliRegistry::default();
    let specs =
        parse("name: answers\nindicators: [{type: task_success_rate, target: 0.9}]\n", "x.yaml", &registry).unwrap();
    let documents = to_openslo(&specs);
    let list: String = documents
        .split("---\n")
        .map(|document| {
            let indented: Vec<String> = document.lines().map(|line| format!("  {line}\n")).collect();
            indented.concat().replacen("  ", "- ", 1)
        })
        .collect();
    let from_list = parse(&list, "list.yaml", &registry).unwrap();
    assert_eq!(from_list[0].indicators, specs[0].indicators);
}

#[test]
fn every_field_is_read() {
    let spec = read(WHOLE).unwrap().remove(0);
    assert_eq!((spec.target.unwrap().ratio(), spec.window), (0.95, Some(Window::WEEK)));
    assert_eq!(spec.indicators.len(), 4);
    assert_eq!(spec.indicators[2].params["target_usd"], "0.25");
    let good_when = spec.good_when.unwrap();
    assert_eq!((good_when.success, good_when.max_duration_ms), (Some(true), Some(9000.0)));
    assert_eq!(good_when.max_cost_usd, Some(Usd::from_nanos(500_000_000)));
    let policy = spec.error_budget_policy.unwrap();
    assert_eq!(policy.thresholds[0], BurnThreshold::new(3.0, Severity::Warning, Window::hours(6)));
    assert_eq!(policy.exhaustion_action, Some(ExhaustionAction::Throttle));
    assert_eq!(spec.labels["tier"], "1");
}

#[test]
fn an_invalid_field_is_named_with_its_line() {
    for (yaml, error) in [
        (
            "name: x\nwindow: 30x\ntarget: 0.9\n",
            "slos/support.yaml:2: `window: 30x`: expected a duration such as 5m, 6h or 30d",
        ),
        (
            "name: x\ntarget: 101\n",
            "slos/support.yaml:2: `target: 101`: expected a ratio such as 0.95, or a percentage such as 95 or `95%`",
        ),
        ("name: x\ntarget: 0.9\n\nwindoww: 5m\n", "slos/support.yaml:4: `windoww`: unknown field"),
        (
            "name: x\nindicators:\n  - type: task_success_rate\n    target: 2%%\n",
            "slos/support.yaml:4: `indicators[0].target: 2%%`",
        ),
        (
            "name: x\nindicators:\n  - type: task_success_rate\n    targett: 1\n",
            "slos/support.yaml:4: `indicators[0].targett`: unknown field, expected one of type, name, informational, target, window",
        ),
        ("name: x\nindicators:\n  - type: nonsense\n", "slos/support.yaml:3: `indicators[0].type: nonsense`"),
        ("name: x\ntarget: 0.9\ngood_when:\n  event: heartbeat\n", "slos/support.yaml:4: `good_when.event: heartbeat`"),
        (
            "name: x\ntarget: 0.9\nerror_budget_policy:\n  thresholds:\n    - rate: -1\n      severity: warning\n",
            "slos/support.yaml:5: `error_budget_policy.thresholds[0].rate: -1`",
        ),
        (
            "name: x\ntarget: 0.9\nerror_budget_policy:\n  policy: mine\n",
            "slos/support.yaml:4: `error_budget_policy.policy: mine`: expected sre-workbook",
        ),
        ("target: 0.9\n", "slos/support.yaml:1: found no `name`"),
        ("name: x\ntarget: [1\n", "slos/support.yaml:"),
        (
            "name: x\ntarget: 0.9\n---\nname: x\ntarget: 0.9\n",
            "slos/support.yaml:4: `name: x`: found a second objective with this name (the first is at slos/support.yaml:1)",
        ),
        ("name: x\n", "slos/support.yaml:1: `x`: found neither `target` nor `indicators`"),
        ("- a\n- b\n", "slos/support.yaml:1: the document: found a list, expected a mapping"),
    ] {
        let found = read(yaml).unwrap_err();
        assert!(found.contains(error), "{yaml}\nfound    {found}\nexpected {error}");
    }
}

#[test]
fn a_child_inherits_missing_fields() {
    let yaml = "
name: base
target: 0.9
window: 7d
labels: {team: a, tier: gold}
indicators: [{type: task_success_rate}]
---
name: child
inherits_from: middle
target: 0.99
---
name: middle
inherits_from: base
labels: {tier: silver}
";
    let specs = read(yaml).unwrap();
    let child = &specs[1];
    assert_eq!((child.target.unwrap().ratio(), child.window), (0.99, Some(Window::WEEK)));
    assert_eq!(child.labels, BTreeMap::from([("team".into(), "a".into()), ("tier".into(), "silver".into())]));
    assert_eq!(child.indicators.len(), 1);
    let error = read("name: a\ninherits_from: b\n---\nname: b\ninherits_from: a\n").unwrap_err();
    assert!(error.contains("cycle"), "{error}");
    let error = read("name: a\ninherits_from: nobody\ntarget: 0.9\n").unwrap_err();
    assert!(
        error.starts_with("slos/support.yaml:2: `inherits_from: nobody`: found no objective with this name"),
        "{error}"
    );
}

#[test]
fn the_budget_comes_from_the_target_or_the_strictest_ratio_of_its_own_events() {
    let total = |yaml: &str| {
        let spec = read(yaml).unwrap().remove(0);
        Slo::from_spec(&spec, "a", &SliRegistry::default()).unwrap().budget().config().total
    };
    assert_eq!(
        total("name: x\nindicators: [{type: task_success_rate, target: 0.9}, {type: policy_compliance, target: 0.99}]"),
        Some(0.1),
        "policy checks are no tasks"
    );
    assert_eq!(total("name: x\nindicators: [{type: policy_compliance, target: 0.99}]"), Some(0.01));
    assert_eq!(total("name: x\ntarget: 0.9\nindicators: [{type: task_success_rate, target: 0.99}]"), Some(0.1));
    assert_eq!(total("name: x\ntarget: 0.9\nindicators: [{type: tool_call_accuracy}]"), Some(0.1));
    assert_eq!(total("name: x\nindicators: [{type: response_latency}, {type: cost_per_task}]"), None);
    assert_eq!(
        total("name: x\ntarget: 0.9\nindicators: [{type: task_success_rate}]"),
        Some(0.1),
        "takes the objective's target"
    );
    assert_eq!(total("name: x\nindicators: [{type: task_success_rate}]"), Some(0.005));
}

#[test]
fn the_schema_and_the_parser_agree() {
    sre_testkit::conformance::schema(SCHEMA, &[WHOLE], &["/indicators"], &|text| read(text).map(drop));
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&serde_json::to_value(&read(WHOLE).unwrap()[0]).unwrap()));
    assert!(!validator.is_valid(&json!({"name": "x", "window": "30x"})));
    let types = schema["$defs"]["indicator"]["properties"]["type"]["examples"].as_array().unwrap();
    let mut types: Vec<&str> = types.iter().filter_map(Value::as_str).collect();
    types.sort_unstable();
    assert_eq!(types, SliRegistry::default().types().collect::<Vec<_>>());
}

#[test]
fn changes_are_classified() {
    let change = |from: &str, to: &str| {
        let version = |field: &str| read(&format!("name: x\nservice: s\ntarget: 0.9\n{field}\n")).unwrap();
        diff(&version(from), &version(to)).into_iter().map(|change| (change.field, change.kind)).collect::<Vec<_>>()
    };
    use ChangeKind::{Breaking, Loosened, Neutral, Tightened};
    for (from, to, field, kind) in [
        ("", "description: new", "description", Neutral),
        ("window: 7d", "window: 30d", "window", Breaking),
        ("good_when: {event: tool_call}", "", "good_when.event", Breaking),
        ("good_when: {max_duration_ms: 10}", "good_when: {max_duration_ms: 20}", "good_when.max_duration_ms", Loosened),
        ("", "error_budget_policy: {policy: sre-workbook}", "error_budget_policy.thresholds", Tightened),
        (
            "indicators: [{type: response_latency, target_ms: 100}]",
            "indicators: [{type: response_latency, target_ms: 50}]",
            "indicators.response_latency.target_ms",
            Tightened,
        ),
        (
            "indicators: [{type: task_success_rate, target: 95%}]",
            "indicators: [{type: task_success_rate, target: 0.9}]",
            "indicators.task_success_rate.target",
            Loosened,
        ),
        (
            "indicators: [{type: hallucination_rate, target: 0.05}]",
            "indicators: [{type: hallucination_rate, target: 0.01}]",
            "indicators.hallucination_rate.target",
            Tightened,
        ),
        ("indicators: [{type: cost_per_task}]", "", "indicators.cost_per_task", Breaking),
        ("", "indicators: [{type: cost_per_task}]", "indicators.cost_per_task", Tightened),
    ] {
        assert_eq!(change(from, to), [(field.to_owned(), kind)], "{from} → {to}");
    }
    let [old, new] = ["name: x\ntarget: 0.9\n", "name: x\ntarget: 0.99\n---\nname: y\ntarget: 0.9\n"]
        .map(|yaml| read(yaml).unwrap());
    let kinds = |changes: Vec<sre_slo::Change>| changes.into_iter().map(|change| change.kind).collect::<Vec<_>>();
    assert_eq!(kinds(diff(&old, &new)), [Tightened, Tightened]);
    assert_eq!(kinds(diff(&new, &old)), [Loosened, Breaking]);
    assert!(diff(&new, &new).is_empty());
}

/// The two examples in the repository of the OpenSLO specification.
#[test]
fn openslo_of_another_system_is_preserved_and_reported_as_not_evaluated() {
    for (file, names) in [
        ("occurences-slo.yaml", &["search-slo"][..]),
        ("timeslices-slo.yaml", &["service-availability-internal-objective", "service-availability-sla"]),
    ] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openslo").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        let registry = SliRegistry::default();
        let specs = from_openslo(&text, file, &registry).unwrap();
        assert_eq!(specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>(), names);
        let slo = Slo::from_spec(&specs[0], "a", &registry).unwrap();
        let snapshot = slo.snapshot_at(sre_core::Timestamp::default());
        assert_eq!(snapshot.not_evaluable.len(), 1);
        assert!(snapshot.not_evaluable[0].contains("metric source `Any`"), "{:?}", snapshot.not_evaluable);
        let document = |text: &str| serde_saphyr::from_str::<Value>(text).unwrap();
        assert_eq!(document(&to_openslo(&specs)), document(&text), "{file} goes back as it came");
        assert_eq!(read(&to_yaml(&specs)).unwrap(), specs, "{file} survives our own YAML");
    }
}

#[test]
fn time_slices_and_calendar_windows_of_openslo_are_evaluated() {
    let text = "
apiVersion: openslo/v1
kind: SLO
metadata: {name: answers}
spec:
  service: support
  indicator: {metadata: {name: sli}, spec: {ratioMetric: {good: {metricSource: {type: agent-sre, spec: {indicators: []}}}}}}
  timeWindow: [{duration: 1M, isRolling: false, calendar: {startTime: 2026-01-01 00:00:00, timeZone: UTC}}]
  budgetingMethod: Timeslices
  objectives: [{target: 0.5, timeSliceTarget: 0.9, timeSliceWindow: 1m}]
";
    let registry = SliRegistry::default();
    let specs = from_openslo(text, "x.yaml", &registry).unwrap();
    let slo = Slo::from_spec(&specs[0], "support", &registry).unwrap();
    let task = |time: &str, success: bool| {
        let event = sre_core::event::TaskFinished::new(success);
        slo.observe(&sre_core::AgentEvent::new(time.parse().unwrap(), "support", event));
    };
    task("2026-01-31T23:58:00Z", false);
    for (second, success) in [(1, true), (2, false), (61, true), (62, true), (121, true)] {
        task(&format!("2026-02-01T00:{:02}:{:02}Z", second / 60, second % 60), success);
    }
    let at = |time: &str| slo.snapshot_at(time.parse().unwrap());
    let snapshot = at("2026-02-01T00:02:30Z");
    assert_eq!((snapshot.good, snapshot.bad), (1, 1), "a minute of half, a good one, and one that is not over");
    assert_eq!(at("2026-02-01T00:03:00Z").good, 2);
    assert!(snapshot.not_evaluable.is_empty());
    let back: Value = serde_saphyr::from_str(&to_openslo(&specs)).unwrap();
    assert_eq!(back, serde_saphyr::from_str::<Value>(text).unwrap());
}

#[test]
fn references_and_alert_policies_of_openslo_are_followed() {
    let text = "
apiVersion: openslo/v1
kind: SLO
metadata: {name: answers, labels: {team: [a, b]}}
spec:
  service: support
  indicatorRef: success
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{targetPercent: 99.5}]
  alertPolicies: [fast]
---
apiVersion: openslo/v1
kind: SLI
metadata: {name: success}
spec:
  ratioMetric:
    good: {metricSource: {type: agent-sre, spec: {indicators: [{type: task_success_rate, target: 0.995}]}}}
    total: {metricSource: {type: agent-sre, spec: {}}}
---
apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: fast}
spec: {conditions: [{conditionRef: burns}]}
---
apiVersion: openslo/v1
kind: AlertCondition
metadata: {name: burns}
spec: {severity: page, condition: {kind: burnrate, op: gte, threshold: 14.4, lookbackWindow: 1h, alertAfter: 5m}}
";
    let registry = SliRegistry::default();
    let specs = from_openslo(text, "x.yaml", &registry).unwrap();
    let spec = &specs[0];
    assert_eq!(
        (spec.service(), spec.target.unwrap().ratio(), spec.window),
        (Some("support"), 0.995, Some(Window::days(28)))
    );
    assert_eq!(
        spec.indicators,
        [IndicatorSpec {
            params: BTreeMap::from([("target".into(), json!(0.995))]),
            ..IndicatorSpec::new("task_success_rate")
        }]
    );
    let threshold = spec.error_budget_policy.as_ref().unwrap().thresholds[0];
    assert_eq!(threshold, BurnThreshold::new(14.4, Severity::Critical, Window::HOUR));
    assert_eq!(spec.labels["team"], "a,b");
    let again = from_openslo(&to_openslo(&specs), "x.yaml", &registry).unwrap();
    assert_eq!(again[0].indicators, spec.indicators);
    assert_eq!(again[0].error_budget_policy, spec.error_budget_policy);
    let error =
        from_openslo(&text.replace("indicatorRef: success", "indicatorRef: nothing"), "x.yaml", &registry).unwrap_err();
    assert!(error.to_string().contains("`spec.indicatorRef: \"nothing\"`"), "{error}");
}

fn spec_strategy() -> impl Strategy<Value = SloSpec> {
    let text = "[a-zA-Z0-9 :#'\"%{}\\-é]{0,20}";
    let name = "[a-z][a-z0-9-]{0,15}";
    let window =
        prop::sample::select(vec!["5m", "1h", "24h", "7d", "30d"]).prop_map(|text| text.parse::<Window>().unwrap());
    let target = (1u32..=1000).prop_map(|thousandths| SloTarget::try_from(f64::from(thousandths) / 1000.0).unwrap());
    let indicator = prop::sample::select(vec![
        json!({"type": "task_success_rate", "target": 0.97}),
        json!({"type": "response_latency", "target_ms": 250.5, "percentile": 0.9, "window": "6h"}),
        json!({"type": "cost_per_task", "target_usd": "0.125"}),
        json!({"type": "steps_per_task", "max_steps": 7}),
        json!({"type": "hallucination_rate"}),
    ])
    .prop_map(|value| {
        let mut params: BTreeMap<String, Value> = serde_json::from_value(value).unwrap();
        let kind = params.remove("type").and_then(|kind| kind.as_str().map(str::to_owned)).unwrap();
        IndicatorSpec { informational: params.len() > 1, params, ..IndicatorSpec::new(kind) }
    });
    let good_when = (prop::option::of(any::<bool>()), prop::option::of(0u32..100_000), prop::option::of(0i64..1 << 40))
        .prop_map(|(success, duration, cost)| GoodWhen {
            event: EventKind::TaskFinished,
            success,
            max_duration_ms: duration.map(f64::from),
            max_cost_usd: cost.map(Usd::from_nanos),
        });
    let threshold = (1u32..200, any::<bool>(), window.clone()).prop_map(|(tenths, critical, window)| {
        let severity = if critical { Severity::Critical } else { Severity::Warning };
        BurnThreshold::new(f64::from(tenths) / 10.0, severity, window)
    });
    let policy =
        (prop::collection::vec(threshold, 0..3), prop::option::of(any::<u32>()), prop::option::of(any::<u32>()))
            .prop_map(|(thresholds, min, expected)| BudgetPolicySpec {
                thresholds,
                policy: None,
                significance: min.map(|min| 1.0 / (2.0 + f64::from(min))),
                min_bad: expected.map(u64::from),
                min_events: min.map(u64::from),
                expected_events: expected.map(u64::from),
                exhaustion_action: Some(ExhaustionAction::FreezeDeployments),
            });
    let calendar = prop::sample::select(vec!["1M", "2w", "1Q"]).prop_map(|period| CalendarSpec {
        start: "2026-01-01 00:00:00".into(),
        time_zone: "America/New_York".into(),
        period: period.into(),
    });
    let slices = (window.clone(), target.clone()).prop_map(|(window, target)| TimeSlices { window, target });
    let budget = (prop::option::of(calendar), prop::option::of(slices));
    (
        name,
        prop::option::of(text),
        prop::option::of(text),
        target,
        prop::option::of(window),
        prop::collection::vec(indicator, 0..=2).prop_map(|mut indicators| {
            indicators.iter_mut().skip(1).for_each(|second| second.name = Some(format!("second {}", second.kind)));
            indicators
        }),
        prop::option::of(good_when),
        prop::option::of(policy),
        prop::collection::btree_map("[a-z]{1,8}", text, 0..3),
        budget,
    )
        .prop_map(|(name, description, service, target, window, indicators, good_when, policy, labels, budget)| {
            SloSpec {
                name,
                description,
                service,
                target: Some(target),
                window,
                calendar: budget.0,
                time_slices: budget.1,
                indicators,
                good_when,
                error_budget_policy: policy,
                labels,
                ..Default::default()
            }
        })
}

proptest! {
    #[test]
    fn yaml_round_trips(spec in spec_strategy()) {
        let yaml = to_yaml(std::slice::from_ref(&spec));
        prop_assert_eq!(read(&yaml).unwrap(), vec![spec], "{}", yaml);
    }

    #[test]
    fn json_round_trips(spec in spec_strategy()) {
        let json = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(serde_json::from_str::<SloSpec>(&json).unwrap(), spec, "{}", json);
    }

    #[test]
    fn openslo_round_trips_what_it_can_express(spec in spec_strategy()) {
        let text = to_openslo(std::slice::from_ref(&spec));
        let back = from_openslo(&text, "x.yaml", &SliRegistry::default()).unwrap().remove(0);
        prop_assert_eq!(&back.indicators, &spec.indicators);
        prop_assert_eq!(&back.good_when, &spec.good_when);
        prop_assert_eq!(&back.error_budget_policy, &spec.error_budget_policy);
        prop_assert_eq!(back.target, spec.target);
        if spec.calendar.is_none() {
            prop_assert_eq!(back.window.unwrap_or(Window::MONTH), spec.window.unwrap_or(Window::MONTH));
        }
        prop_assert_eq!(&back.calendar, &spec.calendar);
        prop_assert_eq!(back.time_slices, spec.time_slices);
        prop_assert_eq!(back.service.unwrap_or_default(), spec.service.unwrap_or_default());
        prop_assert_eq!(back.labels, spec.labels);
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".*") {
        let _ = read(&text);
        let _ = from_openslo(&text, "x", &SliRegistry::default());
    }

    #[test]
    fn damaged_specs_never_panic(at in 0usize..700, byte in any::<char>()) {
        let mut damaged: Vec<char> = WHOLE.chars().collect();
        let at = at.min(damaged.len() - 1);
        damaged[at] = byte;
        let _ = read(&damaged.into_iter().collect::<String>());
    }
}
