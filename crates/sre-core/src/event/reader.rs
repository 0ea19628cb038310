//! Reads an event in one pass over its fields, without copying the line.
//!
//! The envelope's fields are read here; all others are passed to the payload struct of the event's kind. Fields before
//! `event` are buffered until the kind is known; agent-sre itself writes no such fields.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::vec;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, Visitor};
use serde_json::Value;

use super::payload::{LlmCall, StepFinished, ToolCall, UnknownEvent};
use super::{AgentEvent, Event, EventKind, InvalidId, SpanId, TraceId};
use crate::Timestamp;

impl<'de> Deserialize<'de> for AgentEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (envelope, event) = deserializer.deserialize_map(EventVisitor)?;
        let time = envelope.time.ok_or_else(|| D::Error::missing_field("time"))?;
        Ok(envelope.into_event(time, event))
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor).map(|(_, event)| event)
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
    attributes: Option<BTreeMap<String, Value>>,
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
            "success" => set(&mut self.success, "success", map.next_value()?)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn into_event(self, time: Timestamp, event: Event) -> AgentEvent {
        let trace = self.trace_id.map(|Text(text)| text).filter(|text| !text.is_empty());
        let trace_id = trace.as_deref().map(str::parse::<TraceId>);
        let native_trace = match &trace_id {
            Some(Err(InvalidId::NotHex { .. })) => trace.as_deref(),
            _ => None,
        };
        let span_id = |text: Option<Text<'de>>| {
            let text = text?.0;
            match text.parse() {
                Ok(id) => Some(id),
                Err(InvalidId::NotHex { .. }) if !text.is_empty() => {
                    Some(SpanId::from_native(trace.as_deref().unwrap_or_default(), &text))
                }
                Err(_) => None,
            }
        };
        AgentEvent {
            time,
            agent: self.agent.filter(|agent| !agent.is_empty()).unwrap_or_else(|| "default".to_owned()),
            task: self.task,
            span_id: span_id(self.span_id),
            parent_span_id: span_id(self.parent_span_id),
            native_id: self.native_id.or_else(|| native_trace.map(str::to_owned)),
            trace_id: trace_id.and_then(Result::ok),
            attributes: self.attributes.unwrap_or_default(),
            event,
        }
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

struct EventVisitor;

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
                early.push((key, map.next_value()?));
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
        check_ranges(&event).map_err(A::Error::custom)?;
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

#[derive(Debug, thiserror::Error)]
enum InvalidField {
    #[error("`{field}`: found {found}, expected {expected}")]
    Range { field: &'static str, found: String, expected: &'static str },
    #[error("`evaluation` has no field `passed` or `score`")]
    NoVerdict,
}

fn check_ranges(event: &Event) -> Result<(), InvalidField> {
    let out_of_range = |field, found: &dyn fmt::Display, expected| {
        Err(InvalidField::Range { field, found: found.to_string(), expected })
    };
    let first_token_ms = if let Event::LlmCall(call) = event { call.first_token_ms } else { None };
    for (field, value) in [("duration_ms", event.duration_ms()), ("first_token_ms", first_token_ms)] {
        // A duration above a century is a mistake, and sums of such durations would lose precision.
        if let Some(found) = value.filter(|ms| !(0.0..=3.2e12).contains(ms)) {
            return out_of_range(field, &found, "milliseconds, at least 0 and at most a century");
        }
    }
    if let Some(found) = event.cost_usd().filter(|cost| cost.is_negative()) {
        return out_of_range("cost_usd", &found, "at least 0");
    }
    if let Event::LlmCall(LlmCall { attempt: Some(0), .. }) | Event::ToolCall(ToolCall { attempt: Some(0), .. }) = event
    {
        return out_of_range("attempt", &0, "at least 1");
    }
    if let Event::Evaluation(evaluation) = event {
        if let Some(found) = evaluation.confidence.filter(|confidence| !(0.0..=1.0).contains(confidence)) {
            return out_of_range("confidence", &found, "0 to 1");
        }
        if evaluation.passed.is_none() && evaluation.score.is_none() {
            return Err(InvalidField::NoVerdict);
        }
    }
    Ok(())
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
