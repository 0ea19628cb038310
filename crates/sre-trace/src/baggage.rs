use std::borrow::Cow;
use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// Values that travel with a request, from a `baggage` header. Every service on the way can read them.
///
/// ```
/// use sre_trace::Baggage;
/// let mut baggage = Baggage::default();
/// baggage.insert("tenant", "Åse & Co").unwrap();
/// assert_eq!(baggage.to_string(), "tenant=%C3%85se%20&%20Co");
/// let (received, invalid) = Baggage::parse(["tenant=%C3%85se%20&%20Co, plan=pro;ttl=3"]);
/// assert_eq!((received.get("tenant"), received.get("plan"), invalid.len()), (Some("Åse & Co"), Some("pro"), 0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baggage {
    entries: Vec<BaggageEntry>,
    /// Its length as a header.
    bytes: usize,
}

/// A value with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BaggageEntry {
    /// The key: case-sensitive, and a token of HTTP.
    pub key: String,
    /// The value, without percent-encoding.
    pub value: String,
    /// What follows the value after `;`, as the header has it: it is sent on unchanged.
    pub properties: Option<String>,
}

/// An entry of a `baggage` header that is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBaggage {
    /// An entry without `=`.
    #[error("found `{0}`, expected `key=value`")]
    NoValue(String),
    /// A key that is not allowed.
    #[error("found the key `{0}`, expected letters, digits and !#$%&'*+-.^_`|~")]
    Key(String),
    /// A value with a character that must be percent-encoded.
    #[error(
        "found the value `{0}`, expected printable ASCII without space, `\"`, `,`, `;` and `\\`, others percent-encoded"
    )]
    Value(String),
    /// An entry beyond the limits: 64 entries, and 8,192 bytes as a header.
    #[error("found `{0}` beyond the limits, expected at most 64 entries and 8,192 bytes")]
    TooMany(String),
}

const MAX_ENTRIES: usize = 64;
const MAX_BYTES: usize = 8_192;
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%').add(b',').add(b';').add(b'\\');

impl Baggage {
    /// Parses the values of all headers of that name, in order. Returns what is valid and within the limits, and an error for each
    /// other entry. Of entries with the same key the first is kept.
    pub fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> (Self, Vec<InvalidBaggage>) {
        let (mut baggage, mut invalid) = (Self::default(), Vec::new());
        headers.into_iter().for_each(|header| baggage.append(header, &mut |error| invalid.push(error)));
        (baggage, invalid)
    }

    /// Adds the entries of a header, and passes an error for each that is invalid or beyond the limits to `reject`.
    pub(crate) fn append(&mut self, header: &str, reject: &mut dyn FnMut(InvalidBaggage)) {
        for text in header.split(',').map(trim).filter(|text| !text.is_empty()) {
            match BaggageEntry::parse(text) {
                Ok(entry) if self.get(&entry.key).is_some() => {}
                Ok(entry) => {
                    let bytes = self.bytes + entry.to_string().len() + usize::from(!self.is_empty());
                    if self.entries.len() < MAX_ENTRIES && bytes <= MAX_BYTES {
                        self.bytes = bytes;
                        self.entries.push(entry);
                    } else {
                        reject(InvalidBaggage::TooMany(entry.key));
                    }
                }
                Err(error) => reject(error),
            }
        }
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|entry| entry.key == key).map(|entry| &*entry.value)
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    ///
    /// Returns an error if the key is not allowed, or the limits would be exceeded.
    pub fn insert(&mut self, key: &str, value: &str) -> Result<(), InvalidBaggage> {
        self.insert_with(key, value, None)
    }

    /// Sets the value of a key, with properties as a header has them.
    pub(crate) fn insert_with(
        &mut self,
        key: &str,
        value: &str,
        properties: Option<&str>,
    ) -> Result<(), InvalidBaggage> {
        if !is_token(key) {
            return Err(InvalidBaggage::Key(key.to_owned()));
        }
        let properties = properties.map(trim).filter(|text| !text.is_empty()).map(str::to_owned);
        let entry = BaggageEntry { key: key.to_owned(), value: value.to_owned(), properties };
        let mut changed = self.clone();
        match changed.entries.iter_mut().find(|known| known.key == key) {
            Some(known) => *known = entry,
            None => changed.entries.push(entry),
        }
        changed.bytes = changed.to_string().len();
        if changed.entries.len() > MAX_ENTRIES || changed.bytes > MAX_BYTES {
            return Err(InvalidBaggage::TooMany(key.to_owned()));
        }
        *self = changed;
        Ok(())
    }

