use serde::{Serialize, Serializer};
use smol_str::SmolStr;

/// The attributes of a span, by the names of OpenTelemetry's conventions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Vec<(&'static str, Stored)>);

/// The value of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum AttributeValue<'a> {
    /// A text.
    Text(&'a str),
    /// A number, such as a status or a port.
    Number(u64),
    /// Several texts.
    Texts(&'a [String]),
}

/// A value as it is kept. Most texts are short, and take no memory of their own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stored {
    Text(SmolStr),
    Number(u64),
    Texts(Box<[String]>),
}

impl Attributes {
    /// Returns the text of an attribute.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            AttributeValue::Text(text) => Some(text),
            AttributeValue::Number(_) | AttributeValue::Texts(_) => None,
        }
    }

    /// Returns the value of an attribute.
    pub fn get(&self, name: &str) -> Option<AttributeValue<'_>> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Returns the attributes with their names, in the order in which they were set.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, AttributeValue<'_>)> {
        self.0.iter().map(|(name, value)| (*name, value.as_value()))
    }

    pub(crate) fn set(&mut self, name: &'static str, value: Stored) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => {
                if self.0.capacity() == 0 {
                    self.0.reserve_exact(USUAL);
                }
                self.0.push((name, value));
            }
        }
    }

    /// Returns the approximate memory that they take, in bytes.
    pub(crate) fn size(&self) -> usize {
        let of_text = |value: &Stored| match value {
            Stored::Text(text) if text.is_heap_allocated() => text.len(),
            Stored::Texts(texts) => texts.iter().map(|text| size_of::<String>() + text.len()).sum(),
            _ => 0,
        };
        self.0.capacity() * size_of::<(&str, Stored)>() + self.0.iter().map(|(_, value)| of_text(value)).sum::<usize>()
    }
}

/// The attributes of most spans, at most.
const USUAL: usize = 8;

impl Stored {
    fn as_value(&self) -> AttributeValue<'_> {
        match self {
            Self::Text(text) => AttributeValue::Text(text),
            Self::Number(number) => AttributeValue::Number(*number),
            Self::Texts(texts) => AttributeValue::Texts(texts),
        }
    }
}

impl From<&str> for Stored {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Stored {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&[&str]> for Stored {
    fn from(texts: &[&str]) -> Self {
        Self::Texts(texts.iter().map(|&text| text.to_owned()).collect())
    }
}

impl From<u16> for Stored {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
