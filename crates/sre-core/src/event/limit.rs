//! Limits on the length of strings, so that everything which outlives an event is bounded in bytes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::payload::{
    Evaluation, Handoff, HttpRequest, LlmCall, Message, PolicyCheck, SpanFinished, StepFinished, TaskFinished,
    TaskStarted, ToolCall, UnknownEvent,
};
use super::{AgentEvent, Event};
use crate::hash::stable_hash;

/// Maximum length of a name or an id in bytes: of an agent, task, model, provider, tool, step or policy, of the key of an
/// attribute, and of a framework's own ids.
pub const MAX_NAME_BYTES: usize = 256;
/// Maximum length of a text in bytes: an error, a URL, or the value of an attribute.
pub const MAX_TEXT_BYTES: usize = 1_024;
/// Maximum number of attributes of an event.
pub const MAX_ATTRIBUTES: usize = 128;

/// Attributes that engines read. They are kept, however many others there are.
const READ_BY_ENGINES: [&str; 3] = ["confidence", "incomplete", "team"];

/// Shortens strings that are too long, and adds up the size of all that it has seen.
///
/// A string above its limit keeps its beginning, and ends in `…` and 32 hex digits of a hash of the whole, so that two long
/// names that differ stay different. A string within its limit costs no more than a comparison.
///
/// ```
/// use sre_core::event::{MAX_NAME_BYTES, StringLimiter};
/// let mut limiter = StringLimiter::default();
/// let mut names = ["gpt-5".to_owned(), "x".repeat(1 << 20)];
/// names.iter_mut().for_each(|name| limiter.name(name));
/// assert_eq!((names[0].as_str(), names[1].len(), limiter.shortened), ("gpt-5", MAX_NAME_BYTES, 1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StringLimiter {
    /// Strings that were too long, and attributes that were too many.
    pub shortened: u64,
    /// Total length of the strings in bytes, as they are now.
    pub bytes: usize,
}

impl StringLimiter {
    /// Limits a name or an id to [`MAX_NAME_BYTES`].
    #[inline]
    pub fn name(&mut self, name: &mut String) {
        self.limit(name, MAX_NAME_BYTES);
    }

