//! Reads an event in one pass over its fields, without copying the line.
//!
//! The envelope's fields are read here; all others are passed to the payload struct of the event's kind. Fields before
//! `event` are buffered until the kind is known; agent-sre itself writes no such fields.

use std::borrow::Cow;
use std::fmt;
use std::vec;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, Visitor};
use serde_json::Value;

use super::bounded::{Attributes, Shallow};
use super::payload::{LlmCall, StepFinished, ToolCall, UnknownEvent};
use super::{AgentEvent, Event, EventKind, InvalidId, RecordedSpan, SpanId, TraceId};
use crate::Timestamp;

impl<'de> Deserialize<'de> for AgentEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (envelope, event) = deserializer.deserialize_map(EventVisitor { checks_ranges: true })?;
        let time = envelope.time.ok_or_else(|| D::Error::missing_field("time"))?;
        envelope.into_event(time, event)
    }
}

/// Reads saved state, which may hold numbers that an earlier version accepted.
impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor { checks_ranges: false }).map(|(_, event)| event)
    }
}

/// A string that borrows from the input if possible, also inside an `Option`.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The fields that every event has.
#[derive(Default)]
struct Envelope<'de> {
    time: Option<Timestamp>,
    agent: Option<String>,
    task: Option<String>,
    trace_id: Option<Text<'de>>,
    span_id: Option<Text<'de>>,
    parent_span_id: Option<Text<'de>>,
    native_id: Option<String>,
    attributes: Option<Attributes>,
    span: Option<Box<RecordedSpan>>,
    /// Belongs to the payload. If absent, the event succeeded unless it has an `error`.
    success: Option<bool>,
}

impl<'de> Envelope<'de> {
    /// Reads the value of `key`. Returns false if the key is not a field of the envelope.
    fn read<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "time" => set(&mut self.time, "time", map.next_value().map(Some)?)?,
            "agent" => set(&mut self.agent, "agent", map.next_value()?)?,
            "task" => set(&mut self.task, "task", map.next_value()?)?,
            "trace_id" => set(&mut self.trace_id, "trace_id", map.next_value()?)?,
            "span_id" => set(&mut self.span_id, "span_id", map.next_value()?)?,
            "parent_span_id" => set(&mut self.parent_span_id, "parent_span_id", map.next_value()?)?,
            "native_id" => set(&mut self.native_id, "native_id", map.next_value()?)?,
            "attributes" => set(&mut self.attributes, "attributes", map.next_value()?)?,
            "span" => set(&mut self.span, "span", map.next_value()?)?,
            "success" => set(&mut self.success, "success", map.next_value()?)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn into_event<E: Error>(self, time: Timestamp, event: Event) -> Result<AgentEvent, E> {
        let trace = self.trace_id.map(|Text(text)| text).filter(|text| !text.is_empty());
        let trace_id = trace.as_deref().map(str::parse::<TraceId>);
        let native_trace = match &trace_id {
            Some(Err(InvalidId::NotHex { .. })) => trace.as_deref(),
            _ => None,
        };
        let parse_span_id = |text: Option<Text<'de>>| {
            let text = text.map(|Text(text)| text).filter(|text| !text.is_empty())?;
            Some(match text.parse() {
                Err(InvalidId::NotHex { .. }) => Ok(SpanId::from_native(trace.as_deref().unwrap_or_default(), &text)),
                parsed => parsed,
            })
        };
        let span_id = parse_span_id(self.span_id);
        for (field, is_zero) in
            [("trace_id", trace_id == Some(Err(InvalidId::Zero))), ("span_id", span_id == Some(Err(InvalidId::Zero)))]
        {
            if is_zero {
                return Err(E::custom(format_args!("`{field}`: {}", InvalidId::Zero)));
            }
        }
        Ok(AgentEvent {
            time,
            agent: self.agent.filter(|agent| !agent.is_empty()).unwrap_or_else(|| "default".to_owned()),
            task: self.task,
            span_id: span_id.and_then(Result::ok),
            // Some tools write zeros where there is no parent.
            parent_span_id: parse_span_id(self.parent_span_id).and_then(Result::ok),
            native_id: self.native_id.or_else(|| native_trace.map(str::to_owned)),
            trace_id: trace_id.and_then(Result::ok),
            span: self.span,
            attributes: self.attributes.map(|Attributes(attributes)| attributes).unwrap_or_default(),
            event,
        })
    }
}

fn set<T, E: Error>(field: &mut Option<T>, name: &'static str, value: Option<T>) -> Result<(), E> {
    match field {
        Some(_) => Err(E::duplicate_field(name)),
        None => {
            *field = value;
            Ok(())
        }
    }
}

