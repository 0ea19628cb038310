//! Requests that a client sent again are attempts of one operation.

use serde_json::json;

use super::{client, failed, finished, model_calls, read, span};

#[test]
fn a_request_that_is_sent_again_is_another_attempt_of_one_operation() {
    let request = |id: u32, from: u64, resent: Option<u32>| {
        let mut attributes = json!({"server.address": "api.openai.com"});
        if let Some(resent) = resent {
            attributes["http.request.resend_count"] = json!(resent);
        }
        client(id, 1, from, attributes)
    };
    let spans = [
        span(1, 0, "POST /ask", 0, 900, json!({})),
        failed(request(2, 10, None)),
        failed(request(3, 30, Some(1))),
        request(4, 50, Some(2)),
        request(5, 70, None),
    ];
    let events = read(&spans);
    let calls = model_calls(&events);
    let attempts: Vec<_> = calls.iter().map(|call| (call.attempt, call.operation_id.as_deref())).collect();
    assert_eq!(attempts, [(Some(3), Some("0000000000000002")), (None, None)]);
    assert!(calls.iter().all(|call| call.success));
    assert_eq!(calls[0].duration_ms, Some(50.0), "from the start of the first attempt");
    assert_eq!(finished(&events), [("shop", true, false)]);
}

#[test]
fn the_requests_below_a_model_call_are_its_attempts() {
    let to = |url: &str, status: u32| json!({"url.full": url, "http.response.status_code": status});
    let agent = json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"});
    let chat = |id: u32, from: u64, to: u64| span(id, 1, "chat", from, to, json!({"gen_ai.operation.name": "chat"}));
    let spans = [
        span(1, 0, "a", 0, 900, agent),
        chat(2, 10, 200),
        client(3, 2, 20, to("http://models/chat?key=1", 429)),
        client(4, 2, 40, to("http://login/token", 500)),
        client(5, 2, 60, to("http://models/chat", 503)),
        client(6, 2, 80, to("http://models/chat", 200)),
        chat(7, 300, 400),
        client(8, 7, 310, to("http://login/token", 200)),
        client(9, 7, 330, to("http://models/chat", 200)),
    ];
    let events = read(&spans);
    let calls = model_calls(&events);
    let attempts: Vec<_> =
        calls.iter().map(|call| (call.attempt, call.operation_id.as_deref(), call.success)).collect();
    let first = "0000000000000002";
    assert_eq!(attempts, [(Some(3), Some(first), true), (None, None, true)], "of another host, no attempt");
}
