//! The traces of the last bad and slow tasks of each objective.

mod common;

use std::fs;
use std::path::Path;

use agent_sre::trace::TailSamplerOptions;
use agent_sre::{Redaction, TraceLimits};
use common::{Service, own_slos};
use http::StatusCode;
use serde_json::{Value, json};
use sre_server::Config;

const SLOS: &str = "name: answers\ntarget: 0.9\nindicators: [{type: response_latency, target_ms: 500}]\n";

/// Returns the lines of a task of `support`, which calls a model and a tool, and ends a second later.
fn task(name: &str, success: bool, duration_ms: u64) -> String {
    let time = agent_sre::Clock::now(&agent_sre::SystemClock).to_string();
    let line = |event: Value| {
        let mut line = json!({"time": time, "agent": "support", "task": name});
        line.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
        format!("{line}\n")
    };
    [
        json!({"event": "llm_call", "model": "gpt-4o", "duration_ms": 100, "input_tokens": 5, "cost_usd": "0.01"}),
        json!({
            "event": "tool_call", "tool": "search", "success": success, "duration_ms": 50,
            "error": if success { Value::Null } else { json!("no access with key sre-5ec3e7") },
            "arguments": {"query": "sre-5ec3e7"}, "attributes": {"gen_ai.tool.call.arguments": "sre-5ec3e7"},
        }),
        json!({"event": "task_finished", "success": success, "duration_ms": duration_ms}),
    ]
    .map(line)
    .concat()
}

async fn listed(service: &Service, query: &str) -> Vec<String> {
    let traces = service.get(&format!("/v1/traces{query}")).await;
    traces["traces"].as_array().unwrap().iter().map(|trace| trace["task"].as_str().unwrap().to_owned()).collect()
}

async fn until_listed(service: &Service, count: usize) -> Value {
    service.until("/v1/traces", |answer| answer["traces"].as_array().unwrap().len() == count).await
}

#[tokio::test]
async fn bad_and_slow_tasks_are_listed_and_shown_as_trees_and_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(own_slos(folder.path(), SLOS)).await;
    for lines in [task("good", true, 200), task("failed", false, 200), task("slow", true, 900)] {
        service.events(&lines).await;
    }
    let traces = until_listed(&service, 2).await;
    assert_eq!(listed(&service, "?slo=answers&agent=support").await, ["slow", "failed"]);
    assert_eq!(listed(&service, "?slo=answers&bad=true").await, ["failed"]);
    assert_eq!(listed(&service, "?bad=false&limit=1").await, ["slow"]);
    assert_eq!(listed(&service, "?task=failed").await, ["failed"]);
    assert!(listed(&service, "?slo=other").await.is_empty());
    let row = &traces["traces"][1];
    assert_eq!((&row["spans"], &row["bad"], &row["slow"]), (&json!(3), &json!(1), &json!(0)));
    assert_eq!(
        (&row["cost_usd"], &row["duration_ms"], &row["slo"]),
        (&json!("0.01"), &json!(200.0), &json!("answers"))
    );

    let address = format!("/v1/traces/{}", row["trace_id"].as_str().unwrap());
    let tree = service.get(&address).await;
    let nodes = tree["nodes"].as_array().unwrap();
    let names: Vec<_> =
        nodes.iter().map(|node| (node["name"].as_str().unwrap(), node["depth"].as_u64().unwrap())).collect();
    assert_eq!(names, [("invoke_agent support", 0), ("chat gpt-4o", 1), ("execute_tool search", 1)]);
    assert_eq!(nodes[2]["error"], "failed");
    // Telemetry is still received at this address.
    let sent = service.post("/v1/traces", "application/json", "{\"resourceSpans\": []}").await;
    assert_eq!(sent.status(), StatusCode::OK);
    service.server.stop().await;

    let service = Service::start(own_slos(folder.path(), SLOS)).await;
    assert_eq!(until_listed(&service, 2).await, traces);
    assert_eq!(service.get(&address).await, tree);
    for (address, status, error) in [
        ("/v1/traces/12", StatusCode::BAD_REQUEST, "trace id: found `12`, expected 32 hex digits"),
        ("/v1/traces?limit=101", StatusCode::BAD_REQUEST, "`limit`: found 101, expected a number from 0 to 100"),
        (
            "/v1/traces/0af7651916cd43dd8448eb211c80319c",
            StatusCode::NOT_FOUND,
            "found no trace 0af7651916cd43dd8448eb211c80319c; /v1/traces lists the traces of the last bad and slow tasks",
        ),
    ] {
        let answer = service.get_raw(address).await;
        assert_eq!(answer.status(), status, "{address}");
        assert_eq!(serde_json::from_slice::<Value>(answer.body()).unwrap(), json!({"error": error}));
    }
    service.server.stop().await;
}

