use std::borrow::Cow;

use serde::Serialize;
use sre_core::{JsonObject, SpanId, Timestamp, TraceId};

/// A score of a trace or of one of its observations.
///
/// Source: `CreateScoreRequest` of Langfuse's API.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Score<'a> {
    /// A score of the same id replaces an earlier one.
    pub(crate) id: String,
    pub(crate) trace_id: TraceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observation_id: Option<SpanId>,
    pub(crate) name: Cow<'a, str>,
    #[serde(flatten)]
    pub(crate) value: ScoreValue<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) comment: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) environment: Option<&'a str>,
    pub(crate) metadata: JsonObject<'a>,
    pub(crate) timestamp: Timestamp,
}

/// The value of a score, by type.
#[derive(Debug, Serialize)]
#[serde(tag = "dataType", content = "value", rename_all = "UPPERCASE")]
pub(crate) enum ScoreValue<'a> {
    Numeric(f64),
    /// 1 or 0.
    Boolean(u8),
    Categorical(&'a str),
}

impl ScoreValue<'_> {
    /// Returns the value of a number; `None` for NaN and infinity.
    pub(crate) fn number(value: Option<f64>) -> Option<Self> {
        value.filter(|value| value.is_finite()).map(Self::Numeric)
    }
}

/// Returns an id as hex digits.
pub(crate) fn hex(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}
