use std::hash::Hasher;
use std::time::Duration;
use std::{fmt, io};

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::{AgentEvent, Event, Timestamp};

/// An event as a span of a trace: its ids, its place in the tree, its times and its error, the same for every backend.
///
/// Ids that are W3C hex are kept. Others are hashed, and missing ones are derived from the task and the event, so that an
/// event that is sent twice is the same span. Spans without a parent of their own belong to the span of their task.
///
/// ```
/// use sre_core::{AgentEvent, EventSpan};
/// let line = br#"{"event":"tool_call","time":12.5,"agent":"a","task":"t","tool":"search","duration_ms":500}"#;
/// let event = AgentEvent::from_json(line)?;
/// let span = EventSpan::of(&event).unwrap();
/// assert_eq!(span.start.as_secs(), 12);
/// assert_eq!(EventSpan::of(&event), Some(span), "the same event is the same span");
/// # Ok::<(), sre_core::InvalidEvent>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventSpan<'a> {
    /// The trace, 16 bytes.
    pub trace_id: [u8; 16],
    /// The span, 8 bytes.
    pub span_id: [u8; 8],
    /// The span that it belongs to; `None` for a root.
    pub parent_span_id: Option<[u8; 8]>,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Whether it is the span of a whole task.
    pub is_task: bool,
    /// Whether it went well; `None` where it can go neither way.
    pub outcome: Option<bool>,
    /// What went wrong, where the event says so.
    pub error: Option<&'a str>,
}

impl<'a> EventSpan<'a> {
    /// Returns the span of an event; `None` for one that is no span: a task's start (its end has the whole span), a
    /// heartbeat, an unknown event.
    pub fn of(event: &'a AgentEvent) -> Option<Self> {
        let error = match &event.event {
            Event::TaskStarted { .. } | Event::Heartbeat | Event::Unknown { .. } => return None,
            Event::TaskFinished { error, .. }
            | Event::StepFinished { error, .. }
            | Event::LlmCall { error, .. }
            | Event::ToolCall { error, .. }
            | Event::HttpRequest { error, .. } => error.as_deref(),
            _ => None,
        };
        let is_task = matches!(event.event, Event::TaskFinished { .. });
        let has_task = !event.task_key().is_empty();
        let parent = event.parent_span_id.as_deref().map(span_id);
        let task_span = || first_8(&stable_id(&["task-span", &event.agent, event.task_key()]));
        Some(Self {
            trace_id: trace_id(event),
            span_id: match event.span_id.as_deref() {
                Some(id) => span_id(id),
                None if is_task && has_task => task_span(),
                None => first_8(&digest_of(event)),
            },
            parent_span_id: parent.or_else(|| (!is_task && has_task).then(task_span)),
            start: event.time.saturating_sub(duration(event.event.duration_ms())),
            end: event.time,
            is_task,
            outcome: event.event.outcome(),
            error,
        })
    }

    /// Returns the trace id in lower-case hex.
    pub fn trace_hex(&self) -> String {
        Hex(&self.trace_id).to_string()
    }

    /// Returns the span id in lower-case hex.
    pub fn span_hex(&self) -> String {
        Hex(&self.span_id).to_string()
    }

    /// Returns the parent's id in lower-case hex.
    pub fn parent_hex(&self) -> Option<String> {
        self.parent_span_id.map(|id| Hex(&id).to_string())
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn trace_id(event: &AgentEvent) -> [u8; 16] {
    match event.trace_id.as_deref() {
        // A UUID is 16 bytes with dashes between.
        Some(id) => parse_hex(&id.replace('-', "")).unwrap_or_else(|| stable_id(&["trace", id])),
        None if event.task_key().is_empty() => digest_of(event),
        None => stable_id(&["task", &event.agent, event.task_key()]),
    }
}

fn span_id(id: &str) -> [u8; 8] {
    parse_hex(id).unwrap_or_else(|| first_8(&stable_id(&["span", id])))
}

/// An id of all zeros is invalid in W3C's trace context.
fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (number, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * number..2 * number + 2], 16).ok()?;
    }
    (bytes != [0; N]).then_some(bytes)
}

