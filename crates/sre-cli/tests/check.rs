//! Tests `sre check` as a user runs it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use sre_testkit::outside;

mod common;

use common::{ROOT, SLO, check, sre, text};

fn tasks(good: usize, bad: usize) -> String {
    let line = |(index, success): (usize, bool)| {
        format!(
            "{{\"event\":\"task_finished\",\"time\":{},\"agent\":\"a\",\"task\":\"{index}\",\"success\":{success}}}\n",
            1_790_000_000 + index
        )
    };
    (0..good).map(|_| true).chain((0..bad).map(|_| false)).enumerate().map(line).collect()
}

#[test]
fn the_exit_code_follows_the_status_and_the_level() {
    for (good, bad, status, codes) in [
        (100, 0, "healthy", [0, 0, 0, 0]),
        (0, 0, "", [0, 0, 0, 0]),
        (1, 1, "unknown", [0, 0, 0, 0]),
        (90, 10, "unknown", [0, 0, 0, 0]),
        (70, 30, "exhausted", [1, 1, 1, 0]),
    ] {
        for (level, code) in ["warning", "critical", "exhausted", "never"].iter().zip(codes) {
            let (found, json, stderr) = check(SLO, &tasks(good, bad), &["--fail-on", level]);
            assert_eq!(found, code, "{good} good, {bad} bad, {level}: {stderr}");
            assert_eq!(json["slos"][0]["status"].as_str().unwrap_or(""), status);
        }
    }
}

