use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{AgentEvent, Event, EventKind};
use crate::{Timestamp, Usd};

/// Every field of every event, flat: one pass over the line, where serde's `flatten` would buffer it.
#[derive(Deserialize)]
pub(super) struct Wire<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    time: Timestamp,
    agent: Option<String>,
    task: Option<String>,
    trace_id: Option<String>,
    span_id: Option<String>,
    parent_span_id: Option<String>,
    #[serde(default)]
    attributes: Option<BTreeMap<String, Value>>,
    name: Option<String>,
    kind: Option<String>,
    success: Option<bool>,
    error: Option<String>,
    duration_ms: Option<f64>,
    cost_usd: Option<Usd>,
    model: Option<String>,
    provider: Option<String>,
    input_tokens: Option<u64>,
    cached_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    first_token_ms: Option<f64>,
    tool: Option<String>,
    arguments_hash: Option<String>,
    correct: Option<bool>,
    from: Option<String>,
    to: Option<String>,
    depth: Option<u32>,
    sender: Option<String>,
    policy: Option<String>,
    compliant: Option<bool>,
    metric: Option<String>,
    passed: Option<bool>,
    score: Option<f64>,
    confidence: Option<f64>,
    url: Option<String>,
    status_code: Option<u16>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("`{event}` has no field `{field}`")]
    Missing { event: String, field: &'static str },
    #[error("`{field}`: found {found}, expected {expected}")]
    Range { field: &'static str, found: String, expected: &'static str },
}

impl Wire<'_> {
    pub(super) fn into_event(self) -> Result<AgentEvent, WireError> {
        self.check_ranges()?;
        let Ok(kind) = self.event.parse() else {
            let name = self.event.into_owned();
            return Ok(AgentEvent::new(self.time, self.agent.unwrap_or_default(), Event::Unknown { name }));
        };
        let need = |field| move || WireError::Missing { event: EventKind::to_string(&kind), field };
        let success = self.success.unwrap_or(self.error.is_none());
        let (error, duration_ms, cost_usd) = (self.error, self.duration_ms, self.cost_usd);
        let event = match kind {
            EventKind::TaskStarted => Event::TaskStarted { name: self.name },
            EventKind::TaskFinished => {
                let success = self.success.ok_or_else(need("success"))?;
                Event::TaskFinished { success, error, duration_ms, cost_usd }
            }
            EventKind::StepFinished => Event::StepFinished {
                name: self.name.ok_or_else(need("name"))?,
                kind: self.kind.unwrap_or_else(|| "step".to_owned()),
                success,
                error,
                duration_ms,
            },
            EventKind::LlmCall => Event::LlmCall {
                model: self.model,
                provider: self.provider,
                input_tokens: self.input_tokens.unwrap_or(0),
                cached_input_tokens: self.cached_input_tokens.unwrap_or(0),
                output_tokens: self.output_tokens.unwrap_or(0),
                cost_usd,
                success,
                error,
                duration_ms,
                first_token_ms: self.first_token_ms,
            },
            EventKind::ToolCall => Event::ToolCall {
                tool: self.tool.ok_or_else(need("tool"))?,
                arguments_hash: self.arguments_hash,
                success,
                correct: self.correct,
                error,
                duration_ms,
            },
            EventKind::Handoff => Event::Handoff {
                from: self.from.ok_or_else(need("from"))?,
                to: self.to.ok_or_else(need("to"))?,
                depth: self.depth.unwrap_or(1),
            },
            EventKind::Message => Event::Message { sender: self.sender.ok_or_else(need("sender"))? },
            EventKind::PolicyCheck => Event::PolicyCheck {
                policy: self.policy.unwrap_or_default(),
                compliant: self.compliant.ok_or_else(need("compliant"))?,
            },
            EventKind::Evaluation => {
                let metric = self.metric.ok_or_else(need("metric"))?;
                if self.passed.is_none() && self.score.is_none() {
                    return Err(need("passed` or `score")());
                }
                Event::Evaluation { metric, passed: self.passed, score: self.score, confidence: self.confidence }
            }
            EventKind::HttpRequest => {
                Event::HttpRequest { url: self.url.ok_or_else(need("url"))?, status_code: self.status_code, error }
            }
            EventKind::Heartbeat => Event::Heartbeat,
            EventKind::Unknown => unreachable!("no text parses as an unknown kind"),
        };
        Ok(AgentEvent {
            time: self.time,
            agent: self.agent.filter(|agent| !agent.is_empty()).unwrap_or_else(|| "default".to_owned()),
            task: self.task,
            trace_id: self.trace_id,
            span_id: self.span_id,
            parent_span_id: self.parent_span_id,
            attributes: self.attributes.unwrap_or_default(),
            event,
        })
    }

    fn check_ranges(&self) -> Result<(), WireError> {
        for (field, value) in [("duration_ms", self.duration_ms), ("first_token_ms", self.first_token_ms)] {
            // A century of milliseconds: beyond it a duration is a mistake, and sums of them would lose precision.
            if let Some(found) = value.filter(|ms| !(0.0..=3.2e12).contains(ms)) {
                let expected = "milliseconds, at least 0 and at most a century";
                return Err(WireError::Range { field, found: found.to_string(), expected });
            }
        }
        if let Some(found) = self.confidence.filter(|confidence| !(0.0..=1.0).contains(confidence)) {
            return Err(WireError::Range { field: "confidence", found: found.to_string(), expected: "0 to 1" });
        }
        if let Some(found) = self.cost_usd.filter(|cost| cost.is_negative()) {
            return Err(WireError::Range { field: "cost_usd", found: found.to_string(), expected: "at least 0" });
        }
        Ok(())
    }
}
