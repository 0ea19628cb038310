//! The range of each number of an event.

use std::fmt;

use super::Event;
use super::payload::{Handoff, LlmCall, ToolCall};
use crate::Usd;

/// The maximum number of input, cached or output tokens of one model call.
const MAX_TOKENS: u64 = 1_000_000_000;
/// The maximum cost of one event. Sums of costs saturate at 9.2 billion dollars.
const MAX_COST: Usd = Usd::from_nanos(100_000 * 1_000_000_000);

/// A field of an event that is out of range, or missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidField {
    /// A number out of range.
    #[error("`{field}`: found {found}, expected {expected}")]
    Range {
        /// The name of the field.
        field: &'static str,
        /// The number.
        found: String,
        /// The unit and the range.
        expected: &'static str,
    },
    /// An evaluation without a verdict and without a score.
    #[error("`evaluation` has no field `passed` or `score`")]
    NoVerdict,
}

impl Event {
    /// Checks the range of every number. An event out of range would spoil the sums of all others, so adapters reject it.
    ///
    /// # Errors
    ///
    /// Returns an error for a duration or time to the first token below 0 or above a century; for a cost below 0 or above
    /// 100,000 dollars; for more than a billion input, cached or output tokens; for attempt 0; for a depth of handoffs above 1,000;
    /// for a confidence outside 0 to 1; and for an evaluation without `passed` and `score`.
    ///
    /// ```
    /// use sre_core::{Event, event::LlmCall};
    /// let mut call = LlmCall::new(Some("gpt-4o-mini".to_owned()));
    /// call.output_tokens = u64::MAX;
    /// let error = Event::from(call).check().unwrap_err();
    /// assert_eq!(error.to_string(), "`output_tokens`: found 18446744073709551615, expected at most 1 billion");
    /// ```
    pub fn check(&self) -> Result<(), InvalidField> {
        let first_token_ms = if let Self::LlmCall(call) = self { call.first_token_ms } else { None };
        for (field, value) in [("duration_ms", self.duration_ms()), ("first_token_ms", first_token_ms)] {
            // A duration above a century is a mistake, and sums of such durations would lose precision.
            if let Some(found) = value.filter(|ms| !(0.0..=3.2e12).contains(ms)) {
                return out_of_range(field, &found, "milliseconds, at least 0 and at most a century");
            }
        }
        if let Some(found) = self.cost_usd().filter(|cost| cost.is_negative() || *cost > MAX_COST) {
            return out_of_range("cost_usd", &found, "at least 0 and at most 100000 dollars");
        }
        match self {
            Self::LlmCall(LlmCall { attempt: Some(0), .. }) | Self::ToolCall(ToolCall { attempt: Some(0), .. }) => {
                out_of_range("attempt", &0, "at least 1")
            }
            Self::LlmCall(call) => {
                let counts = [
                    ("input_tokens", call.input_tokens),
                    ("cached_input_tokens", call.cached_input_tokens),
                    ("cache_write_input_tokens", call.cache_write_input_tokens),
                    ("output_tokens", call.output_tokens),
                ];
                match counts.into_iter().find(|(_, tokens)| *tokens > MAX_TOKENS) {
                    Some((field, found)) => out_of_range(field, &found, "at most 1 billion"),
                    None => Ok(()),
                }
            }
            Self::Handoff(handoff) if handoff.depth > Handoff::MAX_DEPTH => {
                out_of_range("depth", &handoff.depth, "at most 1000")
            }
            Self::Evaluation(evaluation) => {
                if let Some(found) = evaluation.confidence.filter(|confidence| !(0.0..=1.0).contains(confidence)) {
                    return out_of_range("confidence", &found, "0 to 1");
                }
                if evaluation.passed.is_none() && evaluation.score.is_none() {
                    return Err(InvalidField::NoVerdict);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn out_of_range(field: &'static str, found: &dyn fmt::Display, expected: &'static str) -> Result<(), InvalidField> {
    Err(InvalidField::Range { field, found: found.to_string(), expected })
}