/// Copies the files of a data folder as they are after a kill.
fn copy(data: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(data).unwrap() {
        let file = file.unwrap();
        // The index of a write-ahead log is shared memory, which a process that starts builds again.
        if file.file_type().unwrap().is_file() && !file.file_name().to_string_lossy().ends_with("-shm") {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn a_kill_loses_and_repeats_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(own_slos(folder.path(), SLOS)).await;
    for number in 0..8 {
        service.events(&task(&format!("t{number}"), number % 2 == 0, 900)).await;
        until_listed(&service, number + 1).await;
    }
    let traces = until_listed(&service, 8).await;
    for (number, is_deleted) in [false, true].into_iter().enumerate() {
        let killed = folder.path().join(number.to_string());
        copy(&folder.path().join("data"), &killed.join("data"));
        if is_deleted {
            for name in ["traces.db", "traces.db-wal"] {
                let _ = fs::remove_file(killed.join("data").join(name));
            }
        }
        let restarted = Service::start(own_slos(&killed, SLOS)).await;
        assert_eq!(until_listed(&restarted, 8).await, traces, "traces.db deleted: {is_deleted}");
        restarted.server.stop().await;
    }
    service.server.stop().await;
}

#[tokio::test]
async fn no_secret_and_no_content_reaches_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(own_slos(folder.path(), SLOS)).await;
    service.events(&task("failed", false, 200)).await;
    until_listed(&service, 1).await;
    service.server.stop().await;
    let has_secret = |name: &str| {
        let bytes = fs::read(folder.path().join("data").join(name)).unwrap_or_default();
        bytes.windows(10).any(|part| part == b"sre-5ec3e7")
    };
    assert!(!has_secret("traces.db") && !has_secret("traces.db-wal"));
}

#[tokio::test]
async fn no_name_of_a_kept_trace_has_an_api_key_unless_asked_for() {
    const KEY: &str = "sk-proj-4f6Qz8TtYw2mLr9xKb3dVn7s";
    let lines = task("failed", false, 200);
    let named = lines.replace("\"search\"", &format!("\"search with {KEY}\""));
    let step =
        lines.lines().next().unwrap().replace("\"llm_call\"", &format!("\"step_finished\",\"name\":\"call_{KEY}\""));
    let texts = TailSamplerOptions { texts: true, ..Default::default() };
    for secrets in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let redact = Redaction { secrets, ..Redaction::default() };
        let config = Config { redact, traces: texts.clone(), ..own_slos(folder.path(), SLOS) };
        let service = Service::start(config).await;
        service.events(&format!("{step}\n{}", named.replace("sre-5ec3e7", KEY))).await;
        let listed = until_listed(&service, 1).await;
        let address = format!("/v1/traces/{}", listed["traces"][0]["trace_id"].as_str().unwrap());
        let tree = service.get(&address).await;
        let nodes = tree["nodes"].as_array().unwrap();
        let names: Vec<&str> = nodes.iter().map(|node| node["name"].as_str().unwrap()).collect();
        // Equal keys stay equal, so that names stay different.
        let key = names.iter().find_map(|name| name.strip_prefix("call_")).unwrap();
        assert!(names.contains(&&*format!("execute_tool search with {key}")), "{tree}");
        assert!(nodes.iter().any(|node| node["error"] == format!("no access with key {key}")), "{tree}");
        let digits = key.strip_prefix("redacted-").unwrap_or_default();
        assert_eq!((key == KEY, digits.len()), if secrets { (false, 32) } else { (true, 0) });
        assert_eq!(tree.to_string().contains(KEY), !secrets, "{tree}");
        service.server.stop().await;
    }
}

