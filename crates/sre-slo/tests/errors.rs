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
