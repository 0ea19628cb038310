//! Errors in objectives: all of them are reported at once.

use std::path::Path;

use sre_slo::{SliRegistry, SpecError, load, parse};

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn errors_of(folder: &Path) -> Vec<String> {
    let errors = load(&[folder], &SliRegistry::default()).unwrap_err();
    let folder = format!("{}/", folder.display());
    assert_eq!(errors.as_slice().len(), errors.to_string().lines().count());
    errors.to_string().lines().map(|line| line.replace(&folder, "")).collect()
}

fn starts(errors: &[String], expected: &[&str]) {
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.starts_with(expected), "found {error}, expected {expected}");
    }
}

#[test]
fn every_error_of_every_file_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "a.yaml",
        "name: one
windoww: 5m
window: 30x
target: 101
label: {}
indicators:
  - type: nonsense
  - {type: task_success_rate, target: 2%%}
  - {type: response_latency}
  - {type: cost_per_task, target: 5}
error_budget_policy: {policy: mine}
---
target: 0.9
labels: [a]
---
- a list
---
name: two
inherits_from: nobody
",
    );
    write(folder.path(), "b.yaml", "name: [\n");
    write(folder.path(), "c.yaml", "name: three\n---\nname: two\ntarget: 0.9\n");
    let expected = [
        "a.yaml:2: `windoww`: unknown field",
        "a.yaml:3: `window: 30x`: expected a duration",
        "a.yaml:4: `target: 101`: expected a ratio",
        "a.yaml:5: `label`: unknown field",
        "a.yaml:7: `indicators[0].type: nonsense`: expected one of",
        "a.yaml:8: `indicators[1].target: 2%%`: expected a ratio",
        "a.yaml:10: `indicators[3].target`: unknown field",
        "a.yaml:11: `error_budget_policy.policy: mine`: expected sre-workbook",
        "a.yaml:13: found no `name`, expected one",
        "a.yaml:14: `labels: a list`: expected a mapping",
        "a.yaml:16: the document: found a list, expected a mapping",
        "b.yaml:",
        "c.yaml:3: `name: two`: found a second objective with this name",
        "a.yaml:19: `inherits_from: nobody`: found no objective with this name",
        "c.yaml:1: `three`: found neither `target` nor `indicators`",
    ];
    starts(&errors_of(folder.path()), &expected);
}

#[test]
fn an_error_of_a_parent_or_a_component_is_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    let children = "---
name: child
inherits_from: base
---
name: grandchild
inherits_from: child
---
name: all
target: 0.9
composite: {objectives: [{name: base}, {name: grandchild}]}
";
    write(folder.path(), "a.yaml", &format!("name: base\ntarget: 101\n{children}"));
    starts(&errors_of(folder.path()), &["a.yaml:2: `target: 101`"]);
    write(folder.path(), "a.yaml", &format!("name: base\ninherits_from: nobody\n{children}"));
    starts(&errors_of(folder.path()), &["a.yaml:2: `inherits_from: nobody`: found no objective"]);
}

#[test]
fn a_window_that_cannot_be_counted_is_an_error_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let alert = "error_budget_policy: {thresholds: [{rate: 2, severity: warning, window: 5s}]}";
    let text = format!("name: one\ntarget: 0.9\nwindow: 100ms\n---\nname: two\ntarget: 0.9\n{alert}\n");
    write(folder.path(), "a.yaml", &text);
    let expected = ["a.yaml:1: `one`: `window`: found 100ms", "a.yaml:5: `two`: `window`: found 416"];
    starts(&errors_of(folder.path()), &expected);
}

