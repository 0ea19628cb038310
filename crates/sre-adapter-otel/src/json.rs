//! OTLP in JSON: ids in hex and enums by number or, in protobuf's own JSON form, ids in base64 and enums by name.
//!
//! Read as a stream: only what is kept takes memory.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sre_core::AdapterError;

use crate::json_span::{Attribute, JsonSpan, LogRecord, Map, Text};
use crate::request::{Request, TooLarge};
use crate::span::timestamp;

pub(crate) fn read(body: &[u8], into: &mut Request) -> Result<(), AdapterError> {
    // A span with ids and times takes at least as much text.
    const SHORTEST: usize = 100;
    into.reserve(body.len() / SHORTEST);
    let mut request = RequestFields { into, has_known: false, has_unknown: false };
    let read = read_object(body, &mut request);
    let is_other = request.has_unknown && !request.has_known;
    match read {
        Err(_) if into.is_too_large() => Err(into.too_large()),
        Err(error) => Err(error.into()),
        Ok(()) if is_other => {
            let message = "found no `resourceSpans` or `resourceLogs`, expected an OTLP export request";
            Err(AdapterError::Malformed(message.to_owned()))
        }
        Ok(()) => Ok(()),
    }
}

/// Returns the number of data points in a request of metrics.
pub(crate) fn data_points(body: &[u8]) -> Result<u64, AdapterError> {
    let mut points = 0;
    read_object(body, &mut Metrics { level: 0, points: &mut points })?;
    Ok(points)
}

fn read_object<'de>(body: &'de [u8], fields: &mut impl ReadFields<'de>) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    Object(fields).deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Reads the fields of an object one by one.
trait ReadFields<'de> {
    /// Reads the value of the field `name`. Returns false, and reads nothing, if the field is not used.
    fn read<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Reads the elements of a list one by one.
trait ReadElements<'de> {
    /// Reads the next element. Returns false at the end.
    fn read<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error>;
}

struct Object<'a, T>(&'a mut T);

impl<'de, T: ReadFields<'de>> DeserializeSeed<'de> for Object<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: ReadFields<'de>> Visitor<'de> for Object<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of an OTLP export request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            if !self.0.read(&name, &mut map)? {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct List<'a, T>(&'a mut T);

impl<'de, T: ReadElements<'de>> DeserializeSeed<'de> for List<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: ReadElements<'de>> Visitor<'de> for List<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    /// In protobuf's JSON form, `null` is an empty list.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while self.0.read(&mut list)? {}
        Ok(())
    }
}

struct RequestFields<'a> {
    into: &'a mut Request,
    has_known: bool,
    has_unknown: bool,
}

impl<'de> ReadFields<'de> for RequestFields<'_> {
    fn read<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        let is_used = matches!(name, "resourceSpans" | "resourceLogs");
        self.has_known |= is_used || name == "resourceMetrics";
        self.has_unknown |= !self.has_known;
        if is_used {
            map.next_value_seed(List(&mut Resources(self.into)))?;
        }
        Ok(is_used)
    }
}

struct Resources<'a>(&'a mut Request);

impl<'de> ReadElements<'de> for Resources<'_> {
    fn read<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let first = self.0.items.len();
        let mut resource = ResourceFields { into: self.0, first, service: None };
        Ok(list.next_element_seed(Object(&mut resource))?.is_some())
    }
}

struct ResourceFields<'a> {
    into: &'a mut Request,
    /// The index of the resource's first item.
    first: usize,
    service: Option<u32>,
}

impl<'de> ReadFields<'de> for ResourceFields<'_> {
    fn read<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "resource" => {
                let mut resource = ResourceAttributes(None);
                map.next_value_seed(Object(&mut resource))?;
                if let (None, Some(Text(service))) = (self.service, resource.0) {
                    self.service = self.into.service(Some(&service)).map_err(too_large)?;
                    // It is usually the first field.
                    self.into.name_service(self.first, self.service).map_err(too_large)?;
                }
            }
            "scopeSpans" | "scopeLogs" => {
                map.next_value_seed(List(&mut Scopes { into: self.into, service: self.service }))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The name of a resource's service.
struct ResourceAttributes<'de>(Option<Text<'de>>);

impl<'de> ReadFields<'de> for ResourceAttributes<'de> {
    fn read<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        if name == "attributes" {
            map.next_value_seed(List(self))?;
        }
        Ok(name == "attributes")
    }
}

impl<'de> ReadElements<'de> for ResourceAttributes<'de> {
    fn read<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let Some(Map(attribute)) = list.next_element::<Map<Attribute<'de>>>()? else { return Ok(false) };
        if self.0.is_none() && attribute.key == "service.name" {
            self.0 = attribute.into_text();
        }
        Ok(true)
    }
}

struct Scopes<'a> {
    into: &'a mut Request,
    service: Option<u32>,
}

impl<'de> ReadElements<'de> for Scopes<'_> {
    fn read<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        Ok(list.next_element_seed(Object(self))?.is_some())
    }
}

impl<'de> ReadFields<'de> for Scopes<'_> {
    fn read<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "spans" => map.next_value_seed(List(&mut Spans(self)))?,
            "logRecords" => map.next_value_seed(List(&mut Logs(self)))?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

struct Spans<'a, 'b>(&'a mut Scopes<'b>);

impl<'de> ReadElements<'de> for Spans<'_, '_> {
    fn read<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let Some(Map(mut span)) = list.next_element::<Map<JsonSpan<'de>>>()? else { return Ok(false) };
        let known = span.take_known();
        self.0.into.add_span(span.raw(), &known, self.0.service).map_err(too_large)?;
        Ok(true)
    }
}

struct Logs<'a, 'b>(&'a mut Scopes<'b>);

impl<'de> ReadElements<'de> for Logs<'_, '_> {
    fn read<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let Some(Map(record)) = list.next_element::<Map<LogRecord<'de>>>()? else { return Ok(false) };
        let Scopes { into, service } = &mut *self.0;
        let time = timestamp(record.nanos());
        into.add_log(&record.event_name, time, record.place(), record.known(), *service).map_err(too_large)?;
        Ok(true)
    }
}

/// Stops the reader. [`Request::is_too_large`] has the reason.
fn too_large<E: Error>(TooLarge: TooLarge) -> E {
    E::custom("the request takes too much memory")
}

/// Counts data points. The levels are those of the request, its resources, scopes and metrics, and of a metric's data.
struct Metrics<'a> {
    level: usize,
    points: &'a mut u64,
}

impl<'de> ReadFields<'de> for Metrics<'_> {
    fn read<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        let mut next = Metrics { level: self.level + 1, points: self.points };
        match (self.level, name) {
            (0, "resourceMetrics") | (1, "scopeMetrics") | (2, "metrics") | (4, "dataPoints") => {
                map.next_value_seed(List(&mut next))?;
            }
            (3, "gauge" | "sum" | "histogram" | "exponentialHistogram" | "summary") => {
                map.next_value_seed(Object(&mut next))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de> ReadElements<'de> for Metrics<'_> {
    fn read<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        const DATA_POINT: usize = 5;
        let is_element = list.next_element_seed(Object(self))?.is_some();
        *self.points += u64::from(is_element && self.level == DATA_POINT);
        Ok(is_element)
    }
}
