//! Reads JSON of a framework that may have another shape in another version.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::text_only;

/// Reads a value; the default if there is none, or if it has another shape.
pub fn read<'a, T: Deserialize<'a> + Default>(json: Option<&'a str>) -> T {
    json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

/// Returns the text of an error that is a text or an object with a `message`; otherwise its JSON.
pub fn error_text(json: Option<&str>) -> String {
    #[derive(Deserialize)]
    struct Message {
        #[serde(default, deserialize_with = "text_only::deserialize")]
        message: Option<String>,
    }
    let Some(json) = json else { return "failed".to_owned() };
    let message = match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str(json).ok(),
        Some(b'{') => serde_json::from_str(json).ok().and_then(|error: Message| error.message),
        _ => None,
    };
    message.unwrap_or_else(|| json.to_owned())
}

/// The first items of a list, at most `MAX`; the others are skipped, so that a list of tiny items takes no more memory than its
/// text.
#[derive(Debug)]
pub struct First<T, const MAX: usize>(pub Vec<T>);

impl<T, const MAX: usize> Default for First<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for First<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FirstVisitor(PhantomData))
    }
}

struct FirstVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for FirstVisitor<T, MAX> {
    type Value = First<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < MAX
            && let Some(item) = list.next_element()?
        {
            items.push(item);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(First(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_keeps_its_first_items() {
        assert_eq!(read::<First<u8, 2>>(Some("[1,2,3,{}]")).0, [1, 2]);
        assert_eq!(read::<First<u8, 2>>(Some("[1]")).0, [1]);
        assert!(read::<First<u8, 2>>(Some("{}")).0.is_empty() && read::<First<u8, 2>>(None).0.is_empty());
    }
}
