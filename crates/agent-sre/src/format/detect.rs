use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use super::{FORMATS, Format, names};

/// A record, as far as the table of formats needs to recognise it.
pub(super) struct Record<'a> {
    /// The whole record.
    pub(super) bytes: &'a [u8],
    /// Its fields; none if it is a protobuf body.
    fields: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

/// An input whose format its first records do not show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UndetectedFormat {
    /// No record.
    #[error("found no record, expected at least one to detect the format by; or name the format: {}", names())]
    Empty,
    /// Only records of formats that are not known.
    #[error("found {found}, expected a record of a known format; or name the format: {}", names())]
    Unknown {
        /// What the first record looks like.
        found: String,
    },
    /// Records of several formats.
    #[error("found records of {}, expected those of one format; or name the format", list(.formats))]
    Ambiguous {
        /// The formats that recognise a record.
        formats: Vec<Format>,
    },
}

impl Format {
    /// Detects the format of an input by its first records, one a line, or by the start of a protobuf body. A line that is cut
    /// off and a byte order mark are ignored.
    ///
    /// Returns an error, which names what was found, if no format or more than one recognises the records.
    ///
    /// ```
    /// use agent_sre::Format;
    /// let line = br#"{"event":"heartbeat","time":1790000000,"agent":"support"}"#;
    /// assert_eq!(Format::detect(line).unwrap().as_str(), "sre");
    /// assert!(Format::detect(br#"{"sound":"moo"}"#).unwrap_err().to_string().starts_with("found the fields sound,"));
    /// ```
    pub fn detect(start: &[u8]) -> Result<Self, UndetectedFormat> {
        let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
        let recognised: Vec<BTreeSet<Self>> = records(start).map(|record| record.formats()).collect();
        let known: Vec<_> = recognised.into_iter().filter(|formats| !formats.is_empty()).collect();
        let of_all = |format: &Self| known.iter().all(|formats| formats.contains(format));
        let union: BTreeSet<Self> = known.iter().flatten().copied().collect();
        if union.is_empty() {
            return Err(unknown(start));
        }
        let mut candidates = union.iter().copied().filter(of_all);
        match (candidates.next(), candidates.next()) {
            (Some(format), None) => Ok(format),
            _ => Err(UndetectedFormat::Ambiguous { formats: union.into_iter().collect() }),
        }
    }
}

/// Returns whether an input is a protobuf body: it begins with the tag of its first field, and is no text.
pub fn is_protobuf(start: &[u8]) -> bool {
    start.first() == Some(&0x0a) && start.iter().any(|byte| *byte < b'\t')
}

fn records(start: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let body = is_protobuf(start).then(|| Record { bytes: start, fields: BTreeMap::new() });
    let lines: &[u8] = if body.is_some() { &[] } else { start };
    body.into_iter().chain(lines.split(|byte| *byte == b'\n').filter_map(Record::read))
}

impl<'a> Record<'a> {
    /// Reads a line; `None` if it is no JSON object.
    fn read(line: &'a [u8]) -> Option<Self> {
        let bytes = line.trim_ascii();
        Some(Self { bytes, fields: serde_json::from_slice(bytes).ok()? })
    }

    /// Returns whether it has a field.
    #[allow(dead_code, reason = "for formats that are features")]
    pub(super) fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// Returns whether a field matches one of the patterns. `*` at the beginning or end of a pattern is a wildcard.
    #[allow(dead_code, reason = "for formats that are features")]
    pub(super) fn is(&self, field: &str, patterns: &[&str]) -> bool {
        let Some(found) = self.text(field) else { return false };
        patterns.iter().any(|pattern| match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
            (Some(start), _) => found.starts_with(start),
            (_, Some(end)) => found.ends_with(end),
            _ => found == *pattern,
        })
    }

    fn text(&self, field: &str) -> Option<Cow<'a, str>> {
        serde_json::from_str(self.fields.get(field)?.get()).ok().map(Cow::Owned)
    }

    fn formats(&self) -> BTreeSet<Format> {
        (0..FORMATS.len()).filter(|row| (FORMATS[*row].recognises)(self)).map(Format).collect()
    }
}

fn unknown(start: &[u8]) -> UndetectedFormat {
    /// Maximum length of what the error quotes.
    const MAX: usize = 100;
    let text = String::from_utf8_lossy(&start[..start.len().min(64 << 10)]);
    let Some(line) = text.lines().find(|line| !line.trim().is_empty()) else { return UndetectedFormat::Empty };
    let mut found = match records(start).next() {
        Some(record) if !record.fields.is_empty() => {
            let kinds = ["event", "type", "kind"].into_iter().filter_map(|field| Some((field, record.text(field)?)));
            let kinds: String = kinds.map(|(field, text)| format!("{field} `{text}` and ")).collect();
            format!("{kinds}the fields {}", record.fields.keys().map(|name| &**name).collect::<Vec<_>>().join(", "))
        }
        _ => format!("`{}`", line.trim()),
    };
    if found.len() > MAX {
        found.truncate(found.floor_char_boundary(MAX));
        found.push('…');
    }
    UndetectedFormat::Unknown { found }
}

fn list(formats: &[Format]) -> String {
    formats.iter().map(|format| format.as_str()).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(input: &str) -> String {
        Format::detect(input.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn an_error_names_what_was_found_and_what_can_be_given() {
        assert!(error("\n \n").starts_with("found no record, expected"), "{}", error("\n"));
        let unknown = error(r#"{"event":"moon_landing","time":1}"#);
        assert!(unknown.starts_with("found event `moon_landing` and the fields event, time, expected"), "{unknown}");
        assert!(unknown.contains("or name the format: sre, "), "{unknown}");
        assert!(error("time,agent\n1,a\n").starts_with("found `time,agent`, expected"));
        let long = error(&format!(r#"{{"{}":1}}"#, "é".repeat(500)));
        assert!(long.len() < 500 && long.contains('…'), "{long}");
    }

    #[test]
    fn a_byte_order_mark_is_ignored() {
        let input = "\u{feff}{\"event\":\"heartbeat\",\"time\":1790000000,\"agent\":\"support\"}\n";
        assert_eq!(Format::detect(input.as_bytes()).unwrap().as_str(), "sre");
    }

    #[test]
    #[cfg(all(feature = "crewai", feature = "autogen"))]
    fn records_of_two_formats_are_ambiguous() {
        let input = "{\"type\":\"crew_kickoff_started\"}\n{\"type\":\"TextMessage\"}\n";
        assert!(error(input).starts_with("found records of crewai and autogen, expected"), "{}", error(input));
    }
}
