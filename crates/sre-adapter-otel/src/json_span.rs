//! The fields of spans and log records in OTLP/JSON.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use sre_core::{SpanId, TraceId};

use crate::attributes::{Known, Scalar};
use crate::dialects::known_span_event;
use crate::span::{RawSpan, has_remote_parent, role, timestamp};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JsonSpan<'a> {
    #[serde(borrow, default)]
    trace_id: Cow<'a, str>,
    #[serde(borrow, default)]
    span_id: Cow<'a, str>,
    #[serde(borrow, default)]
    parent_span_id: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(default, deserialize_with = "flags")]
    flags: u32,
    #[serde(borrow, default)]
    kind: Enum<'a>,
    #[serde(default)]
    start_time_unix_nano: Nanos,
    #[serde(default)]
    end_time_unix_nano: Nanos,
    #[serde(borrow, default)]
    attributes: Attributes<'a>,
    #[serde(default)]
    events: SpanEvents,
    #[serde(borrow, default, deserialize_with = "object")]
    status: Status<'a>,
}

#[derive(Default, Deserialize)]
struct Status<'a> {
    #[serde(borrow, default)]
    code: Enum<'a>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogRecord<'a> {
    #[serde(borrow, default)]
    pub(crate) event_name: Cow<'a, str>,
    #[serde(default)]
    time_unix_nano: Nanos,
    #[serde(default)]
    observed_time_unix_nano: Nanos,
    #[serde(borrow, default)]
    trace_id: Cow<'a, str>,
    #[serde(borrow, default)]
    span_id: Cow<'a, str>,
    #[serde(borrow, default)]
    attributes: Attributes<'a>,
}

#[derive(Deserialize)]
pub(crate) struct Attribute<'a> {
    #[serde(borrow, default)]
    pub(crate) key: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "object")]
    value: AnyValue<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyValue<'a> {
    #[serde(borrow)]
    string_value: Option<Text<'a>>,
    int_value: Option<Number>,
    double_value: Option<Number>,
    bool_value: Option<bool>,
}

/// A string that borrows even inside an `Option`.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// A value that is an object. A type that derives `Deserialize` is also read from a list of its fields.
pub(crate) struct Map<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Map<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for MapVisitor<T> {
            type Value = Map<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of an OTLP export request")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Map<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Map)
            }
        }

        deserializer.deserialize_map(MapVisitor(PhantomData))
    }
}

fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Map::deserialize(deserializer).map(|Map(value)| value)
}

impl<'a> JsonSpan<'a> {
    /// Returns the span without its attributes; `None` if it has no ids or times.
    pub(crate) fn raw(&self) -> Option<RawSpan<'_>> {
        Some(RawSpan {
            trace: trace_id(&self.trace_id)?,
            id: span_id(&self.span_id)?,
            parent: span_id(&self.parent_span_id),
            has_remote_parent: has_remote_parent(self.flags),
            name: &self.name,
            role: role(|number, name| self.kind.is(number, name)),
            start: timestamp(self.start_time_unix_nano.0)?,
            end: timestamp(self.end_time_unix_nano.0)?,
            failed: self.status.code.is(2, "STATUS_CODE_ERROR"),
            status_message: &self.status.message,
        })
    }

    /// Returns what is known of the attributes and events.
    pub(crate) fn take_known(&mut self) -> Known<'a> {
        let mut known = std::mem::take(&mut self.attributes.0);
        for (name, nanos) in std::mem::take(&mut self.events.0) {
            known.add_span_event(name, timestamp(nanos));
        }
        known
    }
}

impl<'a> LogRecord<'a> {
    /// Returns the time in nanoseconds; 0 if there is none.
    pub(crate) fn nanos(&self) -> u64 {
        if self.time_unix_nano.0 == 0 { self.observed_time_unix_nano.0 } else { self.time_unix_nano.0 }
    }

    pub(crate) fn place(&self) -> (Option<TraceId>, Option<SpanId>) {
        (trace_id(&self.trace_id), span_id(&self.span_id))
    }

    pub(crate) fn known(&self) -> &Known<'a> {
        &self.attributes.0
    }
}

impl<'a> Attribute<'a> {
    pub(crate) fn into_text(self) -> Option<Text<'a>> {
        self.value.string_value
    }

    pub(crate) fn into_scalar(self) -> Scalar<'a> {
        match self.value {
            AnyValue { string_value: Some(text), .. } => Scalar::Text(text.0),
            AnyValue { int_value: Some(number), .. } => Scalar::Int(number.0 as i64),
            AnyValue { double_value: Some(number), .. } => Scalar::Float(number.0),
            AnyValue { bool_value: Some(flag), .. } => Scalar::Bool(flag),
            _ => Scalar::Other,
        }
    }
}

/// Reads an id in hex, or in base64, which is shorter.
fn trace_id(text: &str) -> Option<TraceId> {
    if text.len() == 32 { text.parse().ok() } else { TraceId::from_bytes(base64(text)?) }
}

fn span_id(text: &str) -> Option<SpanId> {
    if text.len() == 16 { text.parse().ok() } else { SpanId::from_bytes(base64(text)?) }
}