    /// Removes a key. Returns its value, if it was there.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        let removed = self.entries.remove(index);
        self.bytes = self.to_string().len();
        Some(removed.value)
    }

    /// Returns the entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = &BaggageEntry> {
        self.entries.iter()
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl BaggageEntry {
    fn parse(text: &str) -> Result<Self, InvalidBaggage> {
        let (pair, properties) = match text.split_once(';') {
            Some((pair, properties)) => (pair, Some(trim(properties))),
            None => (text, None),
        };
        let (key, value) = pair.split_once('=').ok_or_else(|| InvalidBaggage::NoValue(text.to_owned()))?;
        let (key, value) = (trim(key), trim(value));
        if !is_token(key) {
            return Err(InvalidBaggage::Key(key.to_owned()));
        }
        if !value.bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)) {
            return Err(InvalidBaggage::Value(value.to_owned()));
        }
        let properties = properties.filter(|text| !text.is_empty());
        if let Some(text) =
            properties.filter(|text| !text.bytes().all(|byte| (b' '..=b'~').contains(&byte) || byte == b'\t'))
        {
            return Err(InvalidBaggage::Value(text.to_owned()));
        }
        let value = match percent_decode_str(value).decode_utf8_lossy() {
            Cow::Borrowed(value) => value.to_owned(),
            Cow::Owned(value) => value,
        };
        Ok(Self { key: key.to_owned(), value, properties: properties.map(str::to_owned) })
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Returns whether the text is a token of HTTP (RFC 9110, 5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

impl fmt::Display for BaggageEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, utf8_percent_encode(&self.value, ENCODED))?;
        self.properties.iter().try_for_each(|properties| write!(f, ";{properties}"))
    }
}

/// Writes the value of the header.
impl fmt::Display for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, entry) in self.entries.iter().enumerate() {
            let separator = if number > 0 { "," } else { "" };
            write!(f, "{separator}{entry}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_invalid_is_named_and_the_rest_is_kept() {
        let (baggage, invalid) = Baggage::parse(["a=1 ; p ; q=2, b, =3, c=x y", "d=%41%20,a=2,e=é,"]);
        let found: Vec<(&str, &str)> = baggage.iter().map(|entry| (&*entry.key, &*entry.value)).collect();
        assert_eq!(found, [("a", "1"), ("d", "A ")]);
        assert_eq!(baggage.to_string(), "a=1;p ; q=2,d=A%20");
        assert_eq!(
            invalid,
            [
                InvalidBaggage::NoValue("b".into()),
                InvalidBaggage::Key(String::new()),
                InvalidBaggage::Value("x y".into()),
                InvalidBaggage::Value("é".into()),
            ]
        );
    }

    #[test]
    fn the_limits_hold_for_what_is_received_and_inserted() {
        let many: Vec<String> = (0..70).map(|number| format!("k{number}=v")).collect();
        let (mut baggage, invalid) = Baggage::parse(many.iter().map(String::as_str));
        assert_eq!((baggage.iter().count(), invalid.len()), (64, 6));
        assert_eq!(baggage.insert("one", "more"), Err(InvalidBaggage::TooMany("one".into())));
        baggage.insert("k0", "other").unwrap();
        assert_eq!(baggage.get("k0"), Some("other"));
        assert_eq!(baggage.remove("k0"), Some("other".into()));
        let mut full = Baggage::default();
        full.insert("a", &"x".repeat(8_190)).unwrap();
        assert!(full.insert("b", "").is_err() && full.insert("a b", "").is_err());
    }

    proptest! {
        #[test]
        fn every_value_comes_back(values in prop::collection::btree_map("[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,8}", "\\PC{0,20}", 0..20)) {
            let mut baggage = Baggage::default();
            for (key, value) in &values {
                baggage.insert(key, value).unwrap();
            }
            let text = baggage.to_string();
            prop_assert!(text.is_ascii());
            prop_assert_eq!(Baggage::parse([&*text]), (baggage, Vec::new()));
        }

        #[test]
        fn no_text_panics_and_what_is_read_is_sent_on(text in "[ -~\t]{0,60}") {
            let (baggage, _) = Baggage::parse([&*text]);
            prop_assert_eq!(Baggage::parse([&*baggage.to_string()]), (baggage, Vec::new()));
        }
    }
}