fn duration(ms: Option<f64>) -> Duration {
    Duration::try_from_secs_f64(ms.unwrap_or(0.0) / 1e3).unwrap_or_default()
}

/// Returns an id of 128 bits that is the same for the same texts in every version and on every machine.
///
/// ```
/// assert_ne!(sre_core::stable_id(&["ab", "c"]), sre_core::stable_id(&["a", "bc"]));
/// ```
pub fn stable_id(parts: &[&str]) -> [u8; 16] {
    let mut hasher = SipHasher13::new();
    for part in parts {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part.as_bytes());
    }
    hasher.finish128().as_u128().max(1).to_be_bytes()
}

fn digest_of(event: &AgentEvent) -> [u8; 16] {
    struct Feed(SipHasher13);

    impl io::Write for Feed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut feed = Feed(SipHasher13::new());
    // Every event but an unknown one, which is no span, can be written.
    let _ = serde_json::to_writer(&mut feed, event);
    feed.0.finish128().as_u128().max(1).to_be_bytes()
}

/// Half a digest; never all zeros, which is no id.
fn first_8(digest: &[u8; 16]) -> [u8; 8] {
    let half =
        u64::from_be_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]]);
    half.max(1).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(json: &str) -> Option<EventSpan<'static>> {
        let json = format!(r#"{{"time":100,"agent":"a",{json}}}"#);
        let event = Box::leak(Box::new(AgentEvent::from_json(json.as_bytes()).unwrap()));
        EventSpan::of(event)
    }

    #[test]
    fn spans_of_a_task_are_one_tree() {
        let root =
            span(r#""task":"t","event":"task_finished","success":false,"error":"e","duration_ms":2000"#).unwrap();
        let child = span(r#""task":"t","event":"llm_call","duration_ms":1000"#).unwrap();
        let other = span(r#""task":"u","event":"llm_call","duration_ms":1000"#).unwrap();
        assert_eq!((root.is_task, root.parent_span_id, root.error), (true, None, Some("e")));
        assert_eq!(child.parent_span_id, Some(root.span_id));
        assert_eq!(child.trace_id, root.trace_id);
        assert_eq!((root.start.as_secs(), child.start.as_secs(), child.end.as_secs()), (98, 99, 100));
        assert!(other.trace_id != root.trace_id && other.parent_span_id != Some(root.span_id));
    }

    #[test]
    fn ids_in_w3c_hex_are_kept_and_others_are_hashed() {
        let ids = |trace: &str, span_id: &str| {
            let json = format!(
                r#""event":"tool_call","tool":"x","trace_id":"{trace}","span_id":"{span_id}","parent_span_id":"{span_id}""#
            );
            span(&json).unwrap()
        };
        let kept = ids("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        assert_eq!(kept.trace_hex(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((kept.span_hex(), kept.parent_hex().unwrap()), ("00f067aa0ba902b7".into(), kept.span_hex()));
        assert_eq!(ids("4bf92f35-77b3-4da6-a3ce-929d0e0e4736", "a").trace_id, kept.trace_id, "a UUID");
        for (trace, span_id) in
            [("run-7", "8"), (&*"0".repeat(32), &*"0".repeat(16)), (&*"é".repeat(16), "+1+1+1+1+1+1+1+1")]
        {
            let hashed = ids(trace, span_id);
            assert!(hashed.trace_id != [0; 16] && hashed.span_id != [0; 8]);
            assert_eq!(hashed, ids(trace, span_id));
        }
        assert_eq!(ids("run-7", "8").trace_hex(), "86216feff7dc49bf1c32a672b42d0f9e", "published ids never change");
    }

    #[test]
    fn what_happened_outside_of_any_task_is_a_trace_of_its_own() {
        let alone = span(r#""event":"handoff","from":"a","to":"b""#).unwrap();
        assert_eq!(alone.parent_span_id, None);
        assert_ne!(alone.trace_id, span(r#""event":"handoff","from":"a","to":"c""#).unwrap().trace_id);
        assert_eq!(span(r#""event":"heartbeat""#), None);
        assert_eq!(span(r#""event":"task_started","task":"t""#), None);
    }
}
