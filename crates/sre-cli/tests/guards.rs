//! `sre check` with guards: what breakers, prices and limits would have made of a run.

mod common;

use std::path::Path;

use common::{ROOT, SLO, check, sre, text};
use serde_json::{Value, json};

fn file(ending: &str, content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(ending).tempfile().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

fn fits_the_schema(found: &Value) {
    let schema = std::fs::read_to_string(Path::new(ROOT).join("docs/schemas/check.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let errors: Vec<String> = validator.iter_errors(found).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn breakers_say_when_they_would_have_opened() {
    let mut lines = String::new();
    for second in 0..6 {
        lines += &format!(
            "{{\"event\":\"tool_call\",\"time\":{},\"agent\":\"a\",\"tool\":\"search\",\"success\":false}}\n",
            1_790_000_000 + second
        );
    }
    for (second, agent, success) in
        [(40, "a", true), (41, "a", false), (42, "a", false), (43, "boss", false), (44, "boss", false)]
    {
        lines += &format!(
            "{{\"event\":\"task_finished\",\"time\":{},\"agent\":\"{agent}\",\"success\":{success}}}\n",
            1_790_000_000 + second
        );
    }
    lines += "{\"event\":\"tool_call\",\"time\":1790000050,\"agent\":\"a\",\"tool\":\"search\",\"success\":true}\n";
    let handoff =
        "{\"event\":\"handoff\",\"time\":1790000000,\"agent\":\"boss\",\"from\":\"boss\",\"to\":\"a\",\"depth\":1}\n";
    let breakers = file(".yaml", "recovery_timeout: 30s\n");
    let more = ["--fail-on", "never", "--breakers", breakers.path().to_str().unwrap()];
    let (code, found, stderr) = check(SLO, &(handoff.to_owned() + &lines), &more);
    assert_eq!(code, 0, "{stderr}");
    fits_the_schema(&found);
    let expected = json!([{
        "kind": "tool",
        "name": "search",
        "state": "closed",
        "opened": 1,
        "openings": [{
            "opened_at": "2026-09-21T14:13:24Z",
            "closed_at": "2026-09-21T14:14:10Z",
            "reason": "5 failures in a row",
        }],
    }]);
    assert_eq!(found["breakers"], expected);
    let path: Vec<&str> = found["cascades"][0]["path"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failing| failing["name"].as_str().unwrap())
        .collect();
    assert_eq!(path, ["search", "a", "boss"]);
    assert_eq!(found["cascades"][0]["found_at"], "2026-09-21T14:14:04Z");
    assert_eq!(found["cascades"][0]["over_at"], "2026-09-21T14:14:10Z");

    // Without the option nothing is added.
    let (_, found, _) = check(SLO, &lines, &[]);
    assert!(found.get("breakers").is_none() && found.get("cascades").is_none());
}

#[test]
fn the_report_names_breakers_and_cascades() {
    let breakers = file(".yaml", "failure_threshold: 2\n");
    let lines =
        "{\"event\":\"tool_call\",\"time\":1790000000.25,\"agent\":\"a\",\"tool\":\"search\",\"success\":false}\n"
            .repeat(2);
    let slo = file(".yaml", SLO);
    let path = |file: &tempfile::NamedTempFile| file.path().to_str().unwrap().to_owned();
    let arguments = ["check", "--slo", &path(&slo), "--from", "sre", "--breakers", &path(&breakers), "-"];
    let report = text(&sre(&arguments, &lines).stdout);
    let line = "OPEN  tool search would have opened 1 time, first at 2026-09-21T14:13:20Z: 2 failures in a row";
    assert!(report.contains(line), "{report}");
}

#[test]
fn a_file_of_breakers_that_is_wrong_is_named_with_the_line() {
    let breakers = file(".yaml", "recovery_timeout: 30s\nfailure_threshold: none\n");
    let path = breakers.path().to_str().unwrap();
    let (code, _, stderr) = check(SLO, "", &["--breakers", path]);
    assert_eq!(code, 2);
    assert!(stderr.contains(&format!("{path}:2: `failure_threshold: none`: expected a whole number")), "{stderr}");
}