/// As in `sre check … | head -1`.
#[test]
fn the_exit_code_counts_although_nobody_reads_the_report() {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), SLO).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sre"))
        .args(["check", "--from", "sre", "--slo"])
        .arg(file.path())
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    let events = format!("no event\n{}", tasks(70, 30));
    child.stdin.take().unwrap().write_all(events.as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn burn_alerts_reach_the_exit_code() {
    // Most of the month's budget remains, and the last hour has a burn rate of four.
    let slo = format!("{SLO}error_budget_policy: {{expected_events: 100000}}\n");
    let (code, json, _) = check(&slo, &tasks(80, 20), &["--fail-on", "warning"]);
    assert_eq!((code, json["slos"][0]["status"].as_str()), (1, Some("warning")), "{json:#}");
    assert_eq!(json["slos"][0]["burn_rates"][2]["rate"], 4.0);
    let firing: Vec<bool> =
        json["slos"][0]["alerts"].as_array().unwrap().iter().map(|alert| alert["firing"] == true).collect();
    assert_eq!(firing, [true, false]);
    let (code, json, _) = check(&slo, &tasks(40, 60), &[]);
    assert_eq!((code, json["slos"][0]["status"].as_str()), (1, Some("critical")));
}

#[test]
fn the_json_has_the_documented_shape() {
    let (_, json, _) = check(SLO, &tasks(19, 1), &[]);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for (pointer, wanted) in [
        ("", &["input", "slos", "totals"][..]),
        (
            "/slos/0",
            &[
                "agent",
                "alerts",
                "bad",
                "burn_rates",
                "error_budget",
                "good",
                "indicators",
                "interval",
                "name",
                "sli",
                "status",
                "target",
                "window",
            ],
        ),
        ("/slos/0/error_budget", &["consumed", "remaining", "spent_in_s", "total"]),
        ("/slos/0/burn_rates/0", &["bad", "good", "rate", "window"]),
        ("/slos/0/alerts/0", &["firing", "long_window", "severity", "short_window", "threshold"]),
        ("/slos/0/indicators/0", &["compliance", "interval", "name", "samples", "target", "value"]),
        (
            "/totals",
            &[
                "cost_usd",
                "failed",
                "incomplete",
                "input_tokens",
                "llm_calls",
                "llm_errors",
                "output_tokens",
                "succeeded",
                "tasks",
                "tool_calls",
                "tool_errors",
            ],
        ),
        ("/input", &["events", "lines", "skipped"]),
    ] {
        let found = keys(json.pointer(pointer).unwrap());
        assert!(wanted.iter().all(|key| found.iter().any(|found| found == key)), "{pointer}: {found:?}");
    }
    let windows: Vec<_> =
        json["slos"][0]["burn_rates"].as_array().unwrap().iter().map(|burn| burn["window"].clone()).collect();
    assert_eq!(windows, ["5m", "30m", "1h", "6h", "24h", "3d"]);
}

#[test]
fn missing_and_infinite_numbers_are_null() {
    let (_, json, _) = check("name: strict\ntarget: 1.0\n", &tasks(1, 1), &["--fail-on", "never"]);
    let slo = &json["slos"][0];
    assert_eq!(
        (&slo["error_budget"]["consumed"], &slo["burn_rates"][0]["rate"]),
        (&Value::Null, &Value::Null),
        "infinity"
    );
    assert_eq!(slo["status"], "exhausted");
    let (_, json, _) = check("name: idle\nservice: b\ntarget: 0.9\n", &tasks(1, 0), &[]);
    assert_eq!((&json["slos"][0]["sli"], &json["slos"][0]["status"]), (&Value::Null, &Value::from("unknown")));
}

#[test]
fn malformed_lines_are_reported_and_skipped_unless_strict() {
    let bad = [
        "{",
        r#"{"event":"task_finished","time":"yesterday","agent":"a","success":true}"#,
        r#"{"event":"task_finished","time":1790000000,"agent":"a","success":true,"duration_ms":-1}"#,
        r#"{"event":"llm_call","time":1790000000,"agent":"a","cost_usd":"-0.5"}"#,
        r#"{"event":"llm_call","time":1790000000,"agent":"a","cost_usd":"lots"}"#,
    ];
    let lines = format!("{}\n{}", tasks(2, 0), bad.join("\n"));
    let (code, json, stderr) = check(SLO, &lines, &[]);
    assert_eq!(code, 0);
    assert_eq!(
        (&json["input"]["lines"], &json["input"]["skipped"], &json["input"]["events"]),
        (&7.into(), &5.into(), &2.into())
    );
    for (number, named) in [(4, "EOF"), (5, "yesterday"), (6, "duration_ms"), (7, "cost_usd"), (8, "lots")] {
        let line = stderr.lines().find(|line| line.starts_with(&format!("<stdin>:{number}: "))).unwrap_or_default();
        assert!(line.contains(named), "{number}: {line:?} in\n{stderr}");
    }
    let (code, _, stderr) = check(SLO, &lines, &["--strict"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("<stdin>:4: "), "{stderr}");
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    let (code, json, stderr) = check(SLO, &format!("\u{feff}{}", tasks(2, 0)), &[]);
    assert_eq!((code, &json["input"]["skipped"], &json["totals"]["tasks"]), (0, &0.into(), &2.into()), "{stderr}");
}

#[test]
fn unknown_events_are_counted_without_creating_an_agent() {
    let lines = format!("{}{{\"event\":\"moon_landing\",\"time\":1790000000}}\n", tasks(2, 0));
    let (code, json, _) = check(SLO, &lines, &[]);
    assert_eq!((code, &json["input"]["unknown"], &json["input"]["skipped"]), (0, &1.into(), &0.into()));
    assert_eq!(json["slos"].as_array().unwrap().len(), 1);
}

#[test]
fn an_oversized_line_is_skipped() {
    let lines = format!("{}{}\n{}", tasks(1, 0), "x".repeat(17 << 20), tasks(1, 0));
    let (code, json, stderr) = check(SLO, &lines, &[]);
    assert_eq!((code, &json["input"]["skipped"], &json["totals"]["tasks"]), (0, &1.into(), &2.into()));
    assert!(stderr.contains("<stdin>:2: skipped: found more than 16 MiB"), "{stderr}");
    let (_, json, _) = check(SLO, tasks(3, 0).trim_end(), &[]);
    assert_eq!(json["input"]["lines"], 3, "the last line needs no line break");
}

#[test]
fn invalid_objectives_and_input_exit_with_2() {
    let (code, _, stderr) = check("name: x\nwindow: 30x\ntarget: 0.9\n", "", &[]);
    assert_eq!(code, 2);
    assert!(stderr.contains(".yaml:2: `window: 30x`: expected a duration such as 5m, 6h or 30d"), "{stderr}");
    let (code, _, stderr) = check(SLO, "{\"hello\": 1}\n", &[]);
    assert_eq!(code, 2);
    assert!(stderr.contains("is `--from` right?"), "{stderr}");
    let missing = sre(&["check", "--slo", "nowhere.yaml", "--from", "sre", "-"], "");
    assert_eq!(missing.status.code(), Some(2));
    let missing = sre(&["check", "--slo", "docs/examples/support.yaml", "--from", "sre", "nowhere.jsonl"], "");
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("nowhere.jsonl"));
}

#[test]
fn a_service_without_events_is_named_with_the_agents_that_were_seen() {
    let slo = format!("{SLO}service: suport\n---\nname: others\ntarget: 0.9\nservice: a\n");
    let lines = tasks(2, 0) + &tasks(1, 0).replace("\"a\"", "\"support\"");
    let warning = "objective `answers`: no event of its `service: suport`; found events of a, support\n";
    let (code, json, stderr) = check(&slo, &lines, &[]);
    assert_eq!((code, json["slos"][0]["status"].as_str()), (0, Some("unknown")));
    assert_eq!(stderr, format!("warning: {warning}"));
    let (code, json, stderr) = check(&slo, &lines, &["--strict"]);
    assert_eq!((code, stderr), (2, format!("error: {warning}")));
    assert_eq!(json["slos"][0]["status"], "unknown", "the report is printed nevertheless");
    let (code, _, stderr) = check(&slo.replace("suport", "support"), &lines, &["--strict"]);
    assert_eq!((code, &*stderr), (0, ""));
}

#[test]
fn a_folder_without_objectives_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    for command in [&["check", "--from", "sre", "-", "--slo", "docs/examples", path][..], &["slo", "validate", path]] {
        let output = sre(command, &tasks(2, 0));
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert_eq!(text(&output.stderr), format!("error: {path}: found no objective, expected at least one\n"));
    }
}

