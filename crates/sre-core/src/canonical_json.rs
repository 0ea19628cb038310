//! JSON in one form, whatever its whitespace, the order of its keys and the format of its numbers.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// The maximum number of members of all objects together, and how much longer than the text the result may be, in bytes.
/// They bound the memory: objects are sorted, and `1e15` becomes `1000000000000000`.
const MAX_MEMBERS: u32 = 65_536;
const MAX_LONGER: usize = 64 << 10;

/// Returns JSON without whitespace, with sorted keys and each number in one format; `None` if the text is not JSON, or has
/// more than 65,536 members. Takes up to three times the memory of the text.
pub(crate) fn canonical_json(text: &str) -> Option<Vec<u8>> {
    let max_length = u32::try_from(text.len().checked_add(MAX_LONGER)?).ok()? as usize;
    let mut canonical = Canonical { json: Vec::with_capacity(max_length), max_length, members_left: MAX_MEMBERS };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    ValueOf(&mut canonical).deserialize(&mut deserializer).and_then(|()| deserializer.end()).ok()?;
    Some(canonical.json)
}

struct Canonical {
    json: Vec<u8>,
    max_length: usize,
    members_left: u32,
}

/// A member of an object: its key among the keys, and its text in the result.
#[derive(Clone, Copy)]
struct Member {
    key: (u32, u32),
    text: (u32, u32),
}

impl Canonical {
    fn write<E: Error>(&mut self, scalar: impl Serialize) -> Result<(), E> {
        serde_json::to_writer(&mut self.json, &scalar).map_err(E::custom)?;
        if self.json.len() > self.max_length { Err(E::custom("too long")) } else { Ok(()) }
    }

    /// Sorts the members of the object whose text begins at `start`. Of several with the same key, the last counts.
    fn sort(&mut self, start: usize, keys: &[u8], members: &mut Vec<Member>) {
        let key = |member: &Member| &keys[member.key.0 as usize..member.key.1 as usize];
        if members.is_sorted_by(|one, next| key(one) < key(next)) {
            return;
        }
        members.reverse();
        members.sort_by(|one, other| key(one).cmp(key(other)));
        members.dedup_by(|later, kept| key(later) == key(kept));
        let unsorted = self.json.split_off(start);
        for (index, member) in members.iter().enumerate() {
            if index > 0 {
                self.json.push(b',');
            }
            self.json.extend_from_slice(&unsorted[member.text.0 as usize - start..member.text.1 as usize - start]);
        }
    }
}

/// Writes one value, and everything inside.
struct ValueOf<'a>(&'a mut Canonical);

impl<'de> DeserializeSeed<'de> for ValueOf<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A key, borrowed from the text if possible.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for ValueOf<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.write(())
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<(), E> {
        self.0.write(flag)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.0.write(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.0.write(number)
    }

    /// Writes a whole number as an integer, whether the text has `1.0` or `1e0`.
    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        // Beyond 2^53, a float cannot represent every integer.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if number.fract() == 0.0 && number.abs() <= EXACT { self.0.write(number as i64) } else { self.0.write(number) }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.write(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut opening = b'[';
        loop {
            let before = self.0.json.len();
            self.0.json.push(opening);
            if list.next_element_seed(ValueOf(self.0))?.is_none() {
                // Without elements, the bracket is still missing.
                self.0.json.truncate(before + usize::from(opening == b'['));
                self.0.json.push(b']');
                return Ok(());
            }
            opening = b',';
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.json.push(b'{');
        let (start, mut keys, mut members) = (self.0.json.len(), Vec::new(), Vec::new());
        while let Some(Key(key)) = map.next_key()? {
            self.0.members_left =
                self.0.members_left.checked_sub(1).ok_or_else(|| A::Error::custom("too many members"))?;
            if !members.is_empty() {
                self.0.json.push(b',');
            }
            let (key_at, text_at) = (keys.len() as u32, self.0.json.len() as u32);
            keys.extend_from_slice(key.as_bytes());
            self.0.write(&*key)?;
            self.0.json.push(b':');
            map.next_value_seed(ValueOf(self.0))?;
            members.push(Member { key: (key_at, keys.len() as u32), text: (text_at, self.0.json.len() as u32) });
        }
        self.0.sort(start, &keys, &mut members);
        self.0.json.push(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Number, Value};

    use super::*;

    /// The same by building the whole value first.
    fn by_value(value: &Value, out: &mut String) {
        match value {
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(canonical_value).collect();
                out.push_str(&format!("[{}]", items.join(",")));
            }
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by_key(|(key, _)| *key);
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical_value(value)))
                    .collect();
                out.push_str(&format!("{{{}}}", fields.join(",")));
            }
            Value::Number(number)
                if number.is_f64()
                    && number.as_f64().is_some_and(|float| float.fract() == 0.0 && float.abs() < 1e15) =>
            {
                out.push_str(&(number.as_f64().unwrap() as i64).to_string());
            }
            scalar => out.push_str(&scalar.to_string()),
        }
    }

    fn canonical_value(value: &Value) -> String {
        let mut out = String::new();
        by_value(value, &mut out);
        out
    }

    fn values() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e14..1e14f64).prop_map(|float| Number::from_f64(float).map_or(Value::Null, Value::Number)),
            (-1000..1000i32).prop_map(|whole| Number::from_f64(f64::from(whole)).map_or(Value::Null, Value::Number)),
            ".{0,6}".prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 60, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::vec((".{0,3}", inner), 0..6).prop_map(|fields| Value::Object(Map::from_iter(fields))),
            ]
        })
    }

    proptest! {
        #[test]
        fn streaming_gives_what_the_whole_value_gives(value in values()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                prop_assert_eq!(String::from_utf8(canonical_json(&text).unwrap()).unwrap(), canonical_value(&value));
            }
        }
    }

    #[test]
    fn keys_are_sorted_and_the_last_of_equal_keys_counts() {
        for (text, expected) in [
            (r#"{"b":1,"a":2,"b":3}"#, Some(r#"{"a":2,"b":3}"#)),
            (r#"{"\"":1,"!":2,"a":{"d":[{}],"c":[]}}"#, Some(r#"{"!":2,"\"":1,"a":{"c":[],"d":[{}]}}"#)),
            ("[1,2", None),
            ("1 2", None),
        ] {
            assert_eq!(canonical_json(text).as_deref(), expected.map(str::as_bytes), "{text}");
        }
        let members = |count: usize| format!("{{{}}}", vec![r#""k":0"#; count].join(","));
        assert_eq!(canonical_json(&members(65_536)).as_deref(), Some(&br#"{"k":0}"#[..]));
        assert_eq!(canonical_json(&members(65_537)), None);
        assert_eq!(canonical_json(&format!("[{}]", vec!["1e15"; 100_000].join(","))), None);
    }
}
