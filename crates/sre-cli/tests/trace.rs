//! Tests `sre trace` as a user runs it.

use std::path::Path;
use std::time::{Duration, Instant};

use agent_sre::HttpClient;
use agent_sre::http::{Client, Options};
use http::Request;
use serde_json::Value;
use sre_testkit::recordings::{Recording, folders, in_folder};

mod common;

use common::{ROOT, Service, serve, sre, text};

fn show(arguments: &[&str], stdin: &str) -> (i32, String, String) {
    let output = sre(&[&["trace", "show"], arguments].concat(), stdin);
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn trees(arguments: &[&str]) -> Vec<Value> {
    let (code, json, errors) = show(&[arguments, &["--output", "json"]].concat(), "");
    assert_eq!((code, &*errors), (0, ""), "{arguments:?}");
    serde_json::from_str(&json).unwrap()
}

fn recordings() -> impl Iterator<Item = (String, &'static str, Recording)> {
    let of = Path::new(ROOT).join("tests/recordings");
    let each = move |(folder, format): (String, &'static str)| {
        let recordings = in_folder(&of.join(&folder));
        recordings.into_iter().map(move |recording| (folder.clone(), format, recording))
    };
    folders(&Path::new(ROOT).join("tests/recordings")).into_iter().flat_map(each)
}

fn sum(trees: &[Value], field: &str) -> u64 {
    trees.iter().map(|tree| tree[field].as_u64().unwrap()).sum()
}

fn nodes(trees: &[Value]) -> impl Iterator<Item = &Value> {
    trees.iter().flat_map(|tree| tree["nodes"].as_array().unwrap())
}

#[test]
fn the_tokens_of_every_recording_count_once() {
    for (folder, format, recording) in recordings() {
        let name = format!("{folder}/{}", recording.name);
        let trees = trees(&["--from", format, recording.lines.to_str().unwrap()]);
        let expected = &recording.expected;
        for (field, tokens) in [("input_tokens", expected.input_tokens), ("output_tokens", expected.output_tokens)] {
            if let Some(tokens) = tokens {
                assert_eq!(sum(&trees, field), tokens, "{field} of {name}");
            }
        }
        let roots = nodes(&trees).filter(|node| node["depth"] == 0).count() as u64;
        assert!(roots >= expected.tasks, "{name}: {roots} roots of {} tasks", expected.tasks);
        if expected.tool_errors > 0 {
            assert!(sum(&trees, "errors") > 0, "{name}");
        }
        for tree in &trees {
            assert!(tree["nodes"][0]["critical_ms"].is_number(), "{name}: {}", tree["trace_id"]);
        }
    }
}

#[test]
fn the_spans_of_a_protobuf_body_are_those_of_its_json() {
    let mut compared = 0;
    for (folder, _, recording) in recordings() {
        // Of long recordings, only some bodies are kept.
        let lines = std::fs::read_to_string(&recording.lines).unwrap().lines().count();
        if recording.bodies.len() != lines {
            continue;
        }
        compared += 1;
        let bodies: Vec<&str> = recording.bodies.iter().map(|body| body.to_str().unwrap()).collect();
        let of_bodies = trees(&bodies);
        assert_eq!(of_bodies, trees(&[recording.lines.to_str().unwrap()]), "{folder}/{}", recording.name);
        assert!(!of_bodies.is_empty());
    }
    assert!(compared > 20, "{compared} recordings");
}

/// Spans of an export are shown as they are, also those that are no event of an agent.
#[test]
fn a_trace_of_an_export_has_all_its_spans() {
    let file = "tests/recordings/otlp-strands/client_retry.jsonl";
    let request: Value = serde_json::from_str(&std::fs::read_to_string(Path::new(ROOT).join(file)).unwrap()).unwrap();
    let lists = request["resourceSpans"].as_array().unwrap().iter().flat_map(|of| of["scopeSpans"].as_array().unwrap());
    let spans: usize = lists.map(|scope| scope["spans"].as_array().unwrap().len()).sum();
    let trees = trees(&[file]);
    assert_eq!(nodes(&trees).count(), spans);
    let retries = nodes(&trees).filter(|node| node["attempt_number"].as_u64() > Some(1)).count() as u64;
    assert!(retries > 0 && sum(&trees, "retries") == retries);
}

/// The root span of a run that raises is lost in this instrumentation.
#[test]
fn a_span_that_was_lost_is_named() {
    let trees = trees(&["tests/recordings/otlp-smolagents/task_failure.jsonl"]);
    let hops: Vec<&Value> = trees.iter().flat_map(|tree| tree["broken_hops"].as_array().unwrap()).collect();
    assert_eq!((hops.len(), &hops[0]["reason"]), (1, &"missing_parent".into()));
}

const DELEGATION: &str = r#"{"event":"llm_call","time":1790000001,"agent":"planner","task":"t-1","trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"00000000000000a1","parent_span_id":"00000000000000a0","model":"gpt-4o","input_tokens":1200,"output_tokens":300,"cost_usd":"0.006","duration_ms":1000}
{"event":"tool_call","time":1790000003,"agent":"planner","task":"t-1","trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"00000000000000a2","parent_span_id":"00000000000000a0","tool":"search","error":"timed out","duration_ms":2000}
{"event":"tool_call","time":1790000004,"agent":"planner","task":"t-1","trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"00000000000000a3","parent_span_id":"00000000000000a0","tool":"search","duration_ms":500}
{"event":"task_finished","time":1790000004,"agent":"planner","task":"t-1","trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"00000000000000a0","success":true,"duration_ms":4000}
{"event":"step_finished","time":1790000009,"agent":"writer","task":"t-2","trace_id":"1af7651916cd43dd8448eb211c80319c","span_id":"00000000000000b1","parent_span_id":"00000000000000b0","name":"write","duration_ms":1000}
"#;

#[test]
fn a_trace_is_chosen_by_its_task_or_its_id() {
    let expected = "\
trace 0af7651916cd43dd8448eb211c80319c: 4 s, 4 spans, 1 error, 1 retry, 1,500 tokens, $0.006

   duration        self      tokens        cost  timeline                  span
        4 s      500 ms       1,500      $0.006  ████████████████████████  invoke_agent planner [planner]
        1 s         1 s       1,500      $0.006  ██████                    ├─ chat gpt-4o
        2 s         2 s                                ████████████        ├─ ✗ execute_tool search, attempt 1: timed out
     500 ms      500 ms                                               ███  └─ execute_tool search, attempt 2

█ on the critical path  ▒ beside it  ✗ failed
";
    for choice in [["--task", "t-1"], ["--trace", "0af7651916cd43dd8448eb211c80319c"]] {
        let (code, shown, errors) = show(&["--from", "sre", choice[0], choice[1], "-"], DELEGATION);
        assert_eq!((code, &*shown, &*errors), (0, expected, ""));
    }
    let (code, chart, _) = show(&["--task", "t-1", "--output", "mermaid", "-"], DELEGATION);
    assert!(code == 0 && chart.starts_with("flowchart LR\n"), "{chart}");
    let (_, shown, _) = show(&["-"], DELEGATION);
    assert!(
        shown.contains("\nbroken hop: span 00000000000000b0 was not recorded; `write` (writer) is below it\n"),
        "{shown}"
    );
}

#[test]
fn what_is_not_found_is_said() {
    for (arguments, expected) in [
        (&["--task", "t-9", "-"][..], "error: found no task `t-9` in the input, which has 2 traces\n"),
        (
            &["--trace", "2af7651916cd43dd8448eb211c80319c", "-"],
            "error: found no trace 2af7651916cd43dd8448eb211c80319c in the input, which has 2 traces\n",
        ),
        (&["--output", "mermaid", "-"], "error: found 2 traces, expected one: choose it by `--trace` or `--task`\n"),
    ] {
        let (code, shown, errors) = show(arguments, DELEGATION);
        assert_eq!((code, &*shown, &*errors), (2, "", expected));
    }
    let (code, _, errors) = show(&["--trace", "xyz", "-"], "");
    assert!(code == 2 && errors.contains("found `xyz`, expected 32 hex digits"), "{errors}");
    let (code, _, errors) = show(&["--from", "sre", "-"], "");
    assert_eq!((code, &*errors), (2, "error: found no spans in the input\n"));
}

const OBJECTIVES: &str = "
name: answers
target: 0.9
indicators:
  - {type: task_success_rate, target: 0.9}
---
name: tools
target: 0.9
good_when: {event: tool_call}
---
name: all
composite: {method: worst, objectives: [{name: answers}, {name: tools}]}
";

fn list(folder: &Path, arguments: &[&str], stdin: &str) -> (i32, String, String) {
    let file = folder.join("slos.yaml");
    std::fs::write(&file, OBJECTIVES).unwrap();
    let output = sre(&[&["trace", "list", "--objectives", file.to_str().unwrap()], arguments].concat(), stdin);
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_tasks_that_spent_the_error_budget_of_every_recording_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    for (of, format, recording) in recordings() {
        let name = format!("{of}/{}", recording.name);
        let input = recording.lines.to_str().unwrap();
        let expected = &recording.expected;
        for (slo, counted, bad) in
            [("answers", expected.tasks, expected.failed), ("tools", expected.tool_calls, expected.tool_errors)]
        {
            let listed = |options: &[&str]| -> Vec<Value> {
                let arguments = [&["--slo", slo, "--from", format, "--output", "json"], options, &[input]].concat();
                let (code, json, errors) = list(folder.path(), &arguments, "");
                assert_eq!((code, &*errors), (0, ""), "{name}");
                serde_json::from_str(&json).unwrap()
            };
            let (all, only_bad) = (listed(&[]), listed(&["--bad"]));
            assert_eq!(sum(&all, "good") + sum(&all, "bad"), counted, "{slo} of {name}");
            assert_eq!((sum(&all, "bad"), sum(&only_bad, "bad")), (bad, bad), "{slo} of {name}");
            assert!(only_bad.iter().all(|row| row["bad"].as_u64() > Some(0)), "{slo} of {name}");
        }
    }
}

#[test]
fn traces_are_listed_by_start() {
    let (code, listed, errors) = {
        let output = sre(&["trace", "list", "-"], DELEGATION);
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let expected = " start                 trace                             agent    task  total
 2026-09-21T14:13:20Z  0af7651916cd43dd8448eb211c80319c  planner  t-1   4 s, 4 spans, 1 error, 1 retry, 1,500 tokens, $0.006
 2026-09-21T14:13:28Z  1af7651916cd43dd8448eb211c80319c  writer   t-2   1 s, 1 span, 1 broken hop
";
    assert_eq!((code, &*listed, &*errors), (0, expected, ""));
    let folder = tempfile::tempdir().unwrap();
    let (code, listed, errors) = list(folder.path(), &["--slo", "tools", "--bad", "-"], DELEGATION);
    let expected = " start                 trace                             agent    task  bad  slow  total
 2026-09-21T14:13:20Z  0af7651916cd43dd8448eb211c80319c  planner  t-1   1    0     4 s, 4 spans, 1 error, 1 retry, 1,500 tokens, $0.006
1 of 2 events of tools bad, 0 slow
";
    assert_eq!((code, &*listed, &*errors), (0, expected, ""));
    for (slo, expected) in [
        ("none", "error: found no objective `none`, expected `answers`, `tools`, `all`\n"),
        ("all", "error: `all`: found a composite objective, expected one of those that it is made of\n"),
    ] {
        let (code, _, errors) = list(folder.path(), &["--slo", slo, "-"], DELEGATION);
        assert_eq!((code, &*errors), (2, expected));
    }
}

/// Both tasks succeed, in 4 s, of which the first call of a model takes 1.2 s to answer.
#[test]
fn the_tasks_that_spent_the_budget_of_a_latency_indicator_are_listed() {
    let task = |id: u8, first_token_ms: u32| {
        let line = |event: &str| format!(r#"{{"time":179000000{id},"agent":"a","task":"t-{id}",{event}}}"#);
        [
            line(&format!(r#""event":"llm_call","first_token_ms":{first_token_ms}"#)),
            line(r#""event":"task_finished","success":true,"duration_ms":4000"#),
        ]
        .join("\n")
    };
    let input = [task(1, 1_200), task(2, 900)].join("\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slos.yaml");
    let slow_tasks = |service: &str, indicator: &str, target_ms: u32| {
        let objective = format!(
            "name: fast\ntarget: 0.9\n{service}indicators:\n  - {{type: {indicator}, target_ms: {target_ms}}}\n"
        );
        std::fs::write(&file, objective).unwrap();
        let objectives = ["--objectives", file.to_str().unwrap(), "--slo", "fast", "--bad"];
        let output = sre(&[&["trace", "list"], &objectives[..], &["--output", "json", "-"]].concat(), &input);
        assert_eq!(text(&output.stderr), "");
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert!(rows.iter().all(|row| (&row["bad"], &row["slow"]) == (&0.into(), &1.into())), "{rows:?}");
        rows.iter().map(|row| row["task"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(slow_tasks("", "response_latency", 3_999), ["t-1", "t-2"]);
    assert!(slow_tasks("", "response_latency", 4_000).is_empty(), "the target itself is met");
    assert_eq!(slow_tasks("", "time_to_first_token", 1_000), ["t-1"]);
    assert_eq!(slow_tasks("service: a\n", "time_to_first_token", 1_000), ["t-1"]);
    assert!(slow_tasks("service: b\n", "time_to_first_token", 1_000).is_empty(), "an objective of another agent");
}

#[test]
fn a_bad_task_is_named_although_its_trace_begins_with_a_good_one() {
    let task = |span: u8, agent: &str, task: &str, success: bool| {
        format!(
            r#"{{"event":"task_finished","time":17900000{span:02},"agent":"{agent}","task":"{task}","trace_id":"{:032x}","span_id":"{span:016x}","success":{success},"duration_ms":10}}"#,
            7
        )
    };
    let input = [task(1, "a", "good", true), task(2, "b", "bad", false)].join("\n");
    let folder = tempfile::tempdir().unwrap();
    let (code, json, errors) = list(folder.path(), &["--slo", "answers", "--bad", "--output", "json", "-"], &input);
    assert_eq!((code, &*errors), (0, ""));
    let rows: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&rows[0]["agent"], &rows[0]["task"]), (&"b".into(), &"bad".into()), "{json}");
}

#[test]
fn each_bad_task_of_a_trace_is_listed() {
    let task = |span: u8, task: &str, success: bool| {
        format!(
            r#"{{"event":"task_finished","time":17900000{span:02},"agent":"a","task":"{task}","trace_id":"{:032x}","span_id":"{span:016x}","success":{success},"duration_ms":1000}}"#,
            7
        )
    };
    let tasks = [("t-10", false), ("t-2", false), ("good", true), ("t-3", false)];
    let lines: Vec<String> = tasks.iter().zip(1..).map(|((name, success), span)| task(span, name, *success)).collect();
    let folder = tempfile::tempdir().unwrap();
    let (code, listed, errors) = list(folder.path(), &["--slo", "answers", "--bad", "-"], &lines.join("\n"));
    let expected = " start                 trace                             agent  task  bad  slow  total
 2026-09-21T14:13:20Z  00000000000000000000000000000007  a      t-10  1    0     4 s, 4 spans, 3 errors
 2026-09-21T14:13:20Z  00000000000000000000000000000007  a      t-2   1    0     4 s, 4 spans, 3 errors
 2026-09-21T14:13:20Z  00000000000000000000000000000007  a      t-3   1    0     4 s, 4 spans, 3 errors
3 of 4 events of answers bad, 0 slow
";
    assert_eq!((code, &*listed, &*errors), (0, expected, ""));
    // All of them, in a row for their trace.
    let (_, json, _) = list(folder.path(), &["--slo", "answers", "--output", "json", "-"], &lines.join("\n"));
    let rows: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (rows.len(), &rows[0]["good"], &rows[0]["bad"], &rows[0]["task"]),
        (1, &1.into(), &3.into(), &"t-10".into())
    );
}

/// Starts a service that has received these events, and waits until it has stored a trace of them.
fn service_with_a_bad_trace(folder: &Path, events: &'static str) -> Service {
    let file = folder.join("slos.yaml");
    std::fs::write(&file, OBJECTIVES).unwrap();
    let data = folder.join("data");
    let service = Service::of(serve(&[
        "--listen",
        "127.0.0.1:0",
        "--data",
        data.to_str().unwrap(),
        "--slo",
        file.to_str().unwrap(),
    ]));
    let client = Client::new(Options::default()).unwrap();
    let request = Request::post(format!("{}/v1/events/sre", service.url)).body(events.into()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(runtime.block_on(client.send(request)).unwrap().status().is_success());
    let begun = Instant::now();
    while sre(&["trace", "list", "--url", &service.url], "").stdout.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "no trace is listed");
    }
    service
}

#[test]
fn the_traces_that_the_service_keeps_are_listed_and_shown_as_those_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let service = service_with_a_bad_trace(folder.path(), DELEGATION);
    let run = |arguments: &[&str]| {
        let output = sre(&[&["trace"], arguments, &["--url", &service.url]].concat(), "");
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let expected = " start                 trace                             agent    task  objective  bad  slow  total
 2026-09-21T14:13:20Z  0af7651916cd43dd8448eb211c80319c  planner  t-1   tools      1    0     4 s, 4 spans, 1 error, 1 retry, 1,500 tokens, $0.006
";
    for filter in [&[][..], &["--slo", "tools", "--bad"]] {
        let (code, listed, errors) = run(&[&["list"], filter].concat());
        assert_eq!((code, &*listed, &*errors), (0, expected, ""), "{filter:?}");
    }
    assert_eq!(run(&["list", "--slo", "answers"]), (0, String::new(), String::new()));
    let unknown =
        "error: the service answered 404 Not Found: found no objective `tool`; /v1/slos lists the objectives\n";
    assert_eq!(run(&["list", "--slo", "tool"]), (2, String::new(), unknown.to_owned()));
    let (_, listed, _) = run(&["list", "--output", "json"]);
    let row = &serde_json::from_str::<Value>(&listed).unwrap()[0];
    assert_eq!((&row["slo"], &row["bad"], &row["spans"]), (&"tools".into(), &1.into(), &4.into()));

    // Only the text of the error is not kept.
    for output in ["text", "json", "mermaid"] {
        let (_, of_file, _) = show(&["--task", "t-1", "--output", output, "-"], DELEGATION);
        for choice in [["--task", "t-1"], ["--trace", "0af7651916cd43dd8448eb211c80319c"]] {
            let (code, shown, errors) = run(&[&["show"], &choice[..], &["--output", output]].concat());
            assert_eq!((code, shown, &*errors), (0, of_file.replace("timed out", "failed"), ""));
        }
    }
    for (arguments, expected) in [
        (
            &["show", "--task", "t-9"][..],
            "error: found no trace of task `t-9`; the service keeps those of the last bad and slow tasks of each objective\n",
        ),
        (
            &["show", "--trace", "2af7651916cd43dd8448eb211c80319c"],
            "error: the service answered 404 Not Found: found no trace 2af7651916cd43dd8448eb211c80319c; /v1/traces lists the \
             traces of the last bad and slow tasks\n",
        ),
        (
            &["show"],
            "error: found `--url` alone, expected `--trace` or `--task` with it; `sre trace list` lists the traces\n",
        ),
    ] {
        assert_eq!(run(arguments), (2, String::new(), expected.to_owned()));
    }
}

/// The writer has received the planner's message, but not its trace context.
const DROPPED_CONTEXT: &str = r#"{"event":"span_finished","time":1790000003,"agent":"writer","trace_id":"1af7651916cd43dd8448eb211c80319c","span_id":"00000000000000b1","span":{"name":"SendMessage","role":"server","agent":"writer","call_id":"m-1"},"duration_ms":1000}
{"event":"span_finished","time":1790000004,"agent":"planner","trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"00000000000000a1","span":{"name":"SendMessage","role":"client","agent":"planner","parent_span_id":"00000000000000a0","call_id":"m-1"},"duration_ms":3000}
{"event":"tool_call","time":1790000005,"agent":"planner","task":"t-1","trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"00000000000000a2","parent_span_id":"00000000000000a0","tool":"search","error":"timed out","duration_ms":1000}
{"event":"task_finished","time":1790000005,"agent":"planner","task":"t-1","trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"00000000000000a0","success":true,"duration_ms":4000}
"#;

#[test]
fn a_context_that_was_dropped_is_shown_in_the_traces_that_the_service_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let service = service_with_a_bad_trace(folder.path(), DROPPED_CONTEXT);
    let planner = ["--trace", "0af7651916cd43dd8448eb211c80319c"];
    for (output, hop) in [
        ("text", "\nbroken hop: the trace context was lost between `SendMessage` (planner) in trace 0af7"),
        ("json", r#""reason": "dropped_context""#),
        ("mermaid", "the trace context was lost between"),
    ] {
        let (_, of_file, _) = show(&[&planner[..], &["--output", output, "-"]].concat(), DROPPED_CONTEXT);
        assert!(of_file.contains(hop), "{of_file}");
        let (code, shown, errors) = show(&[&planner[..], &["--output", output, "--url", &service.url]].concat(), "");
        assert_eq!((code, shown, &*errors), (0, of_file.replace("timed out", "failed"), ""));
    }
}

#[test]
fn the_input_is_either_files_or_a_service() {
    for (arguments, expected) in [
        (
            &["list", "--slo", "answers", "-"][..],
            "error: `--slo`: expected `--objectives` with it, which has the objective\n",
        ),
        (&["list", "--bad", "-"], "error: `--bad`: expected `--slo` with it\n"),
    ] {
        let output = sre(&[&["trace"], arguments].concat(), DELEGATION);
        assert_eq!((output.status.code(), &*text(&output.stderr)), (Some(2), expected), "{arguments:?}");
    }
    let nothing = sre(&["trace", "show"], "");
    assert!(text(&nothing.stderr).contains("<INPUT>..."), "{}", text(&nothing.stderr));
    for both in [&["--url", "127.0.0.1:1", "-"][..], &["--url", "127.0.0.1:1", "--from", "sre"]] {
        let output = sre(&[&["trace", "show"], both].concat(), "");
        assert!(text(&output.stderr).contains("cannot be used with"), "{both:?}: {}", text(&output.stderr));
    }
}
