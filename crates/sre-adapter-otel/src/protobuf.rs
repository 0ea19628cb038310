//! OTLP in protobuf, read field by field: only what is kept takes memory.
//! <https://github.com/open-telemetry/opentelemetry-proto/tree/main/opentelemetry/proto>

use std::borrow::Cow;

use sre_core::{AdapterError, SpanId, TraceId};

use crate::attributes::{Known, Scalar};
use crate::request::{Request, TooLarge};
use crate::span::{RawSpan, has_remote_parent, role, timestamp};
use crate::wire::{Fields, Malformed, Value};

/// Why reading stopped.
enum Stop {
    Malformed(Malformed),
    TooLarge,
}

impl From<Malformed> for Stop {
    fn from(found: Malformed) -> Self {
        Self::Malformed(found)
    }
}

impl From<TooLarge> for Stop {
    fn from(TooLarge: TooLarge) -> Self {
        Self::TooLarge
    }
}

pub(crate) fn traces(body: &[u8], into: &mut Request) -> Result<(), AdapterError> {
    into.reserve(count_spans(body).unwrap_or_default());
    let read = resources(body, into, &mut read_span);
    read.map_err(|stop| stop.into_error("traces", into))
}

pub(crate) fn logs(body: &[u8], into: &mut Request) -> Result<(), AdapterError> {
    let read = resources(body, into, &mut read_log);
    read.map_err(|stop| stop.into_error("logs", into))
}

/// Returns whether a body is well-formed down to the fields of its resources, which are not read.
pub(crate) fn is_request(body: &[u8]) -> bool {
    let mut resources = Fields::of(body).map(|field| field?.1.fields());
    resources.all(|resource| resource.is_ok_and(|mut fields| fields.all(|field| field.is_ok())))
}

/// Returns the number of data points in a request of metrics.
pub(crate) fn data_points(body: &[u8]) -> Result<u64, AdapterError> {
    let count = || -> Result<u64, Malformed> {
        let mut points = 0;
        for metric in in_scopes(body) {
            for data in Fields::of(metric?) {
                // Gauge, sum, histogram, exponential histogram, summary.
                if let (5 | 7 | 9 | 10 | 11, data) = data? {
                    for point in data.fields()? {
                        points += u64::from(point?.0 == 1);
                    }
                }
            }
        }
        Ok(points)
    };
    count().map_err(|found| malformed(found, "metrics"))
}

impl Stop {
    fn into_error(self, what: &str, request: &Request) -> AdapterError {
        match self {
            Self::TooLarge => request.too_large(),
            Self::Malformed(found) => malformed(found, what),
        }
    }
}

fn malformed(found: Malformed, what: &str) -> AdapterError {
    AdapterError::Malformed(format!("found invalid protobuf ({found}), expected an OTLP export request for {what}"))
}

/// Returns the messages in the scopes of the resources of a request: spans, log records or metrics.
fn in_scopes(body: &[u8]) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    let resources = messages(Ok(body), 1);
    let scopes = resources.flat_map(|resource| messages(resource, 2));
    scopes.flat_map(|scope| messages(scope, 2))
}

/// Returns the messages in the field `number`.
fn messages(message: Result<&[u8], Malformed>, number: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    let (message, failure) = match message {
        Ok(message) => (message, None),
        Err(failure) => (&[][..], Some(Err(failure))),
    };
    let found = Fields::of(message).filter_map(move |field| match field {
        Ok((found, value)) => (found == number).then(|| value.bytes()),
        Err(failure) => Some(Err(failure)),
    });
    failure.into_iter().chain(found)
}

/// Returns the number of spans that are long enough to be valid.
fn count_spans(body: &[u8]) -> Result<usize, Malformed> {
    // Both ids and both times, each with its key.
    const SHORTEST: usize = 18 + 10 + 9 + 9;
    let mut count = 0;
    for span in in_scopes(body) {
        count += usize::from(span?.len() >= SHORTEST);
    }
    Ok(count)
}

type ReadRecord<'a> = dyn FnMut(&'a [u8], &mut Known<'a>, Option<u32>, &mut Request) -> Result<(), Stop>;