/// The maximum number of fields before `event`, which are buffered.
const MAX_EARLY_FIELDS: usize = 256;

struct EventVisitor {
    checks_ranges: bool,
}

impl<'de> Visitor<'de> for EventVisitor {
    type Value = (Envelope<'de>, Event);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event: an object with `event` and `time`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut envelope, mut early) = (Envelope::default(), Vec::new());
        let name = loop {
            let Some(Text(key)) = map.next_key()? else { return Err(A::Error::missing_field("event")) };
            if key == "event" {
                break map.next_value::<Text<'de>>()?.0;
            }
            if !envelope.read(&key, &mut map)? {
                if early.len() == MAX_EARLY_FIELDS {
                    return Err(A::Error::custom(format_args!(
                        "found more than {MAX_EARLY_FIELDS} fields before `event`, expected `event` first"
                    )));
                }
                early.push((key, map.next_value_seed(Shallow)?));
            }
        };
        if let Some(success) = envelope.success {
            early.push((Cow::Borrowed("success"), Value::Bool(success)));
        }
        let fields = Fields { envelope: &mut envelope, early: early.into_iter(), value: None, map };
        let mut event = read_payload(&name, MapAccessDeserializer::new(fields))?;
        if envelope.success.is_none() {
            infer_success(&mut event);
        }
        if self.checks_ranges {
            event.check().map_err(A::Error::custom)?;
        }
        Ok((envelope, event))
    }
}

fn read_payload<'de, D: Deserializer<'de>>(name: &str, fields: D) -> Result<Event, D::Error> {
    let Ok(kind) = name.parse() else {
        IgnoredAny::deserialize(fields)?;
        return Ok(Event::Unknown(UnknownEvent::new(name)));
    };
    Ok(match kind {
        EventKind::TaskStarted => Event::TaskStarted(Deserialize::deserialize(fields)?),
        EventKind::TaskFinished => Event::TaskFinished(Deserialize::deserialize(fields)?),
        EventKind::StepFinished => Event::StepFinished(Deserialize::deserialize(fields)?),
        EventKind::LlmCall => Event::LlmCall(Deserialize::deserialize(fields)?),
        EventKind::ToolCall => Event::ToolCall(Deserialize::deserialize(fields)?),
        EventKind::Handoff => Event::Handoff(Deserialize::deserialize(fields)?),
        EventKind::Message => Event::Message(Deserialize::deserialize(fields)?),
        EventKind::PolicyCheck => Event::PolicyCheck(Deserialize::deserialize(fields)?),
        EventKind::Evaluation => Event::Evaluation(Deserialize::deserialize(fields)?),
        EventKind::HttpRequest => Event::HttpRequest(Deserialize::deserialize(fields)?),
        EventKind::Heartbeat => Event::Heartbeat(Deserialize::deserialize(fields)?),
        EventKind::SpanFinished => Event::SpanFinished(Deserialize::deserialize(fields)?),
        EventKind::Unknown => unreachable!("no text parses as an unknown kind"),
    })
}

/// Without an explicit outcome, an event succeeded if it has no error.
fn infer_success(event: &mut Event) {
    if let Event::StepFinished(StepFinished { success, error, .. })
    | Event::LlmCall(LlmCall { success, error, .. })
    | Event::ToolCall(ToolCall { success, error, .. }) = event
    {
        *success = error.is_none();
    }
}

/// The fields of the payload: first those before `event`, then the rest of the input without the envelope's fields.
struct Fields<'a, 'de, A> {
    envelope: &'a mut Envelope<'de>,
    early: vec::IntoIter<(Cow<'de, str>, Value)>,
    /// The value of the last key, if it is not the next value in `map`.
    value: Option<Value>,
    map: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<'_, 'de, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        if let Some((key, value)) = self.early.next() {
            self.value = Some(value);
            return seed.deserialize((&*key).into_deserializer()).map(Some);
        }
        loop {
            let Some(Text(key)) = self.map.next_key()? else { return Ok(None) };
            if key == "event" {
                return Err(A::Error::duplicate_field("event"));
            }
            if !self.envelope.read(&key, &mut self.map)? {
                return seed.deserialize((&*key).into_deserializer()).map(Some);
            }
            if key == "success"
                && let Some(success) = self.envelope.success
            {
                self.value = Some(Value::Bool(success));
                return seed.deserialize("success".into_deserializer()).map(Some);
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.value.take() {
            Some(value) => seed.deserialize(value).map_err(A::Error::custom),
            None => self.map.next_value_seed(seed),
        }
    }
}
