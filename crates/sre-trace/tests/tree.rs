//! Trees of spans: properties of any set of spans, and how a trace is shown.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sre_core::{Span, SpanId, SpanRole, Timestamp, TraceId, Usd};
use sre_trace::{BrokenHop, SpanNode, TraceTree};

fn trace(number: u8) -> TraceId {
    TraceId::from_bytes([number; 16]).unwrap()
}

fn id(number: usize) -> SpanId {
    SpanId::from_bytes((number as u64 + 1).to_be_bytes()).unwrap()
}

/// A span from second `start` to second `end`.
fn span(number: usize, parent: Option<usize>, name: &str, start: i64, end: i64) -> Span {
    let mut span = Span::new(trace(1), id(number), name, Timestamp::from_secs(start));
    (span.parent_span_id, span.end) = (parent.map(id), Timestamp::from_secs(end));
    span
}

fn one(spans: impl IntoIterator<Item = Span>) -> TraceTree {
    let mut trees = TraceTree::build(spans);
    assert_eq!(trees.len(), 1);
    trees.remove(0)
}

/// Any spans: parents may be missing, later in the list, each other's, or the span itself.
fn spans() -> impl Strategy<Value = Vec<Span>> {
    let any =
        (option::of(0..14_usize), 0..40_i64, 0..20_i64, 0..3_usize, any::<bool>(), 0..5_u64, option::of(0..9_i64));
    vec(any, 1..12).prop_map(|list| {
        let each = list.into_iter().enumerate().map(|(number, (parent, start, length, name, failed, tokens, cost))| {
            let mut span = span(number, parent, ["a", "b", "c"][name], start, start + length);
            span.error = failed.then(|| "failed".to_owned());
            span.input_tokens = tokens;
            span.cost_usd = cost.map(Usd::from_nanos);
            span
        });
        each.collect()
    })
}

fn seconds(span: &Span) -> std::ops::Range<i64> {
    span.start.as_secs()..span.end.as_secs()
}

fn children(tree: &TraceTree, of: usize) -> Vec<usize> {
    (0..tree.nodes.len()).filter(|&index| tree.nodes[index].parent == Some(of)).collect()
}

/// Walks back from `until` to `from`, second by second.
fn walk_back(tree: &TraceTree, index: usize, from: i64, until: i64, critical: &mut [Option<i64>]) {
    let (mut cursor, mut rest) = (until, children(tree, index));
    critical[index] = Some(0);
    loop {
        let ended_now = |&child: &usize| {
            let Range { start, end } = seconds(&tree.nodes[child].span);
            start <= until && end >= from && end.min(until) == cursor
        };
        match rest.iter().copied().filter(ended_now).min_by_key(|&child| seconds(&tree.nodes[child].span).start) {
            Some(child) => {
                rest.retain(|&other| other != child);
                let start = seconds(&tree.nodes[child].span).start.max(from);
                walk_back(tree, child, start, cursor, critical);
                cursor = start;
            }
            None if cursor == from => return,
            None => {
                *critical[index].as_mut().unwrap() += 1;
                cursor -= 1;
            }
        }
    }
}

fn cost(tree: &TraceTree, index: usize) -> Option<Usd> {
    let below = children(tree, index).into_iter().filter_map(|child| cost(tree, child)).reduce(|a, b| a + b);
    tree.nodes[index].span.cost_usd.or(below)
}

fn tokens(tree: &TraceTree, index: usize) -> u64 {
    match children(tree, index).into_iter().map(|child| tokens(tree, child)).sum() {
        0 => tree.nodes[index].span.input_tokens,
        below => below,
    }
}