    /// Limits several names, such as an optional one.
    #[inline]
    pub fn names<'a>(&mut self, names: impl IntoIterator<Item = &'a mut String>) {
        names.into_iter().for_each(|name| self.name(name));
    }

    /// Limits a text to [`MAX_TEXT_BYTES`].
    #[inline]
    pub fn text(&mut self, text: &mut String) {
        self.limit(text, MAX_TEXT_BYTES);
    }

    /// Limits several texts, such as an optional one.
    #[inline]
    pub fn texts<'a>(&mut self, texts: impl IntoIterator<Item = &'a mut String>) {
        texts.into_iter().for_each(|text| self.text(text));
    }

    #[inline]
    fn limit(&mut self, text: &mut String, max: usize) {
        if text.len() > max {
            *text = shorten(text, max);
            self.shortened += 1;
        }
        self.bytes += text.len();
    }

    /// Limits attributes: their number to [`MAX_ATTRIBUTES`], their keys as names and their values as texts.
    pub fn attributes(&mut self, attributes: &mut BTreeMap<String, Value>) {
        let excess = attributes.len().saturating_sub(MAX_ATTRIBUTES);
        if excess > 0 || attributes.keys().any(|key| key.len() > MAX_NAME_BYTES) {
            self.shortened += excess as u64;
            self.limit_keys(attributes, excess);
        }
        for (key, value) in attributes {
            self.bytes += key.len();
            self.value(value);
        }
    }

    /// Removes the last `excess` attributes by name, and limits the keys of the others.
    #[cold]
    fn limit_keys(&mut self, attributes: &mut BTreeMap<String, Value>, mut excess: usize) {
        let all = std::mem::take(attributes).into_iter().rev();
        let mut key_limiter = Self::default();
        for (mut key, value) in all {
            if excess > 0 && !READ_BY_ENGINES.contains(&key.as_str()) {
                excess -= 1;
                continue;
            }
            key_limiter.name(&mut key);
            attributes.insert(key, value);
        }
        self.shortened += key_limiter.shortened;
    }

    /// Limits the value of an attribute. A nested value that is too long becomes a text of its JSON.
    fn value(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(_) | Value::Object(_) => match nested_bytes(value, MAX_TEXT_BYTES) {
                Some(bytes) => self.bytes += bytes,
                None => {
                    *value = Value::String(shorten(&value.to_string(), MAX_TEXT_BYTES));
                    self.shortened += 1;
                    self.bytes += MAX_TEXT_BYTES;
                }
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Returns the beginning of `text`, a mark and a digest of the whole: at most `max` bytes.
#[cold]
fn shorten(text: &str, max: usize) -> String {
    const MARK: char = '…';
    const DIGITS: usize = 32;
    let beginning = &text[..text.floor_char_boundary(max - MARK.len_utf8() - DIGITS)];
    let digest = u128::from_be_bytes(stable_hash(&[text]));
    format!("{beginning}{MARK}{digest:0DIGITS$x}")
}

/// Returns the approximate length of the JSON of a value, or `None` if it is above `max`.
fn nested_bytes(value: &Value, max: usize) -> Option<usize> {
    let sum = |total: usize, key: usize, value: &Value| {
        let so_far = total + key + 4;
        Some(so_far + nested_bytes(value, max.checked_sub(so_far)?)?)
    };
    let bytes = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().try_fold(2, |total, item| sum(total, 0, item))?,
        Value::Object(fields) => fields.iter().try_fold(2, |total, (key, item)| sum(total, key.len(), item))?,
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    };
    (bytes <= max).then_some(bytes)
}

impl AgentEvent {
    /// Shortens strings that are too long, and removes attributes beyond [`MAX_ATTRIBUTES`]. A runtime and the adapters do
    /// this to every event. An event that was shortened stays as it is.
    pub fn limit_strings(&mut self, limiter: &mut StringLimiter) {
        limiter.name(&mut self.agent);
        limiter.names(&mut self.task);
        limiter.names(&mut self.native_id);
        if let Some(span) = &mut self.span {
            span.limit_strings(limiter);
        }
        if !self.attributes.is_empty() {
            limiter.attributes(&mut self.attributes);
        }
        self.event.limit_strings(limiter);
    }
}

impl AgentEvent {
    /// Returns the approximate size in memory, in bytes: what queues of events are bounded by.
    ///
    /// ```
    /// use sre_core::AgentEvent;
    /// let event = AgentEvent::from_json(br#"{"event":"message","time":1,"agent":"a","sender":"user"}"#).unwrap();
    /// assert!((100..1_000).contains(&event.size()));
    /// ```
    pub fn size(&self) -> usize {
        let texts =
            self.agent.len() + [&self.task, &self.native_id].into_iter().flatten().map(String::len).sum::<usize>();
        let attribute = |(key, value): (&String, &Value)| {
            size_of::<(String, Value)>() + key.len() + nested_bytes(value, usize::MAX).unwrap_or(usize::MAX)
        };
        let attributes = self.attributes.iter().map(attribute).fold(0, usize::saturating_add);
        let span = self.span.as_ref().map_or(0, |span| span.size());
        (size_of::<Self>() + texts + span + self.event.text_bytes()).saturating_add(attributes)
    }
}

impl Event {
    /// Returns the total length of the strings, in bytes.
    fn text_bytes(&self) -> usize {
        let sum = |texts: &[&Option<String>]| texts.iter().copied().flatten().map(String::len).sum::<usize>();
        match self {
            Self::TaskStarted(TaskStarted { name }) => sum(&[name]),
            Self::TaskFinished(TaskFinished { error, .. }) => sum(&[error]),
            Self::StepFinished(StepFinished { name, kind, error, .. }) => name.len() + kind.len() + sum(&[error]),
            Self::LlmCall(LlmCall { model, provider, error, operation_id, .. }) => {
                sum(&[model, provider, error, operation_id])
            }
            Self::ToolCall(ToolCall { tool, arguments_hash, error, operation_id, .. }) => {
                tool.len() + sum(&[arguments_hash, error, operation_id])
            }
            Self::Handoff(Handoff { from, to, .. }) => from.len() + to.len(),
            Self::Message(Message { sender }) => sender.len(),
            Self::PolicyCheck(PolicyCheck { policy, .. }) => policy.len(),
            Self::Evaluation(Evaluation { metric, .. }) => metric.len(),
            Self::HttpRequest(HttpRequest { url, error, .. }) => url.len() + sum(&[error]),
            Self::Heartbeat(_) => 0,
            Self::SpanFinished(SpanFinished { error, .. }) => sum(&[error]),
            Self::Unknown(UnknownEvent { name }) => name.len(),
        }
    }

    /// Shortens strings that are too long.
    pub fn limit_strings(&mut self, limiter: &mut StringLimiter) {
        match self {
            Self::TaskStarted(TaskStarted { name }) => limiter.names(name),
            Self::TaskFinished(TaskFinished { error, .. }) => limiter.texts(error),
            Self::StepFinished(StepFinished { name, kind, error, .. }) => {
                limiter.names([name, kind]);
                limiter.texts(error);
            }
            Self::LlmCall(LlmCall { model, provider, error, operation_id, .. }) => {
                limiter.names(model.iter_mut().chain(provider).chain(operation_id));
                limiter.texts(error);
            }
            Self::ToolCall(ToolCall { tool, arguments_hash, error, operation_id, .. }) => {
                limiter.name(tool);
                limiter.names(arguments_hash.iter_mut().chain(operation_id));
                limiter.texts(error);
            }
            Self::Handoff(Handoff { from, to, .. }) => limiter.names([from, to]),
            Self::Message(Message { sender }) => limiter.name(sender),
            Self::PolicyCheck(PolicyCheck { policy, .. }) => limiter.name(policy),
            Self::Evaluation(Evaluation { metric, .. }) => limiter.name(metric),
            Self::HttpRequest(HttpRequest { url, error, .. }) => {
                limiter.text(url);
                limiter.texts(error);
            }
            Self::Heartbeat(_) => {}
            Self::SpanFinished(SpanFinished { error, .. }) => limiter.texts(error),
            Self::Unknown(UnknownEvent { name }) => limiter.name(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::Timestamp;

    fn limited(mut event: AgentEvent) -> (AgentEvent, StringLimiter) {
        let mut limiter = StringLimiter::default();
        event.limit_strings(&mut limiter);
        (event, limiter)
    }

    /// Every string of every kind of event.
    #[test]
    fn no_string_of_any_event_stays_long() {
        let long = |letter: &str| letter.repeat(5_000);
        for (fields, strings) in [
            (json!({"event": "task_started", "name": long("n")}), 1),
            (json!({"event": "task_finished", "success": false, "error": long("e")}), 1),
            (json!({"event": "step_finished", "name": long("n"), "kind": long("k"), "error": long("e")}), 3),
            (
                json!({"event": "llm_call", "model": long("m"), "provider": long("p"), "error": long("e"),
                    "operation_id": long("o")}),
                4,
            ),
            (
                json!({"event": "tool_call", "tool": long("t"), "arguments_hash": long("a"), "error": long("e"),
                    "operation_id": long("o")}),
                4,
            ),
            (json!({"event": "handoff", "from": long("f"), "to": long("t")}), 2),
            (json!({"event": "message", "sender": long("s")}), 1),
            (json!({"event": "policy_check", "policy": long("p"), "compliant": true}), 1),
            (json!({"event": "evaluation", "metric": long("m"), "score": 1}), 1),
            (json!({"event": "http_request", "url": long("u"), "error": long("e")}), 2),
            (json!({"event": "heartbeat"}), 0),
            (
                json!({"event": "span_finished", "error": long("e"), "span": {"name": long("n"), "agent": long("a"),
                    "service": long("s"), "task": long("t"), "call_id": long("c"), "request_id": long("r")}}),
                7,
            ),
            (json!({"event": long("x")}), 1),
        ] {
            let mut json = fields;
            for (key, value) in [
                ("time", json!(1)),
                ("agent", json!(long("a"))),
                ("task", json!(long("t"))),
                ("trace_id", json!(long("i"))),
                ("attributes", json!({"k".repeat(5_000): long("v"), "nested": {"list": [long("x")]}})),
            ] {
                json[key] = value;
            }
            let event = AgentEvent::from_json(json.to_string().as_bytes()).unwrap();
            let (event, limiter) = limited(event);
            // The agent, the task, the native id, and of the attributes a key and two values.
            assert_eq!(limiter.shortened, 6 + strings, "{event:?}");
            assert!(format!("{event:?}").len() < 8_000, "{event:?}");
            assert_eq!(limited(event.clone()).1.shortened, 0, "a second time changes nothing");
        }
    }

    #[test]
    fn long_names_that_differ_stay_different() {
        let name = |end: &str| {
            let mut name = "é".repeat(1_000) + end;
            StringLimiter::default().name(&mut name);
            name
        };
        assert_ne!(name("a"), name("b"));
        // Saved state of earlier versions has shortened names, so the digest must never change.
        assert!(name("a").ends_with("…a538f7612158e50c687d8d09e5f7fb26"), "{}", name("a"));
        assert!(name("a").starts_with("éé") && name("a").len() <= MAX_NAME_BYTES);
    }

    #[test]
    fn what_is_within_the_limits_is_unchanged() {
        let json = format!(
            r#"{{"event":"llm_call","time":1,"agent":"{}","model":"{}","error":"{}","attributes":{{"a":[1,{{"b":"c"}}],"t":"{}"}}}}"#,
            "a".repeat(MAX_NAME_BYTES),
            "m".repeat(MAX_NAME_BYTES),
            "e".repeat(MAX_TEXT_BYTES),
            "t".repeat(MAX_TEXT_BYTES)
        );
        let event = AgentEvent::from_json(json.as_bytes()).unwrap();
        let (same, limiter) = limited(event.clone());
        assert_eq!((same, limiter.shortened), (event, 0));
    }

    #[test]
    fn attributes_that_engines_read_are_kept_however_many_there_are() {
        let mut event = AgentEvent::new(Timestamp::from_secs(1), "a", Message::new("s"));
        event.attributes = (0..1_000).map(|number| (format!("k{number}"), json!(number))).collect();
        event.attributes.insert("team".to_owned(), json!("core"));
        let (event, limiter) = limited(event);
        assert_eq!((event.attributes.len(), limiter.shortened), (MAX_ATTRIBUTES, 1_001 - MAX_ATTRIBUTES as u64));
        assert_eq!(event.attributes["team"], "core");
    }

    proptest! {
        #[test]
        fn any_text_is_cut_within_its_limit(text in "\\PC{0,400}") {
            let mut cut = text.clone();
            let mut limiter = StringLimiter::default();
            limiter.name(&mut cut);
            prop_assert!(cut.len() <= MAX_NAME_BYTES);
            prop_assert_eq!(limiter.shortened > 0, text.len() > MAX_NAME_BYTES);
            prop_assert_eq!(limiter.bytes, cut.len());
            prop_assert!(limiter.shortened > 0 || cut == text);
        }
    }
}
