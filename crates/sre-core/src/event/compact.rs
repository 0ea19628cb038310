//! Events in a form without names, for state and journals; `#[serde(with = "sre_core::compact_event")]`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Event;
use crate::Usd;

/// The same as [`Event`], whose own form is that of JSON Lines. A new event goes to the end: the place tells which it is.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Event")]
enum Mirror {
    TaskStarted {
        name: Option<String>,
    },
    TaskFinished {
        success: bool,
        error: Option<String>,
        duration_ms: Option<f64>,
        cost_usd: Option<Usd>,
    },
    StepFinished {
        name: String,
        kind: String,
        success: bool,
        error: Option<String>,
        duration_ms: Option<f64>,
    },
    LlmCall {
        model: Option<String>,
        provider: Option<String>,
        input_tokens: u64,
        cached_input_tokens: u64,
        output_tokens: u64,
        cost_usd: Option<Usd>,
        success: bool,
        error: Option<String>,
        duration_ms: Option<f64>,
        first_token_ms: Option<f64>,
    },
    ToolCall {
        tool: String,
        arguments_hash: Option<String>,
        success: bool,
        correct: Option<bool>,
        error: Option<String>,
        duration_ms: Option<f64>,
    },
    Handoff {
        from: String,
        to: String,
        depth: u32,
    },
    Message {
        sender: String,
    },
    PolicyCheck {
        policy: String,
        compliant: bool,
    },
    Evaluation {
        metric: String,
        passed: Option<bool>,
        score: Option<f64>,
        confidence: Option<f64>,
    },
    HttpRequest {
        url: String,
        status_code: Option<u16>,
        error: Option<String>,
    },
    Heartbeat,
    Unknown {
        name: String,
    },
}

#[derive(Serialize)]
struct Ref<'a>(#[serde(with = "Mirror")] &'a Event);

#[derive(Deserialize)]
struct Owned(#[serde(with = "Mirror")] Event);

/// Writes something with events in it, such as an option or a list.
pub fn serialize<'a, E, S>(events: &'a E, serializer: S) -> Result<S::Ok, S::Error>
where
    &'a E: IntoIterator<Item = &'a Event>,
    S: Serializer,
{
    serializer.collect_seq(events.into_iter().map(Ref))
}

/// Reads it back.
pub fn deserialize<'de, E, D>(deserializer: D) -> Result<E, D::Error>
where
    E: FromEvents,
    D: Deserializer<'de>,
{
    let events = Vec::<Owned>::deserialize(deserializer)?;
    Ok(E::from_events(events.into_iter().map(|Owned(event)| event)))
}

/// What events can be read back into.
pub trait FromEvents {
    /// Takes them in.
    fn from_events(events: impl Iterator<Item = Event>) -> Self;
}

impl FromEvents for Option<Event> {
    fn from_events(mut events: impl Iterator<Item = Event>) -> Self {
        events.next()
    }
}

impl FromEvents for Vec<Event> {
    fn from_events(events: impl Iterator<Item = Event>) -> Self {
        events.collect()
    }
}
