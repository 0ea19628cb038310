use std::collections::BTreeMap;

use sre_core::{LlmUsage, Run, Timestamp};

/// A run of a graph, recorded manually. Dropping it without ending it records it as incomplete.
#[derive(Debug)]
pub struct GraphRun {
    pub(crate) run: Run,
    pub(crate) nodes: BTreeMap<String, Timestamp>,
}

impl GraphRun {
    /// Records the start of a node.
    pub fn on_node_start(&mut self, node: &str) {
        self.nodes.insert(node.to_owned(), self.run.now());
    }

    /// Records the end of a node, which failed if `error` is given.
    pub fn on_node_end(&mut self, node: &str, error: Option<&str>) {
        let started = self.nodes.remove(node);
        self.run.step(node, "node", error, started);
    }

    /// Records a model call.
    pub fn on_llm_call(&self, usage: LlmUsage) {
        self.run.llm_call(usage);
    }

    /// Records a tool call, which failed if `error` is given.
    pub fn on_tool_call(&self, tool: &str, error: Option<&str>) {
        self.run.tool_call(tool, error);
    }

    /// Records the end of the graph.
    pub fn on_graph_end(self, success: bool, error: Option<&str>) {
        self.run.end(success, error);
    }
}