fn base64<const N: usize>(text: &str) -> Option<[u8; N]> {
    // 16 bytes take 24 characters.
    (text.len() <= 24).then(|| STANDARD.decode(text).ok()?.try_into().ok()).flatten()
}

/// The attributes that are known; the others are skipped.
#[derive(Default)]
struct Attributes<'a>(Known<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Attributes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut known = Known::default();
        for_each(deserializer, |Map(mut attribute): Map<Attribute<'a>>| {
            let key = std::mem::take(&mut attribute.key);
            known.add(key, || Ok::<_, D::Error>(attribute.into_scalar()))
        })?;
        Ok(Self(known))
    }
}

/// The names and times, in nanoseconds, of the span events that are known.
#[derive(Default)]
struct SpanEvents(Vec<(&'static str, u64)>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpanEvent<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(default)]
    time_unix_nano: Nanos,
}

impl<'de> Deserialize<'de> for SpanEvents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut events: Vec<(&'static str, u64)> = Vec::new();
        for_each(deserializer, |Map(event): Map<SpanEvent<'_>>| {
            if let Some(name) = known_span_event(&event.name)
                && event.time_unix_nano.0 > 0
                && !events.iter().any(|(known, _)| *known == name)
            {
                events.push((name, event.time_unix_nano.0));
            }
            Ok(())
        })?;
        Ok(Self(events))
    }
}

/// Reads a list, and passes each element on, so that only one at a time is in memory.
fn for_each<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
    each: impl FnMut(T) -> Result<(), D::Error>,
) -> Result<(), D::Error> {
    struct ListVisitor<T, F>(F, PhantomData<T>);

    impl<'de, T: Deserialize<'de>, E, F: FnMut(T) -> Result<(), E>> Visitor<'de> for ListVisitor<T, F>
    where
        E: de::Error,
    {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_unit<U>(self) -> Result<(), U> {
            Ok(())
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
            while let Some(element) = list.next_element()? {
                (self.0)(element).map_err(de::Error::custom)?;
            }
            Ok(())
        }
    }

    deserializer.deserialize_any(ListVisitor(each, PhantomData))
}

/// An enum by number or by name.
enum Enum<'a> {
    Number(i64),
    Name(Cow<'a, str>),
}

impl Enum<'_> {
    fn is(&self, number: i64, name: &str) -> bool {
        match self {
            Self::Number(found) => *found == number,
            Self::Name(found) => found == name,
        }
    }
}

impl Default for Enum<'_> {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// Nanoseconds as a string, as JSON represents 64-bit numbers, or as a number.
#[derive(Clone, Copy, Default)]
struct Nanos(u64);

/// A number, or a string that holds one.
#[derive(Clone, Copy)]
struct Number(f64);

fn flags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let Number(flags) = Number::deserialize(deserializer)?;
    let is_valid = flags.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&flags);
    let invalid = || de::Error::invalid_value(de::Unexpected::Float(flags), &"flags of 32 bits");
    is_valid.then_some(flags as u32).ok_or_else(invalid)
}

impl<'de: 'a, 'a> Deserialize<'de> for Enum<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnumVisitor;
        impl<'de> Visitor<'de> for EnumVisitor {
            type Value = Enum<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number or the name of an enum")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Enum<'de>, E> {
                Ok(Enum::Number(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Enum<'de>, E> {
                let invalid = |_| E::invalid_value(de::Unexpected::Unsigned(number), &self);
                i64::try_from(number).map(Enum::Number).map_err(invalid)
            }

            /// JSON has one kind of number: 2.0 is 2.
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Enum<'de>, E> {
                let is_whole = number.fract() == 0.0 && number.abs() < i64::MAX as f64;
                let invalid = || E::invalid_value(de::Unexpected::Float(number), &self);
                is_whole.then_some(Enum::Number(number as i64)).ok_or_else(invalid)
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Enum<'de>, E> {
                Ok(Enum::Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Enum<'de>, E> {
                Ok(Enum::Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_any(EnumVisitor)
    }
}

impl<'de> Deserialize<'de> for Nanos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NanosVisitor;
        impl Visitor<'_> for NanosVisitor {
            type Value = Nanos;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nanoseconds since the Unix epoch, as a number or a string")
            }

            fn visit_u64<E>(self, nanos: u64) -> Result<Nanos, E> {
                Ok(Nanos(nanos))
            }

            fn visit_f64<E: de::Error>(self, nanos: f64) -> Result<Nanos, E> {
                let is_whole = nanos.fract() == 0.0 && (0.0..u64::MAX as f64).contains(&nanos);
                let invalid = || E::invalid_value(de::Unexpected::Float(nanos), &self);
                is_whole.then_some(Nanos(nanos as u64)).ok_or_else(invalid)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Nanos, E> {
                text.parse().map(Nanos).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(NanosVisitor)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;
        impl Visitor<'_> for NumberVisitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a string that holds one")
            }

            fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
                Ok(Number(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                text.parse().map(Number).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(NumberVisitor)
    }
}
