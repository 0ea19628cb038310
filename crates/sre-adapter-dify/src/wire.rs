use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use sre_core::adapter::{SpanEnd, SpanKind};
use sre_core::event::StringLimiter;
use sre_core::private::{lenient, text_only};
use sre_core::{Timestamp, Usd};

/// The fields of a payload of the stream that are used.
#[derive(Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow)]
    pub(crate) event: Cow<'a, str>,
    /// When it was received, if the forwarder sets it. Dify's own times are whole seconds.
    pub(crate) time: Option<Timestamp>,
    /// The agent, if the forwarder sets it.
    pub(crate) agent: Option<String>,
    pub(crate) task_id: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    /// Set on `error`.
    pub(crate) message: Option<String>,
}

/// `data` of a workflow or node.
#[derive(Default, Deserialize)]
pub(crate) struct Data<'a> {
    #[serde(default)]
    pub(crate) id: String,
    pub(crate) workflow_id: Option<String>,
    #[serde(default)]
    pub(crate) node_type: String,
    pub(crate) title: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) error: Option<String>,
    /// The number of the attempt that has failed, on `node_retry`.
    pub(crate) retry_index: Option<u32>,
    /// In seconds.
    pub(crate) elapsed_time: Option<f64>,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    #[serde(borrow)]
    pub(crate) inputs: Option<&'a RawValue>,
    #[serde(borrow)]
    process_data: Option<&'a RawValue>,
    #[serde(borrow)]
    outputs: Option<&'a RawValue>,
    #[serde(borrow)]
    execution_metadata: Option<&'a RawValue>,
}

/// `process_data` or `outputs` of a node that calls a model.
#[derive(Default, Deserialize)]
struct ModelData {
    #[serde(default, deserialize_with = "text_only::deserialize")]
    model_name: Option<String>,
    #[serde(default, deserialize_with = "text_only::deserialize")]
    model_provider: Option<String>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

#[derive(Default, Deserialize)]
struct ExecutionMetadata {
    total_price: Option<Usd>,
    currency: Option<String>,
}

impl Line<'_> {
    /// Returns `data`; the default if it has another shape.
    pub(crate) fn data(&self) -> Data<'_> {
        lenient::read(self.data.map(RawValue::get))
    }

    /// Shortens the strings that the adapter keeps.
    pub(crate) fn limit_strings(&mut self, limiter: &mut StringLimiter) {
        limiter.names(self.agent.iter_mut().chain(&mut self.task_id));
        limiter.texts(&mut self.message);
    }
}

impl Data<'_> {
    /// Shortens the strings that the adapter keeps.
    pub(crate) fn limit_strings(&mut self, limiter: &mut StringLimiter) {
        limiter.name(&mut self.id);
        limiter.names(self.workflow_id.iter_mut().chain(&mut self.title));
        limiter.texts(&mut self.error);
    }

    /// Returns what a node becomes when it ends.
    pub(crate) fn kind(&self) -> SpanKind {
        match &*self.node_type {
            "llm" | "question-classifier" | "parameter-extractor" => SpanKind::Model,
            "tool" => SpanKind::Tool,
            _ => SpanKind::Step,
        }
    }

    /// Returns the time of an event that reports none.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        self.finished_at.or(self.created_at)
    }

    /// Returns what the end of a node reports.
    pub(crate) fn end(&self) -> SpanEnd {
        let [process_data, outputs] =
            [self.process_data, self.outputs].map(|data| lenient::read::<ModelData>(data.map(RawValue::get)));
        let metadata: ExecutionMetadata = lenient::read(self.execution_metadata.map(RawValue::get));
        let is_usd = metadata.currency.as_deref().is_none_or(|currency| currency == "USD");
        let usage = outputs.usage.or(process_data.usage);
        SpanEnd {
            error: self.failure(),
            model: process_data.model_name,
            provider: process_data.model_provider,
            input_tokens: usage.as_ref().map_or(0, |usage| usage.prompt_tokens),
            output_tokens: usage.as_ref().map_or(0, |usage| usage.completion_tokens),
            cost_usd: metadata.total_price.filter(|_| is_usd && usage.is_some()),
            ..SpanEnd::default()
        }
    }

    /// Returns why the workflow or node failed. A workflow of which only some nodes failed has handled them.
    pub(crate) fn failure(&self) -> Option<String> {
        match self.status.as_deref() {
            Some("succeeded" | "partial-succeeded" | "partial_succeeded") => None,
            status => Some(self.error.clone().unwrap_or_else(|| status.unwrap_or("failed").to_owned())),
        }
    }
}