#[test]
fn unfinished_tasks_fail_and_are_reported_as_incomplete() {
    let lines =
        "{\"event\":\"task_started\",\"time\":1790000000,\"agent\":\"a\",\"task\":\"x\"}\n".to_owned() + &tasks(3, 0);
    let (_, json, _) = check(SLO, &lines, &[]);
    let totals = &json["totals"];
    assert_eq!((&totals["tasks"], &totals["failed"], &totals["incomplete"]), (&4.into(), &1.into(), &1.into()));
    assert_eq!(json["slos"][0]["bad"], 1);
}

#[test]
fn the_agent_option_overrides_the_input() {
    let (_, json, _) = check(SLO, &tasks(1, 0), &["--agent", "somebody"]);
    assert_eq!(json["slos"][0]["agent"], "somebody");
}

#[test]
fn input_may_follow_the_objectives_directly() {
    for arguments in [
        ["check", "--from", "sre", "--slo", "docs/examples", "docs/examples/events.jsonl"],
        ["check", "--slo", "docs/examples", "--from", "sre", "docs/examples/events.jsonl"],
        ["check", "docs/examples/events.jsonl", "--from", "sre", "--slo", "docs/examples"],
    ] {
        let output = sre(&arguments, "");
        assert!(output.status.success() && text(&output.stdout).contains("40 tasks"), "{arguments:?}");
    }
    let output = sre(&["check", "--from", "sre", "--slo", "docs/examples"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("INPUT"));
}

#[test]
fn several_inputs_and_a_protobuf_body_are_read() {
    let folder = "tests/recordings/otlp-vercel-ai";
    let slo = "docs/examples/support.yaml";
    let [first, second] = ["all_ok.0.bin", "task_failure.jsonl"].map(|file| format!("{folder}/{file}"));
    let output = sre(&["check", "--slo", slo, "--from", "otlp", "--output", "json", &first, &second], "");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["totals"]["tasks"], &json["totals"]["failed"]), (&8.into(), &1.into()));
    assert_eq!(json["input"]["lines"], 2);
}

#[test]
fn every_recording_matches_its_ground_truth() {
    let root = Path::new(ROOT).join("tests/recordings");
    for (folder, from) in sre_testkit::recordings::folders(&root) {
        for recording in sre_testkit::recordings::in_folder(&root.join(&folder)) {
            let lines = recording.lines.to_str().unwrap();
            let arguments =
                ["check", "--slo", "docs/examples", "--from", from, "--output", "json", "--fail-on", "never", lines];
            let json: Value = serde_json::from_slice(&sre(&arguments, "").stdout).unwrap();
            let truth = serde_json::to_value(&recording.expected).unwrap();
            for (field, expected) in truth.as_object().unwrap().iter().filter(|(_, expected)| !expected.is_null()) {
                if let Some(found) = json["totals"].get(field) {
                    assert_eq!(found, expected, "{folder}/{}: {field}", recording.name);
                }
            }
            assert_eq!(json["input"]["skipped"], 0);
        }
    }
}

