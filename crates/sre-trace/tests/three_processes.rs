//! Runs the example of three processes, which start this program again.

#[path = "../examples/three_processes.rs"]
mod example;

fn main() {
    let is_other = std::env::args().nth(1).is_some_and(|role| ["writer", "search"].contains(&&*role));
    if is_other {
        example::main().unwrap();
        return;
    }
    let trees = tokio::runtime::Runtime::new().unwrap().block_on(example::planner()).unwrap();
    let [tree] = &*trees else { panic!("{} traces", trees.len()) };
    assert!(tree.broken_hops.is_empty(), "{tree}");
    let spans: Vec<(usize, &str, &str)> =
        tree.nodes.iter().map(|node| (node.depth, node.span.agent.as_deref().unwrap(), &*node.span.name)).collect();
    let expected = [
        (0, "planner", "invoke_agent planner"),
        (1, "planner", "SendMessage"),
        (2, "writer", "SendMessage"),
        (3, "writer", "initialize"),
        (4, "search", "initialize"),
        (3, "writer", "tools/call search"),
        (4, "search", "tools/call search"),
    ];
    assert_eq!(spans, expected, "{tree}");
}
