//! Chains of five hops over every binding of A2A and every version and transport of MCP, over loopback and pipes.

mod chain;
mod servers;

use std::collections::BTreeSet;

use chain::agents::Agents;
use chain::hop::Hop;
use sre_trace::{BrokenHop, Span, TraceTree};

/// Chains of hops until each kind has followed each: the same in every run.
fn chains() -> Vec<[Hop; 5]> {
    let mut random = fastrand::Rng::with_seed(18);
    let mut missing: BTreeSet<(Hop, Hop)> =
        Hop::ALL.into_iter().flat_map(|hop| Hop::ALL.map(|next| (hop, next))).collect();
    let mut chains = Vec::new();
    while !missing.is_empty() {
        let chain = [(); 5].map(|()| Hop::ALL[random.usize(..Hop::ALL.len())]);
        chain.windows(2).for_each(|pair| _ = missing.remove(&(pair[0], pair[1])));
        chains.push(chain);
    }
    chains
}

/// Returns names and agents of the spans from the innermost receiver up.
fn path_to_root(tree: &TraceTree) -> Vec<(&str, &str)> {
    let mut at = tree.nodes.iter().enumerate().max_by_key(|(_, node)| node.depth).map(|(index, _)| index);
    let mut path = Vec::new();
    while let Some(index) = at {
        let node = &tree.nodes[index];
        path.push((&*node.span.name, node.span.agent.as_deref().unwrap_or_default()));
        at = node.parent;
    }
    path
}

/// Returns the path of hops from one agent on, as `path_to_root` does, without the root.
fn path_of<'a>(hops: &[Hop], names: &'a [String]) -> Vec<(&'static str, &'a str)> {
    let each = hops.iter().zip(names.windows(2));
    let mut path: Vec<_> = each.flat_map(|(hop, ends)| ends.iter().map(|agent| (hop.span_name(), &**agent))).collect();
    path.reverse();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn any_five_hops_are_one_tree() {
    let agents = Agents::start().await;
    for chain in chains() {
        let [tree] = &*TraceTree::build(agents.call(&chain, None).await) else { panic!("{chain:?}: several traces") };
        assert!(tree.broken_hops.is_empty(), "{chain:?}\n{tree}");
        let mut expected = path_of(&chain, agents.names());
        expected.push(("invoke_agent agent-0", "agent-0"));
        assert_eq!(path_to_root(tree), expected, "{chain:?}\n{tree}");
        assert_eq!(tree.nodes.iter().filter(|node| node.parent.is_none()).count(), 1, "{chain:?}\n{tree}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hop_whose_peer_drops_the_context_is_named() {
    let agents = Agents::start().await;
    let mut dropped = BTreeSet::new();
    for (number, chain) in chains().into_iter().enumerate() {
        let at = number % chain.len();
        dropped.insert(chain[at]);
        let spans: Vec<Span> = agents.call(&chain, Some(at)).await;
        let trees = TraceTree::build(spans);
        let (caller, receiver) = (&*agents.names()[at], &*agents.names()[at + 1]);
        let mut names = BTreeSet::new();
        for hop in trees.iter().flat_map(|tree| &tree.broken_hops) {
            let BrokenHop::DroppedContext { caller: from, receiver: to, .. } = hop else {
                panic!("{chain:?} {at}: {hop}")
            };
            assert_eq!(
                (from.agent.as_deref(), to.agent.as_deref()),
                (Some(caller), Some(receiver)),
                "{chain:?}: {hop}"
            );
            assert_eq!(from.name, to.name);
            names.insert(to.name.clone());
        }
        assert!(names.contains(chain[at].span_name()), "{chain:?} {at}: {names:?}");
        // An MCP connection also loses that of `initialize` or `server/discover`.
        assert_eq!(trees.len(), 1 + names.len(), "{chain:?} {at}");
        let below = trees
            .iter()
            .find(|tree| {
                tree.nodes[0].span.agent.as_deref() == Some(receiver)
                    && tree.nodes[0].span.name == chain[at].span_name()
            })
            .expect("the trace that the receiver began");
        let mut expected = path_of(&chain[at..], &agents.names()[at..]);
        expected.pop();
        assert_eq!(path_to_root(below), expected, "{chain:?} {at}\n{below}");
    }
    assert_eq!(dropped.len(), Hop::ALL.len(), "a seed with which every kind drops the context");
}
