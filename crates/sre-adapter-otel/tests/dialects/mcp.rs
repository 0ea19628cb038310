//! Requests of the Model Context Protocol: clients and servers of the conventions, and of the Python package `mcp`.

use super::*;

const CLIENT: u64 = 3;
const SERVER: u64 = 2;
/// The flags of a span whose parent is in another process.
const REMOTE: u64 = 0x300;

fn call(id: u32, parent: u32, kind: u64) -> Value {
    let attributes = json!({
        "mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search",
        "gen_ai.tool.call.arguments": "{\"q\":1}",
    });
    with(span(id, parent, "tools/call search", 100, 200, attributes), "kind", json!(kind))
}

pub(super) fn method(id: u32, parent: u32, kind: u64, method: &str, name: &str) -> Value {
    with(span(id, parent, name, 100, 200, json!({"mcp.method.name": method})), "kind", json!(kind))
}

fn agent() -> Value {
    span(1, 0, "a", 0, 900, json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}))
}

/// Returns the agent, tool, success and whether it belongs to a task, of each tool call.
fn tool_calls(events: &[AgentEvent]) -> Vec<(&str, &str, bool, bool)> {
    events
        .iter()
        .filter_map(|event| match &event.event {
            Event::ToolCall(call) => Some((&*event.agent, &*call.tool, call.success, event.task.is_some())),
            _ => None,
        })
        .collect()
}

#[test]
fn a_request_alone_is_no_task() {
    for kind in [CLIENT, SERVER] {
        let events = read(&[call(1, 0, kind)]);
        assert_eq!((tool_calls(&events), finished(&events)), (vec![("shop", "search", true, false)], vec![]));
        for name in ["initialize", "tools/list", "notifications/initialized"] {
            assert_eq!(read(&[method(1, 0, kind, name, name)]).len(), 0, "{name}");
        }
    }
    // Spans of the Python package have no attributes of the tool.
    let events = read(&[failed(method(1, 0, CLIENT, "tools/call", "MCP send tools/call search"))]);
    assert_eq!((tool_calls(&events), finished(&events)), (vec![("shop", "search", false, false)], vec![]));
    // A model that the server asks belongs to no task either.
    let chat = span(2, 1, "chat", 110, 150, json!({"gen_ai.operation.name": "chat"}));
    let events = read(&[call(1, 0, SERVER), chat]);
    assert_eq!((tool_calls(&events).len(), model_calls(&events).len(), finished(&events)), (1, 1, vec![]));
}

#[test]
fn a_request_inside_of_a_tool_call_is_its_execution() {
    let tool =
        span(2, 1, "execute_tool", 90, 210, json!({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t"}));
    let between = span(3, 2, "thread", 95, 205, json!({}));
    let list = method(7, 1, CLIENT, "tools/list", "tools/list");
    let spans = |client: Value| [agent(), list.clone(), tool.clone(), between.clone(), client, call(5, 4, SERVER)];
    let events = read(&spans(call(4, 3, CLIENT)));
    assert_eq!((tool_calls(&events), finished(&events)), (vec![("a", "t", true, true)], vec![("a", true, false)]));
    let events = read(&spans(failed(call(4, 3, CLIENT))));
    assert_eq!((tool_calls(&events), finished(&events)), (vec![("a", "t", false, true)], vec![("a", true, false)]));
    // Without a span of the framework, the request is the call.
    let events = read(&[agent(), call(4, 1, CLIENT), call(5, 4, SERVER)]);
    assert_eq!(tool_calls(&events), [("a", "search", true, true)]);
}

/// The server exports its span, whose parent is in the client's process, before the agent exports its root.
#[test]
fn the_server_of_a_client_that_is_traced_reports_nothing_of_its_own() {
    let served = with(call(5, 4, SERVER), "flags", json!(REMOTE));
    assert_eq!(read(std::slice::from_ref(&served)).len(), 0);
    let (mut adapter, mut events) = (OtelAdapter::default(), Vec::new());
    let start = Timestamp::from_nanos(START as i64);
    for (second, spans) in [(0, vec![served]), (10, vec![call(4, 1, CLIENT)]), (20, vec![agent()])] {
        let arrived = start.saturating_add(std::time::Duration::from_secs(second));
        let limits = IngestLimits::live(arrived, std::time::Duration::from_secs(300));
        adapter.expire(arrived, &mut |event| events.push(event));
        adapter.ingest_record(&request(&spans), &limits, &mut |event| events.push(event)).unwrap();
    }
    adapter.finish(&mut |event| events.push(event));
    assert_eq!((tool_calls(&events), finished(&events)), (vec![("a", "search", true, true)], vec![("a", true, false)]));
}

#[test]
fn a_task_whose_root_never_comes_is_incomplete_in_spite_of_its_requests() {
    let served = with(call(5, 4, SERVER), "flags", json!(REMOTE));
    assert_eq!(finished(&read(&[call(4, 1, CLIENT), served])), [("shop", false, true)]);
}
