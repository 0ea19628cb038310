use std::collections::BTreeSet;

use agent_sre::trace::{BrokenHop, TraceSummary, TraceTree};
use agent_sre::{Span, TraceId};
use anyhow::bail;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::arguments;
use crate::service_client::ServiceClient;

/// The live service, instead of a recorded run.
#[derive(clap::Args)]
pub(super) struct ServiceArgs {
    /// The URL of the live service, instead of files; without a scheme, `http://` is assumed.
    #[arg(long, value_name = "URL", value_parser = arguments::url, conflicts_with = "RecordingArgs")]
    pub(super) url: Option<String>,
    /// A token with scope `read`, if the service requires one.
    #[arg(long, env = "SRE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(super) token: Option<String>,
}

/// The traces that a live service keeps.
pub(super) struct KeptTraces(ServiceClient);

/// A trace in the list of the service.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptRow {
    #[serde(flatten)]
    pub(super) trace: TraceSummary,
    pub(super) slo: String,
    pub(super) bad: u64,
    pub(super) slow: u64,
}

#[derive(Deserialize)]
struct List {
    traces: Vec<KeptRow>,
}

#[derive(Deserialize)]
struct Tree {
    nodes: Vec<Span>,
    /// Those between this trace and others are not found from its nodes alone.
    broken_hops: Vec<BrokenHop>,
}

impl KeptTraces {
    pub(super) fn of(url: &str, token: Option<String>) -> anyhow::Result<Self> {
        ServiceClient::new(url, token).map(Self)
    }

    /// Returns the last traces that match, newest first.
    pub(super) fn list(&self, slo: Option<&str>, task: Option<&str>) -> anyhow::Result<Vec<KeptRow>> {
        let filters = [("slo", slo), ("task", task)];
        let parameters = filters
            .into_iter()
            .filter_map(|(name, value)| Some(format!("&{name}={}", utf8_percent_encode(value?, NON_ALPHANUMERIC))));
        let parameters: String = parameters.collect();
        Ok(self.0.get::<List>(&format!("/v1/traces?limit=100{parameters}"))?.traces)
    }

    /// Fails if the service has no objective of that name.
    pub(super) fn require_objective(&self, name: &str) -> anyhow::Result<()> {
        self.0.get::<IgnoredAny>(&format!("/v1/slos/{}", utf8_percent_encode(name, NON_ALPHANUMERIC))).map(drop)
    }

    pub(super) fn tree(&self, id: TraceId) -> anyhow::Result<Vec<TraceTree>> {
        let Tree { nodes, broken_hops } = self.0.get(&format!("/v1/traces/{id}"))?;
        let mut trees = TraceTree::build(nodes);
        trees.iter_mut().for_each(|tree| tree.broken_hops.clone_from(&broken_hops));
        Ok(trees)
    }

    pub(super) fn trees_of_task(&self, task: &str) -> anyhow::Result<Vec<TraceTree>> {
        let ids: BTreeSet<TraceId> = self.list(None, Some(task))?.iter().map(|row| row.trace.trace_id).collect();
        if ids.is_empty() {
            bail!(
                "found no trace of task `{task}`; the service keeps those of the last bad and slow tasks of each objective"
            );
        }
        let trees = ids.into_iter().map(|id| self.tree(id));
        trees.collect::<anyhow::Result<Vec<_>>>().map(|trees| trees.into_iter().flatten().collect())
    }
}