#[test]
fn every_error_inside_a_mapping_is_reported() {
    let text = "name: one
target: 101
indicators:
  - {type: response_latency, target_ms: -1, percentile: 95, window: 5x, nonsense: 1, more: 2}
  - {type: cost_per_task, informational: maybe, name: [a]}
labels: {a: [1], b: {}}
calendar: {start: [], period: {}, zone: UTC}
time_slices: {window: 1x, target: 101}
good_when:
  event: nothing
  success: perhaps
  max_duration_ms: -1
  max_cost_usd: -1
  max: 1
error_budget_policy:
  significance: 2
  min_events: -1
  exhaustion_action: panic
  thresholds:
    - {rate: 0, severity: loud, window: 1x}
    - {rate: 1}
---
name: all
target: 101
composite:
  method: best
  objectives: [{name: nobody}, {name: one, weight: -1}, {weight: 2}, {name: no one}]
";
    let errors = parse(text, "a.yaml", &SliRegistry::default()).unwrap_err().to_string();
    let mut errors: Vec<String> = errors.lines().map(str::to_owned).collect();
    errors.sort();
    let mut expected = [
        "a.yaml:2: `target: 101`",
        "a.yaml:4: `indicators[0].target_ms: -1`",
        "a.yaml:4: `indicators[0].percentile: 95`",
        "a.yaml:4: `indicators[0].window: 5x`",
        "a.yaml:4: `indicators[0].nonsense`: unknown field",
        "a.yaml:4: `indicators[0].more`: unknown field",
        "a.yaml:5: `indicators[1].informational: maybe`",
        "a.yaml:5: `indicators[1].name: a list`",
        "a.yaml:6: `labels.a: a list`",
        "a.yaml:6: `labels.b: a mapping`",
        "a.yaml:7: `calendar.start: a list`",
        "a.yaml:7: `calendar.period: a mapping`",
        "a.yaml:7: `calendar.zone`: unknown field",
        "a.yaml:8: `time_slices.window: 1x`",
        "a.yaml:8: `time_slices.target: 101`",
        "a.yaml:10: `good_when.event: nothing`",
        "a.yaml:11: `good_when.success: perhaps`",
        "a.yaml:12: `good_when.max_duration_ms: -1`",
        "a.yaml:13: `good_when.max_cost_usd: -1`",
        "a.yaml:14: `good_when.max`: unknown field",
        "a.yaml:16: `error_budget_policy.significance: 2`",
        "a.yaml:17: `error_budget_policy.min_events: -1`",
        "a.yaml:18: `error_budget_policy.exhaustion_action: panic`",
        "a.yaml:20: `error_budget_policy.thresholds[0].rate: 0`",
        "a.yaml:20: `error_budget_policy.thresholds[0].severity: loud`",
        "a.yaml:20: `error_budget_policy.thresholds[0].window: 1x`",
        "a.yaml:21: `error_budget_policy.thresholds[1]`: expected `rate` and `severity`",
        "a.yaml:23: `all`: `composite.objectives[0].name`: found `nobody`, expected one of one",
        "a.yaml:23: `all`: `composite.objectives[3].name`: found `no one`, expected one of one",
        "a.yaml:24: `target: 101`",
        "a.yaml:26: `composite.method: best`",
        "a.yaml:27: `composite.objectives[1].weight: -1`",
        "a.yaml:27: `composite.objectives[2].name`: found nothing",
    ];
    expected.sort_unstable();
    starts(&errors, &expected);
}

#[test]
fn every_invalid_document_of_openslo_is_reported() {
    let slo = |name: &str, indicators: &str| {
        format!(
            "apiVersion: openslo/v1
kind: SLO
metadata: {{name: {name}}}
spec:
  service: support
  indicator: {{spec: {{ratioMetric: {{good: {{metricSource: {{type: agent-sre, spec: {{indicators: [{indicators}]}}}}}}}}}}}}
  objectives: [{{target: 0.9}}]
"
        )
    };
    let text = [
        slo("one", "{type: nonsense}, {type: task_success_rate, targett: 1}"),
        slo("two", "{type: task_success_rate}"),
        "apiVersion: openslo/v2\nkind: SLO\n".to_owned(),
    ];
    let errors = parse(&text.join("---\n"), "slo.yaml", &SliRegistry::default()).unwrap_err().to_string();
    let errors: Vec<String> = errors.lines().map(str::to_owned).collect();
    let expected = [
        "slo.yaml:1: `indicators[0].type: nonsense`",
        "slo.yaml:1: `indicators[1].targett`: unknown field",
        "slo.yaml:17: `apiVersion: \"openslo/v2\"`: expected openslo/v1",
    ];
    starts(&errors, &expected);
}

#[test]
fn a_path_without_an_objective_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let [full, empty] = ["full", "empty"].map(|name| folder.path().join(name));
    for folder in [&full, &empty] {
        std::fs::create_dir(folder).unwrap();
    }
    write(&full, "a.yaml", "name: a\ntarget: 0.9\n");
    write(&empty, "notes.txt", "no objective");
    let errors = load(&[&full, &empty], &SliRegistry::default()).unwrap_err();
    assert!(matches!(errors.as_slice(), [SpecError::Empty { path }] if *path == empty), "{errors}");
    assert_eq!(errors.to_string(), format!("{}: found no objective, expected at least one", empty.display()));
}