#[tokio::test]
async fn texts_of_errors_are_kept_if_asked_for_and_nothing_if_turned_off() {
    let folder = tempfile::tempdir().unwrap();
    let traces = TailSamplerOptions { texts: true, ..Default::default() };
    let service = Service::start(Config { traces, ..own_slos(folder.path(), SLOS) }).await;
    service.events(&task("failed", false, 200)).await;
    let listed = until_listed(&service, 1).await;
    let tree = service.get(&format!("/v1/traces/{}", listed["traces"][0]["trace_id"].as_str().unwrap())).await;
    assert_eq!(tree["nodes"][2]["error"], "no access with key sre-5ec3e7");
    service.server.stop().await;

    let limits = TraceLimits { bad_per_objective: 0, slow_per_objective: 0, ..Default::default() };
    let traces = TailSamplerOptions { limits, ..Default::default() };
    let service = Service::start(Config { traces, ..own_slos(folder.path(), SLOS) }).await;
    assert_eq!(service.get("/v1/traces").await, json!({"traces": []}));
    service.server.stop().await;
}

/// A planner asks a writer over A2A, whose server begins a trace of its own, and which calls a tool over MCP.
#[tokio::test]
async fn a_trace_from_opentelemetry_is_kept_as_it_was_sent_and_names_where_the_context_was_lost() {
    let [planner, writer] = ["0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c80319c"];
    let now = agent_sre::Clock::now(&agent_sre::SystemClock).as_nanos();
    let span =
        |trace: &str, [id, parent]: [u8; 2], (name, kind): (&str, u8), [from, to]: [i64; 2], attributes: Value| {
            let attributes = attributes.as_object().unwrap().iter();
            let attributes: Vec<Value> =
                attributes.map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect();
            let nanos = |ms: i64| (now - 10_000_000_000 + ms * 1_000_000).to_string();
            json!({
                "traceId": trace, "spanId": format!("{id:016x}"), "name": name, "kind": kind, "attributes": attributes,
                "parentSpanId": if parent == 0 { String::new() } else { format!("{parent:016x}") },
                "startTimeUnixNano": nanos(from), "endTimeUnixNano": nanos(to),
            })
        };
    let agent = |name: &str| json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name});
    let message = || json!({"a2a.method.name": "SendMessage", "a2a.message.id": "m-1"});
    let tool = || json!({"mcp.method.name": "tools/call", "gen_ai.tool.name": "search"});
    let send = |service: &'static str, spans: Vec<Value>| {
        let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": service}}]});
        json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}).to_string()
    };
    let mut failed = span(planner, [1, 0], ("invoke_agent planner", 1), [0, 900], agent("planner"));
    failed["status"] = json!({"code": 2, "message": "no answer"});
    let of_planner = vec![
        span(planner, [2, 1], ("SendMessage", 3), [10, 800], message()),
        span(planner, [3, 2], ("POST", 3), [20, 790], json!({"server.address": "writer.example"})),
        failed,
    ];
    let of_writer = vec![
        span(writer, [7, 6], ("tools/call search", 2), [120, 300], tool()),
        span(writer, [6, 5], ("tools/call search", 3), [110, 310], tool()),
        span(writer, [5, 4], ("invoke_agent writer", 1), [100, 500], agent("writer")),
        span(writer, [4, 0], ("SendMessage", 2), [90, 750], message()),
    ];

    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(own_slos(folder.path(), SLOS)).await;
    for body in [send("shop", of_planner), send("writing", of_writer)] {
        assert_eq!(service.post("/v1/traces", "application/json", body).await.status(), StatusCode::OK);
    }
    until_listed(&service, 1).await;
    let tree = service
        .until(&format!("/v1/traces/{planner}"), |tree| {
            tree["broken_hops"].as_array().is_some_and(|hops| !hops.is_empty())
        })
        .await;
    let nodes = tree["nodes"].as_array().unwrap();
    let shown = |node: &Value| {
        let text = |field: &str| node[field].as_str().unwrap_or_default().to_owned();
        (node["depth"].as_u64().unwrap(), text("name"), text("role"), text("agent"), text("service"))
    };
    let expected = |depth, name: &str, role: &str| (depth, name.into(), role.into(), "planner".into(), "shop".into());
    assert_eq!(
        nodes.iter().map(shown).collect::<Vec<_>>(),
        [
            expected(0, "invoke_agent planner", "internal"),
            expected(1, "SendMessage", "client"),
            expected(2, "POST", "client")
        ]
    );
    let hop = &tree["broken_hops"][0];
    assert_eq!((&hop["reason"], &hop["caller"]["span_id"]), (&json!("dropped_context"), &json!("0000000000000002")));
    assert_eq!((&hop["receiver"]["trace_id"], &hop["receiver"]["agent"]), (&json!(writer), &json!("writing")));
    service.server.stop().await;
}