fn resources<'a>(body: &'a [u8], into: &mut Request, read: &mut ReadRecord<'a>) -> Result<(), Stop> {
    let mut known = Known::default();
    for field in Fields::of(body) {
        let (1, resource) = field? else { continue };
        let (first, mut service) = (into.items.len(), None);
        for field in resource.fields()? {
            match field? {
                (1, resource) if service.is_none() => {
                    service = into.service(service_name(resource.fields()?)?)?;
                    // It is usually the first field.
                    into.name_service(first, service)?;
                }
                (2, scope) => {
                    for field in scope.fields()? {
                        if let (2, record) = field? {
                            known.clear();
                            read(record.bytes()?, &mut known, service, into)?;
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn service_name(resource: Fields<'_>) -> Result<Option<&str>, Malformed> {
    for field in resource {
        if let (1, attribute) = field? {
            let (key, value) = attribute_parts(attribute)?;
            if key == "service.name" {
                return match value {
                    Some(value) => text_value(value),
                    None => Ok(None),
                };
            }
        }
    }
    Ok(None)
}

fn read_span<'a>(
    message: &'a [u8],
    known: &mut Known<'a>,
    service: Option<u32>,
    into: &mut Request,
) -> Result<(), Stop> {
    let (mut trace, mut id, mut parent, mut flags) = (None, None, None, 0);
    let (mut name, mut kind, mut start, mut end) = ("", 0, 0, 0);
    let (mut code, mut status_message) = (0, "");
    for field in Fields::of(message) {
        match field? {
            (1, value) => trace = trace_id(value.bytes()?),
            (2, value) => id = span_id(value.bytes()?),
            (4, value) => parent = span_id(value.bytes()?),
            (5, value) => name = value.text()?,
            (6, value) => kind = value.varint()?,
            (7, value) => start = value.fixed64()?,
            (8, value) => end = value.fixed64()?,
            (9, value) => read_attribute(value, known)?,
            (11, value) => {
                let (mut name, mut time) = ("", 0);
                for field in value.fields()? {
                    match field? {
                        (1, value) => time = value.fixed64()?,
                        (2, value) => name = value.text()?,
                        _ => {}
                    }
                }
                known.add_span_event(name, timestamp(time));
            }
            (15, value) => {
                for field in value.fields()? {
                    match field? {
                        (2, value) => status_message = value.text()?,
                        (3, value) => code = value.varint()?,
                        _ => {}
                    }
                }
            }
            (16, value) => flags = value.fixed32()?,
            _ => {}
        }
    }
    let raw = || {
        Some(RawSpan {
            trace: trace?,
            id: id?,
            parent,
            has_remote_parent: has_remote_parent(flags),
            name,
            role: role(|number, _| kind == number.cast_unsigned()),
            start: timestamp(start)?,
            end: timestamp(end)?,
            failed: code == ERROR,
            status_message,
        })
    };
    Ok(into.add_span(raw(), known, service)?)
}

/// `STATUS_CODE_ERROR`
const ERROR: u64 = 2;

fn read_log<'a>(
    message: &'a [u8],
    known: &mut Known<'a>,
    service: Option<u32>,
    into: &mut Request,
) -> Result<(), Stop> {
    let (mut time, mut observed, mut name, mut trace, mut span) = (0, 0, "", None, None);
    for field in Fields::of(message) {
        match field? {
            (1, value) => time = value.fixed64()?,
            (6, value) => read_attribute(value, known)?,
            (9, value) => trace = trace_id(value.bytes()?),
            (10, value) => span = span_id(value.bytes()?),
            (11, value) => observed = value.fixed64()?,
            (12, value) => name = value.text()?,
            _ => {}
        }
    }
    let time = timestamp(if time == 0 { observed } else { time });
    Ok(into.add_log(name, time, (trace, span), known, service)?)
}

/// Returns `None` for an id of another length or of all zeros.
fn trace_id(bytes: &[u8]) -> Option<TraceId> {
    TraceId::from_bytes(bytes.try_into().ok()?)
}

fn span_id(bytes: &[u8]) -> Option<SpanId> {
    SpanId::from_bytes(bytes.try_into().ok()?)
}

fn read_attribute<'a>(attribute: Value<'a>, known: &mut Known<'a>) -> Result<(), Malformed> {
    let (key, value) = attribute_parts(attribute)?;
    known.add(Cow::Borrowed(key), || value.map_or(Ok(Scalar::Other), scalar))
}

/// Returns the key and the value of an attribute.
fn attribute_parts(attribute: Value<'_>) -> Result<(&str, Option<Fields<'_>>), Malformed> {
    let (mut key, mut value) = ("", None);
    for field in attribute.fields()? {
        match field? {
            (1, found) => key = found.text()?,
            (2, found) => value = Some(found.fields()?),
            _ => {}
        }
    }
    Ok((key, value))
}

fn scalar(value: Fields<'_>) -> Result<Scalar<'_>, Malformed> {
    let mut scalar = Scalar::Other;
    for field in value {
        scalar = match field? {
            (1, value) => Scalar::Text(Cow::Borrowed(value.text()?)),
            (2, value) => Scalar::Bool(value.varint()? != 0),
            (3, value) => Scalar::Int(value.varint()?.cast_signed()),
            (4, value) => Scalar::Float(f64::from_bits(value.fixed64()?)),
            _ => Scalar::Other,
        };
    }
    Ok(scalar)
}

fn text_value(value: Fields<'_>) -> Result<Option<&str>, Malformed> {
    let mut text = None;
    for field in value {
        text = match field? {
            (1, value) => Some(value.text()?),
            _ => None,
        };
    }
    Ok(text)
}