#[test]
fn metrics_pass_promtool() {
    let recording = "tests/recordings/langgraph/long_mixed.jsonl";
    let arguments = ["check", "--slo", "docs/examples", "--from", "langgraph", "--output", "prometheus", recording];
    let guards = ["--breakers", "docs/examples/guards/breakers.yaml", "--limits", "docs/examples/guards/limits.yaml"];
    let metrics = sre(&[&arguments[..], &guards].concat(), "").stdout;
    assert!(text(&metrics).contains("sre_slo_sli_ratio{agent=\"support-agent\",slo=\"support-answers\"} 0.945\n"));
    let of_engines = ["sre_tasks_total{", "sre_events_total ", "sre_llm_calls_total{", "sre_llm_tokens_total{"];
    for metric in of_engines.into_iter().chain(["sre_breaker_state{", "sre_cost_spent_dollars{"]) {
        assert!(text(&metrics).contains(metric), "{metric}");
    }
    let Some(mut promtool) = outside::program("promtool", "metrics_pass_promtool") else { return };
    feed(promtool.args(["check", "metrics"]), &metrics);
}

#[test]
fn indicators_of_one_type_are_metrics_of_their_own() {
    let slo = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let indicators = "{type: task_success_rate, target: 0.9}, {type: response_latency, window: 1h}, \
                      {type: response_latency, window: 24h}, {type: response_latency, name: slowest, percentile: 0.99}";
    std::fs::write(slo.path(), format!("name: answers\nindicators: [{indicators}]\n")).unwrap();
    let recording = "tests/recordings/langgraph/long_mixed.jsonl";
    let slo = slo.path().to_str().unwrap();
    let metrics = sre(&["check", "--slo", slo, "--from", "langgraph", "--output", "prometheus", recording], "").stdout;
    let metrics_text = text(&metrics);
    for indicator in ["response_latency", "response_latency_24h", "slowest"] {
        for metric in ["value_seconds", "burn_rate", "status", "samples", "distribution_seconds_count"] {
            let series = format!("sre_indicator_{metric}{{agent=\"support-agent\",indicator=\"{indicator}\",");
            assert!(metrics_text.contains(&series), "{series}");
        }
    }
    let Some(mut promtool) = outside::program("promtool", "indicators_of_one_type_are_metrics_of_their_own") else {
        return;
    };
    feed(promtool.args(["check", "metrics"]), &metrics);
}

#[test]
fn openmetrics_parse_with_prometheus_client() {
    let recording = "tests/recordings/langgraph/long_mixed.jsonl";
    let arguments = ["check", "--slo", "docs/examples", "--from", "langgraph", "--output", "openmetrics", recording];
    let metrics = sre(&arguments, "").stdout;
    let test = "openmetrics_parse_with_prometheus_client";
    let Some(mut python) = outside::python_with("prometheus_client", test) else { return };
    let parse = "import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
families = {family.name: family for family in parse(sys.stdin.read())}
tasks = {sample.labels['outcome']: sample.value for sample in families['sre_tasks'].samples}
assert tasks == {'succeeded': 189.0, 'failed': 11.0}, tasks
assert families['sre_slo_sli_ratio'].unit == 'ratio'";
    feed(python.args(["-c", parse]), &metrics);
}

/// Passes `input` to a program, which must accept it without a message.
fn feed(command: &mut Command, input: &[u8]) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// Returns lines of finished tasks that took 2.5 s, each with a model call of this cost.
fn slow_tasks(count: usize, cost: &str) -> String {
    let task = |number: usize| {
        let at = 1_790_000_000 + number;
        format!(
            "{{\"event\":\"llm_call\",\"time\":{at},\"agent\":\"a\",\"task\":\"{number}\",\"model\":\"gpt-4o-mini\",\"input_tokens\":1000000,\"output_tokens\":0{cost}}}\n\
             {{\"event\":\"task_finished\",\"time\":{at},\"agent\":\"a\",\"task\":\"{number}\",\"success\":true,\"duration_ms\":2500}}\n"
        )
    };
    (0..count).map(task).collect()
}

