//! Tests `sre check` with `--breakers`, `--prices` and `--limits`.

mod common;

use std::path::Path;

use common::{ROOT, SLO, check, sre, text};
use serde_json::{Value, json};

fn file(ending: &str, content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(ending).tempfile().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

fn assert_matches_schema(found: &Value) {
    let schema = std::fs::read_to_string(Path::new(ROOT).join("docs/schemas/check.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let errors: Vec<String> = validator.iter_errors(found).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn breakers_report_when_they_would_have_opened() {
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
    assert_matches_schema(&found);
    let expected = json!([{
        "kind": "tool",
        "name": "search",
        "state": "closed",
        "opened": 1,
        "openings": [{
            "opened_at": "2026-09-21T14:13:24Z",
            "closed_at": "2026-09-21T14:14:10Z",
            "reason": "5 consecutive failures",
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

    // Without the option, the fields are absent.
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
    let line = "OPEN  tool search would have opened 1 time, first at 2026-09-21T14:13:20Z: 2 consecutive failures";
    assert!(report.contains(line), "{report}");
}

#[test]
fn an_error_in_a_breakers_file_names_file_and_line() {
    let breakers = file(".yaml", "recovery_timeout: 30s\nfailure_threshold: none\n");
    let path = breakers.path().to_str().unwrap();
    let (code, _, stderr) = check(SLO, "", &["--breakers", path]);
    assert_eq!(code, 2);
    assert!(stderr.contains(&format!("{path}:2: `failure_threshold: none`: expected a whole number")), "{stderr}");
}

fn call(second: u64, agent: &str, model: &str, tokens: [u64; 3], cost: &str) -> String {
    let [input, cached, output] = tokens;
    format!(
        "{{\"event\":\"llm_call\",\"time\":{},\"agent\":\"{agent}\",\"task\":\"t\",\"model\":\"{model}\",\"input_tokens\":{input},\
         \"cached_input_tokens\":{cached},\"output_tokens\":{output},\"cost_usd\":{cost}}}\n",
        1_790_000_000 + second
    )
}

#[test]
fn prices_add_exact_costs_and_report_unknown_models() {
    let prices = file(
        ".json",
        r#"{"sample_spec": {}, "m": {"input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07, "cache_read_input_token_cost": 7.5e-08}}"#,
    );
    let lines = [
        // 900 × 0.15 + 100 × 0.075 + 7 × 0.6 dollars per million: 0.0001467.
        call(0, "a", "m", [1_000, 100, 7], "null"),
        // The call's own cost counts; it differs from the price of 0.00015.
        call(1, "a", "m", [1_000, 0, 0], "\"0.0005\""),
        call(2, "a", "nobody-knows", [5, 0, 5], "null"),
        call(3, "a", "nobody-knows", [5, 0, 5], "\"0.25\""),
    ]
    .concat();
    let (code, found, stderr) = check(SLO, &lines, &["--prices", prices.path().to_str().unwrap()]);
    assert_eq!(code, 0, "{stderr}");
    assert_matches_schema(&found);
    assert_eq!(found["totals"]["cost_usd"], "0.2506467");
    let expected = json!({
        "priced": 1, "unknown_calls": {"nobody-knows": 1}, "matched": 0, "mismatched": 1, "difference_usd": "0.00035",
    });
    assert_eq!(found["prices"], expected);
    assert!(found.get("costs").is_none());
    // The cost of a task replaces the costs of its calls.
    let task = "{\"event\":\"task_finished\",\"time\":1790000009,\"agent\":\"a\",\"task\":\"t\",\"success\":true,\"cost_usd\":1}\n";
    let (_, found, _) = check(SLO, &(lines + task), &["--prices", prices.path().to_str().unwrap()]);
    assert_eq!(found["totals"]["cost_usd"], "1");
}

#[test]
fn limits_report_budgets_and_alerts() {
    let limits = file(".yaml", "per_task: 50\nper_agent_daily: 10\norg_monthly: 20\nalert_thresholds: [0.5]\n");
    let more = ["--limits", limits.path().to_str().unwrap()];
    let mut lines = [
        call(0, "a", "m", [1, 0, 1], "5"),
        call(1, "a", "m", [1, 0, 1], "3.5"),
        call(2, "b", "m", [1, 0, 1], "9.5"),
        call(3, "c", "m", [1, 0, 1], "1"),
        call(4, "c", "free?", [1, 0, 1], "null"),
    ]
    .concat();
    let (code, found, stderr) = check(SLO, &lines, &more);
    assert_eq!(code, 0, "{stderr}");
    assert_matches_schema(&found);
    let costs = &found["costs"];
    let agent = |agent, [spent, remaining]: [&str; 2], percent: f64, mean: Option<&str>, status| {
        json!({
            "agent": agent, "spent_usd": spent, "limit_usd": "10", "remaining_usd": remaining,
            "utilization_percent": percent, "avg_cost_per_task": mean, "status": status,
        })
    };
    let agents = [
        agent("a", ["8.5", "1.5"], 85.0, Some("8.5"), "throttled"),
        agent("b", ["9.5", "0.5"], 95.0, Some("9.5"), "killed"),
        agent("c", ["1", "9"], 10.0, Some("1"), "ok"),
    ];
    assert_eq!(costs["agents"], json!(agents));
    let org = json!({"spent_usd": "19", "limit_usd": "20", "remaining_usd": "1", "utilization_percent": 95.0});
    assert_eq!(costs["org"], org);
    assert_eq!(costs["unknown_models"], json!(["free?"]));
    let alerts: Vec<String> = costs["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| format!("{} {}", alert["name"].as_str().unwrap_or("org"), alert["alert"].as_str().unwrap()))
        .collect();
    let expected =
        ["a threshold", "a throttled", "org threshold", "b threshold", "b throttled", "b killed"].map(str::to_owned);
    assert_eq!(alerts.iter().filter(|alert| !alert.ends_with("runaway")).cloned().collect::<Vec<_>>(), expected);

    // Daily budgets reset on the next day, the monthly one does not.
    lines += &call(86_400, "a", "m", [1, 0, 1], "2");
    let (_, found, _) = check(SLO, &lines, &more);
    assert_eq!(found["costs"]["agents"][0], agent("a", ["2", "8"], 20.0, Some("2"), "ok"));
    assert_eq!(found["costs"]["agents"][1], agent("b", ["0", "10"], 0.0, None, "ok"));
    assert_eq!(found["costs"]["org"]["spent_usd"], "21");

    let slo = file(".yaml", SLO);
    let arguments = ["check", "--slo", slo.path().to_str().unwrap(), "--from", "sre", more[0], more[1], "-"];
    let report = text(&sre(&arguments, &call(0, "b", "m", [1, 0, 1], "9.5")).stdout);
    assert!(
        report.contains(" BLOCKED  agent b spent $9.5 of $10 on the last day, at 2026-09-21T14:13:20Z\n"),
        "{report}"
    );
    assert!(report.contains("all agents together spent $9.5 of $20 in the last month"), "{report}");
}

#[test]
fn errors_in_prices_and_limits_name_the_file() {
    for (option, ending, content, expected) in [
        (
            "--limits",
            ".yaml",
            "per_task: 1\nkill_at: 95\n",
            ":2: `kill_at: 95`: expected a share above 0 and at most 1",
        ),
        (
            "--prices",
            ".json",
            r#"{"m": {"input_cost_per_token": -1}}"#,
            ": `m.input_cost_per_token`: found -1, expected",
        ),
        ("--prices", ".json", "{", ":1: EOF while parsing"),
        ("--prices", ".yaml", "prices:\n  - {model: m, input: x}\n", ":2: `prices[0].input: x`: expected an amount"),
    ] {
        let wrong = file(ending, content);
        let path = wrong.path().to_str().unwrap();
        let (code, _, stderr) = check(SLO, "", &[option, path]);
        assert_eq!(code, 2);
        assert!(stderr.contains(&format!("{path}{expected}")), "{stderr}");
    }
}
