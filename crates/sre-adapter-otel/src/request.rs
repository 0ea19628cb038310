use serde::{Deserialize, Serialize};
use sre_core::adapter::AdapterError;
use sre_core::private::json_text;
use sre_core::{Event, SpanId, StateError, StateReader, StateWriter, Timestamp, TraceId};

use crate::dialects::EVALUATION_EVENT;
use crate::span::{Known, Span};

/// The parts of an export request that describe agent runs. Decoding takes most of the time and does not need the
/// adapter, so that a service can decode on several threads.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) items: Vec<Item>,
    pub(crate) services: Vec<String>,
    /// Spans without an id or a time, or with a duration, cost or time out of range.
    pub(crate) rejected: u64,
    /// Log records that are not evaluations.
    pub(crate) unknown: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Item {
    Span { trace: TraceId, span: Span, service: Option<u32> },
    Evaluation(LoggedEvaluation),
}

/// An evaluation from a log record.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LoggedEvaluation {
    pub(crate) time: Timestamp,
    pub(crate) trace: Option<TraceId>,
    pub(crate) span: Option<SpanId>,
    /// The agent, if the record names one.
    pub(crate) agent: Option<String>,
    #[serde(with = "json_text")]
    pub(crate) event: Event,
}

/// The section that holds a saved request.
const SECTION: &str = "request";

impl Request {
    /// Serializes the request in a format that later versions can read.
    pub(crate) fn save(&self) -> Result<Vec<u8>, AdapterError> {
        let mut state = StateWriter::default();
        state.section(SECTION, |state| state.put(self));
        state.finish().map_err(malformed)
    }

    pub(crate) fn restore(saved: &[u8]) -> Result<Self, AdapterError> {
        let (name, mut state) = StateReader::new(saved).section().map_err(malformed)?;
        if name != SECTION {
            return Err(AdapterError::Malformed(format!("found a section `{name}`, expected `{SECTION}`")));
        }
        state.take().map_err(malformed)
    }

    /// Rejects items that end after `time`, because the clock of their sender is wrong.
    pub(crate) fn drop_after(&mut self, time: Timestamp) {
        let before = self.items.len();
        self.items.retain(|item| match item {
            Item::Span { span, .. } => span.end <= time,
            Item::Evaluation(evaluation) => evaluation.time <= time,
        });
        self.rejected += (before - self.items.len()) as u64;
    }

    /// Returns the reason why records were rejected.
    pub(crate) fn rejection(&self) -> String {
        format!("found {} records without an id, or with a time, duration or cost out of range", self.rejected)
    }

    /// Adds the name of a service. Returns its index, by which spans refer to it.
    pub(crate) fn service(&mut self, name: Option<&str>) -> Option<u32> {
        self.services.push(name?.to_owned());
        Some(self.services.len() as u32 - 1)
    }

    pub(crate) fn add_span(&mut self, read: Option<(TraceId, Span)>, service: Option<u32>) {
        match read {
            Some((trace, span)) => self.items.push(Item::Span { trace, span, service }),
            None => self.rejected += 1,
        }
    }

    pub(crate) fn add_log(
        &mut self,
        name: &str,
        time: Option<Timestamp>,
        (trace, span): (Option<TraceId>, Option<SpanId>),
        known: &Known<'_>,
        service: Option<&str>,
    ) {
        let is_evaluation = name == EVALUATION_EVENT || known.text(&["event.name"]) == Some(EVALUATION_EVENT);
        let event = if is_evaluation { known.gen_ai_evaluation() } else { None };
        match (event, time) {
            (Some(event), Some(time)) => {
                let agent = known.text(&["gen_ai.agent.name"]).or(service).map(str::to_owned);
                self.items.push(Item::Evaluation(LoggedEvaluation { time, trace, span, agent, event }));
            }
            _ => self.unknown += 1,
        }
    }
}

fn malformed(error: StateError) -> AdapterError {
    AdapterError::Malformed(error.to_string())
}
