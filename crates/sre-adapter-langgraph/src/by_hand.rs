use rustc_hash::FxHashMap;
use sre_core::{LlmUsage, Run, Timestamp};

/// A graph that is being run, recorded by hand. Dropped without an end, it counts as incomplete.
#[derive(Debug)]
pub struct GraphRun {
    pub(crate) run: Run,
    pub(crate) nodes: FxHashMap<String, Timestamp>,
}

impl GraphRun {
    /// A node began.
    pub fn on_node_start(&mut self, node: &str) {
        self.nodes.insert(node.to_owned(), self.run.now());
    }

    /// A node ended; `error` where it failed.
    pub fn on_node_end(&mut self, node: &str, error: Option<&str>) {
        let started = self.nodes.remove(node);
        self.run.step(node, "node", error, started);
    }

    /// A model was called.
    pub fn on_llm_call(&self, usage: LlmUsage) {
        self.run.llm_call(usage);
    }

    /// A tool was called; `error` where it failed.
    pub fn on_tool_call(&self, tool: &str, error: Option<&str>) {
        self.run.tool_call(tool, error);
    }

    /// The graph ended.
    pub fn on_graph_end(self, success: bool, error: Option<&str>) {
        self.run.end(success, error);
    }
}