#[test]
fn an_indicator_that_misses_its_target_reaches_the_exit_code() {
    const LATENCY: &str = "{type: response_latency, target_ms: 2000, percentile: 0.95}";
    const COST: &str = "{type: cost_per_task, target_usd: 0.10}";
    for (indicator, level, code, status) in [
        (LATENCY, "critical", 1, "critical"),
        (LATENCY, "exhausted", 0, "critical"),
        (COST, "warning", 1, "warning"),
        (COST, "critical", 0, "warning"),
    ] {
        let slo =
            format!("name: answers\nindicators:\n  - {{type: task_success_rate, target: 0.9}}\n  - {indicator}\n");
        let (found, json, stderr) = check(&slo, &slow_tasks(100, ",\"cost_usd\":\"0.25\""), &["--fail-on", level]);
        assert_eq!(found, code, "{indicator} with {level}: {stderr}");
        let found = &json["slos"][0];
        assert_eq!((&found["status"], &found["budget_status"]), (&status.into(), &"healthy".into()), "{found}");
        let indicator = &found["indicators"][1];
        assert_eq!(indicator["status"], status);
        if status == "critical" {
            assert_eq!(indicator["error_budget"]["total"], 0.05);
            assert_eq!(indicator["burn_rates"][2]["rate"], 20.0, "all of them are too slow: {indicator}");
            assert!(indicator["alerts"].as_array().unwrap().iter().any(|alert| alert["firing"] == true));
        }
    }
}

/// What a newcomer sees who misses two targets.
#[test]
fn the_reasons_for_a_status_are_under_the_headline() {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let slo = "name: answers\nindicators:\n  - {type: task_success_rate, target: 0.9}\n  - {type: response_latency, target_ms: 2000}\n  \
               - {type: cost_per_task, target_usd: 0.10}\n";
    std::fs::write(file.path(), slo).unwrap();
    let arguments = ["check", "--slo", file.path().to_str().unwrap(), "--from", "sre", "-"];
    let printed = text(&sre(&arguments, &slow_tasks(100, ",\"cost_usd\":\"0.25\"")).stdout);
    let first: Vec<&str> = printed.lines().take(4).collect();
    let expected = [
        " CRITICAL  answers · a",
        "  critical: response_latency: Burn rate 20.0 over the last 1h (threshold 10): 100 of 100 samples bad. Its error budget is consumed 20 times over.",
        "  warning: cost_per_task: $0.25 on average over 100 samples, expected at most $0.1.",
    ];
    assert_eq!(first[..3], expected, "{printed}");
    assert!(first[3].starts_with("  good      100 % of 100 events"), "{printed}");

    // The objective's own budget names its indicator, too.
    let printed = text(&sre(&arguments, &tasks(300, 100)).stdout);
    let third = printed.lines().nth(2).unwrap_or_default();
    assert!(
        third.starts_with("  warning: task_success_rate: burn rate 2.5 over 1h and 5m, at least 2: 100 of 400 bad"),
        "{printed}"
    );
    assert!(printed.contains("overspent by 150 % (task_success_rate)"), "{printed}");

    // Also where nothing burns any more.
    let overspent = [tasks(0, 80), slow_tasks(500, "")].concat();
    let printed = text(&sre(&arguments, &overspent).stdout);
    assert!(
        printed.contains("\n  exhausted: task_success_rate: 80 of 580 bad: 138 % of the error budget is consumed\n"),
        "{printed}"
    );
}

#[test]
fn a_first_run_is_priced_by_the_public_list_and_a_file_of_prices_replaces_it() {
    let run = slow_tasks(1, "");
    let (_, json, stderr) = check(SLO, &run, &[]);
    // A million input tokens of gpt-4o-mini.
    assert_eq!(json["totals"]["cost_usd"], "0.15", "{stderr}");
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), SLO).unwrap();
    let arguments = ["check", "--slo", file.path().to_str().unwrap(), "--from", "sre", "-"];
    let text_of = text(&sre(&arguments, &run).stdout);
    assert!(text_of.contains("public list prices of November 2026"), "{text_of}");
    let prices = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(prices.path(), "prices:\n  - {model: other, input: 1, output: 1}\n").unwrap();
    let (_, json, stderr) = check(SLO, &run, &["--prices", prices.path().to_str().unwrap()]);
    assert_eq!(json["totals"]["cost_usd"], "0", "the built-in price of gpt-4o-mini is gone: {stderr}");
}