proptest! {
    #[test]
    fn any_spans_are_one_tree_per_root_and_named_broken_hops(spans in spans()) {
        let tree = one(spans.clone());
        prop_assert_eq!(tree.nodes.len(), spans.len());
        let mut named = BTreeSet::new();
        for hop in &tree.broken_hops {
            match hop {
                BrokenHop::MissingParent { parent_span_id, spans: below } => {
                    prop_assert!(!spans.iter().any(|span| span.span_id == *parent_span_id));
                    named.extend(below.iter().map(|span| span.span_id));
                }
                BrokenHop::Cycle { span } => _ = named.insert(span.span_id),
                other => prop_assert!(false, "{other}"),
            }
        }
        let mut broken_roots = BTreeSet::new();
        for (index, node) in tree.nodes.iter().enumerate() {
            match node.parent {
                Some(parent) => {
                    prop_assert!(parent < index);
                    prop_assert_eq!(node.depth, tree.nodes[parent].depth + 1);
                    prop_assert_eq!(node.span.parent_span_id, Some(tree.nodes[parent].span.span_id));
                }
                None => {
                    prop_assert_eq!(node.depth, 0);
                    broken_roots.extend(node.span.parent_span_id.map(|_| node.span.span_id));
                }
            }
        }
        prop_assert_eq!(named, broken_roots);
    }

    #[test]
    fn the_order_of_spans_makes_no_difference((spans, shuffled) in spans().prop_flat_map(|spans| (Just(spans.clone()), Just(spans).prop_shuffle()))) {
        prop_assert_eq!(TraceTree::build(spans), TraceTree::build(shuffled));
    }

    #[test]
    fn self_time_is_the_time_without_children(spans in spans()) {
        let tree = one(spans);
        for (index, node) in tree.nodes.iter().enumerate() {
            let below = children(&tree, index);
            let alone = |second: &i64| !below.iter().any(|&child| seconds(&tree.nodes[child].span).contains(second));
            let expected = seconds(&node.span).filter(alone).count() as u64;
            prop_assert_eq!(node.self_time, Duration::from_secs(expected), "{}", tree);
        }
    }

    /// Without calls at the same time, no second counts twice. With them, each of the calls has its own.
    #[test]
    fn self_times_sum_to_the_union_of_the_spans_at_most_unless_siblings_overlap(spans in spans()) {
        let tree = one(spans);
        let overlap = |a: &SpanNode, b: &SpanNode| a.span.start < b.span.end && b.span.start < a.span.end;
        let side_by_side = |a: usize, b: usize| {
            let above = |mut index: usize| {
                let mut list = vec![index];
                while let Some(parent) = tree.nodes[index].parent {
                    list.push(parent);
                    index = parent;
                }
                list
            };
            !above(a).contains(&b) && !above(b).contains(&a)
        };
        let pairs = || (0..tree.nodes.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        let has_overlap = pairs().any(|(a, b)| side_by_side(a, b) && overlap(&tree.nodes[a], &tree.nodes[b]));
        // A span that outlives its parent overlaps with what is around that.
        let is_inside = |node: &SpanNode| node.parent.is_none_or(|parent| {
            let (inner, outer) = (seconds(&node.span), seconds(&tree.nodes[parent].span));
            outer.start <= inner.start && inner.end <= outer.end
        });
        let sum: u64 = tree.nodes.iter().map(|node| node.self_time.as_secs()).sum();
        let union: BTreeSet<i64> = tree.nodes.iter().flat_map(|node| seconds(&node.span)).collect();
        let lengths: u64 = tree.nodes.iter().map(|node| node.span.duration().as_secs()).sum();
        prop_assert!(sum <= lengths);
        if !has_overlap && tree.nodes.iter().all(is_inside) {
            prop_assert_eq!(sum, union.len() as u64, "{}", tree);
        }
    }

    #[test]
    fn the_critical_path_is_that_of_a_walk_back_in_time(spans in spans()) {
        let tree = one(spans);
        let mut expected = vec![None; tree.nodes.len()];
        for (index, root) in tree.nodes.iter().enumerate().filter(|(_, node)| node.parent.is_none()) {
            let Range { start, end } = seconds(&root.span);
            walk_back(&tree, index, start, end, &mut expected);
        }
        let found: Vec<Option<i64>> =
            tree.nodes.iter().map(|node| node.critical_time.map(|time| time.as_secs() as i64)).collect();
        prop_assert_eq!(found, expected, "{}", &tree);
        let roots: Duration = tree.nodes.iter().filter(|node| node.parent.is_none()).map(|node| node.span.duration()).sum();
        prop_assert_eq!(tree.nodes.iter().filter_map(|node| node.critical_time).sum::<Duration>(), roots);
    }

    #[test]
    fn a_branch_has_its_own_cost_or_that_of_its_parts_and_the_tokens_of_the_innermost_calls(spans in spans()) {
        let tree = one(spans);
        for (index, node) in tree.nodes.iter().enumerate() {
            prop_assert_eq!(node.branch_cost_usd, cost(&tree, index));
            prop_assert_eq!(node.branch_input_tokens, tokens(&tree, index));
        }
        let roots = || (0..tree.nodes.len()).filter(|&index| tree.nodes[index].parent.is_none());
        prop_assert_eq!(tree.cost_usd, roots().filter_map(|root| cost(&tree, root)).reduce(|a, b| a + b));
        prop_assert_eq!(tree.input_tokens, roots().map(|root| tokens(&tree, root)).sum::<u64>());
    }

    #[test]
    fn every_tree_is_shown_with_a_line_per_span(spans in spans(), name in "\\PC{0,9}|.{0,9}") {
        let mut spans = spans;
        spans[0].name = name;
        let tree = one(spans);
        let text = tree.to_string();
        prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        let mermaid = tree.to_mermaid();
        prop_assert_eq!(mermaid.matches("[\"").count(), tree.nodes.len() + tree.broken_hops.len());
        prop_assert_eq!(mermaid.matches('"').count(), 2 * (tree.nodes.len() + tree.broken_hops.len()));
        serde_json::to_string(&tree).unwrap();
    }
}

/// A planner that asks a writer, which searches twice, because the first search fails.
fn delegation() -> Vec<Span> {
    let mut root = span(0, None, "invoke_agent planner", 0, 20);
    root.agent = Some("planner".into());
    let mut plan = span(1, Some(0), "chat gpt-4o", 0, 4);
    (plan.input_tokens, plan.output_tokens, plan.cost_usd) = (1_200, 300, Some("0.006".parse().unwrap()));
    let mut ask = span(2, Some(0), "SendMessage", 4, 19);
    (ask.role, ask.call_id) = (SpanRole::Client, Some("message-1".to_owned()));
    let mut answer = span(3, Some(2), "SendMessage", 5, 18);
    (answer.role, answer.call_id) = (SpanRole::Server, Some("message-1".to_owned()));
    let mut failed = span(4, Some(3), "tools/call search", 6, 9);
    failed.error = Some("timed out\nat line 3".to_owned());
    let retry = span(5, Some(3), "tools/call search", 10, 12);
    let mut write = span(6, Some(3), "chat gpt-4o-mini", 12, 18);
    (write.input_tokens, write.output_tokens, write.cost_usd) = (800, 900, Some("0.00066".parse().unwrap()));
    let moderate = span(7, Some(3), "moderation", 13, 14);
    for span in [&mut plan, &mut ask] {
        span.agent = Some("planner".into());
    }
    let mut spans = vec![root, plan, ask, answer, failed, retry, write, moderate];
    spans[3..].iter_mut().for_each(|span| span.agent = Some("writer".into()));
    spans
}

#[test]
fn a_trace_is_read_at_a_glance() {
    let tree = one(delegation());
    let expected = "\
trace 01010101010101010101010101010101: 20 s, 8 spans, 1 error, 1 retry, 3,200 tokens, $0.00666

   duration        self      tokens        cost  timeline                  span
       20 s         1 s       3,200    $0.00666  ████████████████████████  invoke_agent planner [planner]
        4 s         4 s       1,500      $0.006  █████                     ├─ chat gpt-4o
       15 s         2 s       1,700    $0.00066      ███████████████████   └─ SendMessage
       13 s         2 s       1,700    $0.00066        ████████████████       └─ SendMessage [writer]
        3 s         3 s                                 ████                     ├─ ✗ tools/call search, attempt 1: timed out
        2 s         2 s                                      ███                 ├─ tools/call search, attempt 2
        6 s         6 s       1,700    $0.00066                ████████          ├─ chat gpt-4o-mini
        1 s         1 s                                         ▒▒               └─ moderation

█ on the critical path  ▒ beside it  ✗ failed
";
    assert_eq!(tree.to_string(), expected, "{tree}");
}

#[test]
fn a_trace_is_drawn() {
    let chart = one(delegation()).to_mermaid();
    for line in [
        "flowchart LR",
        r#"    s0["invoke_agent planner [planner]<br>20 s, self 1 s, 3,200 tokens, $0.00666"]"#,
        r#"    s2["SendMessage<br>15 s, self 2 s, 1,700 tokens, $0.00066"]"#,
        r#"    s3["SendMessage [writer]<br>13 s, self 2 s, 1,700 tokens, $0.00066"]"#,
        r#"    s4["tools/call search, attempt 1<br>3 s, self 3 s<br>timed out"]"#,
        "    s3 ==> s4",
        "    s3 --> s7",
        "    class s4 failed",
    ] {
        assert!(chart.lines().any(|found| found == line), "{line}\n{chart}");
    }
}

#[test]
fn a_trace_in_json_has_what_the_table_has() {
    let json = serde_json::to_value(one(delegation())).unwrap();
    assert_eq!((&json["errors"], &json["retries"], &json["cost_usd"]), (&1.into(), &1.into(), &"0.00666".into()));
    let call = &json["nodes"][5];
    assert_eq!(call["name"], "tools/call search");
    assert_eq!((&call["depth"], &call["self_ms"], &call["critical_ms"]), (&3.into(), &2000.0.into(), &2000.0.into()));
    assert_eq!((&call["attempt_number"], &call["agent"]), (&2.into(), &"writer".into()));
}

#[test]
fn a_parent_that_was_not_recorded_is_named() {
    let spans = delegation().into_iter().filter(|span| span.span_id != id(3));
    let tree = one(spans);
    let [hop @ BrokenHop::MissingParent { parent_span_id, spans }] = &*tree.broken_hops else {
        panic!("{:?}", tree.broken_hops)
    };
    assert_eq!((*parent_span_id, spans.len()), (id(3), 4));
    assert_eq!(
        hop.to_string(),
        "span 0000000000000004 was not recorded; `tools/call search` (writer) and 3 more are below it"
    );
    assert!(tree.to_string().contains("\nbroken hop: span 0000000000000004 was not recorded"), "{tree}");
}

#[test]
fn a_peer_that_drops_the_context_is_named_in_both_traces() {
    let mut spans = delegation();
    spans[3].parent_span_id = None;
    spans[3..].iter_mut().for_each(|span| span.trace_id = trace(2));
    let trees = TraceTree::build(spans);
    let expected = format!(
        "the trace context was lost between `SendMessage` (planner) in trace {} and `SendMessage` (writer) in trace {}",
        trace(1),
        trace(2)
    );
    for tree in &trees {
        assert_eq!(tree.broken_hops.iter().map(ToString::to_string).collect::<Vec<_>>(), [&*expected]);
    }
    assert_eq!(trees.len(), 2);
}

#[test]
fn a_message_that_is_sent_again_in_another_trace_breaks_neither() {
    let mut again = delegation();
    again.iter_mut().for_each(|span| span.trace_id = trace(2));
    // With a span of the receiving process in between.
    let mut http = span(8, Some(2), "POST", 5, 18);
    http.trace_id = trace(2);
    again[3].parent_span_id = Some(id(8));
    again.push(http);
    let trees = TraceTree::build([delegation(), again].concat());
    assert_eq!(trees.len(), 2);
    assert!(trees.iter().all(|tree| tree.broken_hops.is_empty()), "{trees:?}");
}

/// A call or its receiver: span, trace, parent, role, name, start, end.
type Row = (usize, u8, Option<usize>, SpanRole, &'static str, i64, i64);

/// Returns the callers and receivers of dropped contexts, each once.
fn dropped_contexts(rows: &[Row], set_ids: impl Fn(&mut Span)) -> Vec<(SpanId, SpanId)> {
    let spans = rows.iter().map(|&(number, in_trace, parent, role, name, start, end)| {
        let mut span = span(number, parent, name, start, end);
        (span.trace_id, span.role) = (trace(in_trace), role);
        set_ids(&mut span);
        span
    });
    let trees = TraceTree::build(spans);
    let hops = trees.iter().flat_map(|tree| &tree.broken_hops).map(|hop| match hop {
        BrokenHop::DroppedContext { caller, receiver, .. } => (caller.span_id, receiver.span_id),
        hop => panic!("{hop}"),
    });
    // Both traces have it.
    hops.collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn of_calls_with_the_same_id_each_is_received_once_by_the_nearest_in_time() {
    use SpanRole::{Client, Server};
    const SEND: &str = "SendMessage";
    let hops = |rows: &[Row]| dropped_contexts(rows, |span| span.call_id = Some("m-1".to_owned()));
    // A gateway sends on the message that it received, with its id: one of the two contexts is dropped, or both.
    let gateway = |first: u8, [received, last]: [u8; 2]| {
        let parent = |in_trace, above, id| (in_trace == above).then_some(id);
        [
            (0, first, None, Client, SEND, 0, 99),
            (1, received, parent(received, first, 0), Server, SEND, 1, 98),
            (2, received, Some(1), Client, SEND, 2, 90),
            (3, last, parent(last, received, 2), Server, SEND, 3, 89),
        ]
    };
    for first in [1, 9] {
        assert_eq!(hops(&gateway(first, [first, 2])), [(id(2), id(3))], "trace {first}");
        assert_eq!(hops(&gateway(first, [2, 2])), [(id(0), id(1))], "trace {first}");
        assert_eq!(hops(&gateway(first, [2, 5])), [(id(0), id(1)), (id(2), id(3))], "trace {first}");
    }
    // Its clock may be ahead.
    let [ask, mut receive, mut ask_again, answer] = gateway(9, [2, 2]);
    (receive.5, receive.6, ask_again.5, ask_again.6) = (5, 102, 6, 94);
    assert_eq!(hops(&[ask, receive, ask_again, answer]), [(id(0), id(1))]);
    // A message is sent again after a failure.
    let retry = [(0, 1, None, Client, SEND, 1, 20), (1, 1, None, Client, SEND, 30, 90)];
    let receivers = [(2, 2, None, Server, SEND, 2, 19), (3, 3, None, Server, SEND, 31, 89)];
    assert_eq!(hops(&[retry, receivers].concat()), [(id(0), id(2)), (id(1), id(3))]);
    assert_eq!(hops(&[retry[0], receivers[0], receivers[1]]), [(id(0), id(2))]);
    // The receiver may make two spans of it, and the first attempt may not have arrived.
    let handler = (4, 3, Some(3), Server, SEND, 32, 88);
    assert_eq!(hops(&[retry[0], retry[1], receivers[1], handler]), [(id(1), id(3))]);
    // Others use the id again: a call that was received stays so, and one is not that of a message before it.
    let other = [(0, 1, None, Client, SEND, 0, 10), (1, 1, Some(0), Server, SEND, 1, 9)];
    let own = [(2, 3, None, Client, SEND, 500, 510), (3, 4, None, Server, SEND, 501, 509)];
    assert_eq!(hops(&[other, own].concat()), [(id(2), id(3))]);
    assert_eq!(hops(&[(1, 1, None, Server, SEND, 1, 9), own[0], own[1]]), [(id(2), id(3))]);
    // By the id alone, if the clocks disagree.
    assert_eq!(hops(&[(0, 1, None, Client, SEND, 5, 9), (1, 2, None, Server, SEND, 0, 2)]), [(id(0), id(1))]);
}

#[test]
fn a_hop_between_spans_that_share_no_id_is_only_probable() {
    let dropped = |message: &str| {
        let mut ask = span(0, None, "SendMessage", 0, 59);
        (ask.role, ask.agent, ask.call_id) = (SpanRole::Client, Some("planner".into()), Some("m-1".to_owned()));
        let mut receive = span(1, None, "SendMessage", 20, 21);
        (receive.role, receive.agent, receive.trace_id) = (SpanRole::Server, Some("billing".into()), trace(2));
        receive.call_id = Some(message.to_owned());
        let hop = TraceTree::build([ask, receive])[0].broken_hops[0].clone();
        (serde_json::to_value(&hop).unwrap()["inferred"].clone(), hop.to_string())
    };
    let (inferred, text) = dropped("m-2");
    let expected = format!(
        "the trace context was probably lost between `SendMessage` (planner) in trace {} and `SendMessage` (billing) in trace {}: \
         the second ran during the first",
        trace(1),
        trace(2)
    );
    assert_eq!((inferred, text), (true.into(), expected));
    let (inferred, text) = dropped("m-1");
    assert!(inferred == false && text.starts_with("the trace context was lost"), "{text}");
}

#[test]
fn a_request_without_an_id_of_its_own_is_that_of_the_innermost_call_of_its_name_and_time() {
    use SpanRole::{Client, Server};
    const CALL: &str = "tools/call search";
    let hops = |rows: &[Row]| dropped_contexts(rows, |span| span.request_id = Some("1".to_owned()));
    assert_eq!(hops(&[(0, 1, None, Client, CALL, 0, 9), (1, 2, None, Server, CALL, 1, 8)]), [(id(0), id(1))]);
    // A second context is dropped below the first.
    let two = [
        (0, 1, None, Client, CALL, 0, 9),
        (1, 2, None, Server, CALL, 1, 8),
        (2, 2, Some(1), Client, CALL, 2, 7),
        (3, 3, None, Server, CALL, 3, 6),
    ];
    assert_eq!(hops(&two), [(id(0), id(1)), (id(2), id(3))]);
    // Not: outside the time of the call; of a call that was received; of either of two calls side by side.
    let call = (0, 1, None, Client, CALL, 0, 9);
    assert_eq!(hops(&[call, (1, 2, None, Server, CALL, 1, 10)]), []);
    assert_eq!(hops(&[call, (1, 1, Some(0), Server, CALL, 1, 8), (2, 2, None, Server, CALL, 2, 3)]), []);
    let http = [(1, 1, Some(0), Client, "POST", 1, 8), (2, 1, Some(1), Server, CALL, 2, 7)];
    assert_eq!(hops(&[call, http[0], http[1], (3, 2, None, Server, CALL, 3, 4)]), []);
    let other = (1, 3, None, Client, CALL, 1, 9);
    assert_eq!(hops(&[(0, 1, None, Client, CALL, 0, 8), other, (2, 2, None, Server, CALL, 2, 7)]), []);
}

#[test]
fn a_message_that_an_agent_delegates_by_another_id_is_of_the_only_call_that_can_have_led_to_it() {
    use SpanRole::{Client, Internal, Server};
    const SEND: &str = "SendMessage";
    const STREAM: &str = "SendStreamingMessage";
    const PYTHON_SENDS: &str = "a2a.client.transports.jsonrpc.JsonRpcTransport.send_message";
    const PYTHON_RECEIVES: &str = "a2a.server.request_handlers.DefaultRequestHandlerV2.on_message_send";
    let hops = |rows: &[Row]| dropped_contexts(rows, |span| span.call_id = Some(span.span_id.to_string()));
    let call = (0, 1, None, Client, SEND, 0, 9);
    // The agent between has no spans. It may ask several others, and have them stream.
    assert_eq!(hops(&[call, (1, 2, None, Server, SEND, 1, 8)]), [(id(0), id(1))]);
    assert_eq!(
        hops(&[call, (1, 2, None, Server, STREAM, 1, 4), (2, 3, None, Server, SEND, 5, 8)]),
        [(id(0), id(1)), (id(0), id(2))]
    );
    assert_eq!(hops(&[(0, 1, None, Client, "GetTask", 0, 9), (1, 2, None, Server, "GetTask", 1, 8)]), [(id(0), id(1))]);
    // Two such agents, one after the other.
    let (editor, asks) = ((1, 2, None, Server, SEND, 1, 8), (2, 2, Some(1), Client, STREAM, 2, 7));
    let writer = (3, 3, None, Server, SEND, 3, 6);
    assert_eq!(hops(&[writer, asks, editor, call]), [(id(0), id(1)), (id(2), id(3))]);
    // The agent between is one of the Python SDK: it drops what it gets and what it sends, or only the latter.
    let python = [
        (1, 2, None, Server, "a2a.server.routes.JsonRpcDispatcher.handle_requests", 1, 8),
        (2, 2, Some(1), Server, PYTHON_RECEIVES, 2, 8),
        (3, 2, Some(2), Internal, "execute", 3, 7),
        (4, 2, Some(3), Client, PYTHON_SENDS, 3, 7),
        (5, 3, None, Server, SEND, 4, 6),
    ];
    let all = [&[call], &python[..]].concat();
    assert_eq!(hops(&all), [(id(0), id(2)), (id(4), id(5))]);
    let rest: Vec<Row> = all
        .iter()
        .map(|&(number, in_trace, parent, role, name, start, end)| {
            let (in_trace, parent) = if number < 5 { (1, number.checked_sub(1)) } else { (in_trace, parent) };
            (number, in_trace, parent, role, name, start, end)
        })
        .collect();
    assert_eq!(hops(&rest), [(id(4), id(5))]);
    // Not: outside the time of the call; another operation; a call that was received; below a span that was lost; two calls that have nothing
    // to do with each other, side by side or one in the time of the other.
    let message = (2, 2, None, Server, SEND, 2, 7);
    assert_eq!(hops(&[call, (2, 2, None, Server, SEND, 2, 10)]), []);
    assert_eq!(hops(&[call, (2, 2, None, Server, "GetTask", 2, 7)]), []);
    assert_eq!(hops(&[call, (1, 1, Some(0), Server, SEND, 1, 8), message]), []);
    for (start, end) in [(1, 9), (1, 8), (0, 10)] {
        assert_eq!(hops(&[call, (1, 3, None, Client, SEND, start, end), message]), []);
        assert_eq!(hops(&[call, (1, 1, None, Client, SEND, start, end), message]), []);
    }
    let mut lost: Vec<Span> = [span(0, None, SEND, 0, 9), span(1, Some(7), SEND, 1, 8)].into();
    (lost[0].role, lost[1].role, lost[1].trace_id) = (Client, Server, trace(2));
    let lost = TraceTree::build(lost);
    assert!(matches!(&*lost[1].broken_hops, [BrokenHop::MissingParent { .. }]), "{:?}", lost[1].broken_hops);
    // No hop is inferred if one of the calls that are not compared, because 64 began after it, still ran.
    let calls = |first_end| {
        (0..200).map(move |number| (number, 1, None, Client, SEND, 0, if number > 0 { 5 } else { first_end }))
    };
    let last = [(200, 1, None, Client, SEND, 1, 9), (201, 2, None, Server, SEND, 2, 7)];
    assert_eq!(hops(&calls(5).chain(last).collect::<Vec<_>>()), [(id(200), id(201))]);
    assert_eq!(hops(&calls(9).chain(last).collect::<Vec<_>>()), []);
    // No hop is inferred from a call whose message another agent has received by its id.
    let ids = |span: &mut Span| span.call_id = Some(if span.span_id == id(2) { id(2) } else { id(0) }.to_string());
    assert_eq!(
        dropped_contexts(&[call, (1, 2, None, Server, SEND, 1, 3), (2, 3, None, Server, SEND, 4, 8)], ids),
        [(id(0), id(1))]
    );
}

#[test]
fn a_long_chain_of_spans_takes_no_stack() {
    let spans = (0..50_000).map(|number: usize| span(number, number.checked_sub(1), "step", 0, 100_000));
    let tree = one(spans);
    assert_eq!(tree.nodes.last().unwrap().depth, 49_999);
    assert!(tree.to_string().contains("(depth 49999) step"));
    assert!(tree.to_mermaid().ends_with("s49998 ==> s49999\n"));
}
