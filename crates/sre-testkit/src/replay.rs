use serde_json::{Value, json};

use crate::recordings::Recording;
use crate::wire::{IDS, TIMES, Wire, later};

/// Plays a recording again and again, each time an hour later and with other ids.
pub struct Replay {
    wire: Wire,
    records: Vec<Vec<Part>>,
}

/// A part of a record: text that is always the same, or the value of a field that changes each time.
enum Part {
    Text(String),
    Id(Value),
    Time(Value),
}

impl Replay {
    /// Creates a replay of a recording of a format.
    ///
    /// # Panics
    /// Panics if the recording cannot be read.
    pub fn new(format: &str, recording: &Recording) -> Self {
        let wire = Wire::of(format);
        let parts = |record: &Value| {
            let mut parts = Vec::new();
            add_parts(record, &mut parts);
            parts
        };
        Self { records: wire.runs(&recording.lines).concat().iter().map(parts).collect(), wire }
    }

    /// Returns the records of the time with that number.
    pub fn records(&self, number: u32) -> impl Iterator<Item = Vec<u8>> {
        self.records.iter().map(move |record| self.write(record, number))
    }

    fn write(&self, record: &[Part], number: u32) -> Vec<u8> {
        let mut line = Vec::new();
        for part in record {
            match part {
                Part::Text(text) => line.extend_from_slice(text.as_bytes()),
                Part::Id(id) => line.extend(self.wire.other_id(id, number.into()).to_string().bytes()),
                Part::Time(time) => line.extend(later(time, 3_600 * i64::from(number)).to_string().bytes()),
            }
        }
        line
    }
}

fn add_parts(value: &Value, parts: &mut Vec<Part>) {
    match value {
        Value::Object(object) => {
            for (number, (name, value)) in object.iter().enumerate() {
                add_text(&format!("{}{}:", if number == 0 { "{" } else { "," }, json!(name)), parts);
                match &**name {
                    name if IDS.contains(&name) && !value.is_object() => parts.push(Part::Id(value.clone())),
                    name if TIMES.contains(&name) && !value.is_object() => parts.push(Part::Time(value.clone())),
                    _ => add_parts(value, parts),
                }
            }
            add_text(if object.is_empty() { "{}" } else { "}" }, parts);
        }
        Value::Array(values) => {
            for (number, value) in values.iter().enumerate() {
                add_text(if number == 0 { "[" } else { "," }, parts);
                add_parts(value, parts);
            }
            add_text(if values.is_empty() { "[]" } else { "]" }, parts);
        }
        _ => add_text(&value.to_string(), parts),
    }
}

fn add_text(text: &str, parts: &mut Vec<Part>) {
    match parts.last_mut() {
        Some(Part::Text(last)) => last.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}
