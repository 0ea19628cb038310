use std::collections::BTreeMap;

use sre_core::event::HttpRequest;
use sre_core::{LlmUsage, Run, Timestamp};

/// A run of a workflow, recorded manually. Dropping it without ending it records it as incomplete.
#[derive(Debug)]
pub struct WorkflowRun {
    run: Run,
    /// The type and the start of every node that has not ended.
    nodes: BTreeMap<String, (String, Timestamp)>,
}

impl WorkflowRun {
    pub(crate) fn new(run: Run) -> Self {
        Self { run, nodes: BTreeMap::new() }
    }

    /// Records the start of a node of a type such as `code`.
    pub fn on_node_start(&mut self, node: &str, node_type: &str) {
        self.nodes.insert(node.to_owned(), (node_type.to_owned(), self.run.now()));
    }

    /// Records the end of a node, which failed if `error` is given. The kind of the step is the node's type, or `node` without
    /// one.
    pub fn on_node_end(&mut self, node: &str, error: Option<&str>) {
        let (kind, started) = self.nodes.remove(node).unzip();
        let kind = kind.filter(|kind| !kind.is_empty()).unwrap_or_else(|| "node".to_owned());
        self.run.step(node, &kind, error, started);
    }

    /// Records a tool call, which failed if `error` is given.
    pub fn on_tool_call(&self, tool: &str, error: Option<&str>) {
        self.run.tool_call(tool, error);
    }

    /// Records a model call.
    pub fn on_llm_call(&self, usage: LlmUsage) {
        self.run.llm_call(usage);
    }

    /// Records an HTTP request: the status of its response, or the error without one.
    pub fn on_http_request(&self, url: &str, status_code: Option<u16>, error: Option<&str>) {
        let mut request = HttpRequest::new(url);
        request.status_code = status_code;
        request.error = error.map(str::to_owned);
        self.run.record(request);
    }

    /// Records the end of the workflow.
    pub fn on_workflow_end(self, success: bool, error: Option<&str>) {
        self.run.end(success, error);
    }
}
