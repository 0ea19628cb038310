use std::fmt;

/// The list of a `tracestate` header: what each tracing system keeps about the trace, newest first.
///
/// ```
/// use sre_trace::Tracestate;
/// let mut state: Tracestate = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE".parse().unwrap();
/// state.insert("congo", "ucfJifl5GOE").unwrap();
/// assert_eq!(state.to_string(), "congo=ucfJifl5GOE,rojo=00f067aa0ba902b7");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tracestate {
    /// The members as the header has them, without white space, empty members and repeated keys.
    text: String,
}

/// An invalid `tracestate`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTracestate {
    /// A member without `=`.
    #[error("found `{0}`, expected `key=value`")]
    NoValue(String),
    /// A key that is not allowed.
    #[error(
        "found the key `{0}`, expected 1 to 256 of a to z, 0 to 9, `_`, `-`, `*`, `/` and `@`, beginning with a letter or digit"
    )]
    Key(String),
    /// A value that is not allowed.
    #[error(
        "found the value `{0}`, expected 1 to 256 printable ASCII characters without `,` and `=`, not ending with a space"
    )]
    Value(String),
    /// Too many members.
    #[error("found {0} members, expected at most 32")]
    TooMany(usize),
}

const MAX_MEMBERS: usize = 32;
const MAX_LENGTH: usize = 256;

impl Tracestate {
    /// Parses the values of all headers of that name, in order. Of members with the same key the first is kept.
    ///
    /// # Errors
    ///
    /// Returns an error if one of the members is invalid, or there are more than 32: the specification has the whole list dropped then.
    pub fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidTracestate> {
        let mut list = MemberList::default();
        headers.into_iter().try_for_each(|header| list.append(header))?;
        list.finish()
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// Sets the value of a key, and moves it to the front. If there are 32 members already, the last is dropped.
    ///
    /// # Errors
    ///
    /// Returns an error if the key or the value is not allowed.
    pub fn insert(&mut self, key: &str, value: &str) -> Result<(), InvalidTracestate> {
        check(key, value)?;
        let mut text = format!("{key}={value}");
        for (key, value) in self.iter().filter(|(known, _)| *known != key).take(MAX_MEMBERS - 1) {
            text.extend([",", key, "=", value]);
        }
        self.text = text;
        Ok(())
    }

    /// Removes a key. Returns whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let members: Vec<String> =
            self.iter().filter(|(known, _)| *known != key).map(|(key, value)| format!("{key}={value}")).collect();
        let text = members.join(",");
        let is_removed = text.len() < self.text.len();
        self.text = text;
        is_removed
    }

    /// Returns the keys and values, newest first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.split(',').filter_map(|member| member.split_once('='))
    }

    /// Returns the value of the header; empty if there is nothing to send.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// The members of the headers so far.
#[derive(Default)]
pub(crate) struct MemberList {
    state: Tracestate,
    count: usize,
}

impl MemberList {
    pub(crate) fn append(&mut self, header: &str) -> Result<(), InvalidTracestate> {
        for member in
            header.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty())
        {
            let (key, value) = member.split_once('=').ok_or_else(|| InvalidTracestate::NoValue(member.to_owned()))?;
            check(key, value)?;
            self.count += 1;
            if self.state.get(key).is_none() {
                if !self.state.text.is_empty() {
                    self.state.text.push(',');
                }
                self.state.text.push_str(member);
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Tracestate, InvalidTracestate> {
        if self.count > MAX_MEMBERS { Err(InvalidTracestate::TooMany(self.count)) } else { Ok(self.state) }
    }
}

fn check(key: &str, value: &str) -> Result<(), InvalidTracestate> {
    let is_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let starts = key.bytes().next().is_some_and(is_key);
    if !starts || key.len() > MAX_LENGTH || !key.bytes().all(|byte| is_key(byte) || b"_-*/@".contains(&byte)) {
        return Err(InvalidTracestate::Key(key.to_owned()));
    }
    let is_value = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b',' && byte != b'=';
    let is_length = (1..=MAX_LENGTH).contains(&value.len());
    if !is_length || value.ends_with(' ') || !value.bytes().all(is_value) {
        return Err(InvalidTracestate::Value(value.to_owned()));
    }
    Ok(())
}

impl std::str::FromStr for Tracestate {
    type Err = InvalidTracestate;

    fn from_str(text: &str) -> Result<Self, InvalidTracestate> {
        Self::parse([text])
    }
}

impl fmt::Display for Tracestate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_are_one_list_and_the_first_of_a_key_is_kept() {
        let state = Tracestate::parse(["a=1 \t, ,b=2", "", "a=3, c=x y"]).unwrap();
        assert_eq!(state.as_str(), "a=1,b=2,c=x y");
        assert_eq!((state.get("c"), state.get("d")), (Some("x y"), None));
    }

    #[test]
    fn one_invalid_member_is_an_error() {
        let long = "z".repeat(257);
        for (text, expected) in [
            ("foo", InvalidTracestate::NoValue("foo".into())),
            ("@foo=1", InvalidTracestate::Key("@foo".into())),
            ("FOO=1", InvalidTracestate::Key("FOO".into())),
            ("foo =1", InvalidTracestate::Key("foo ".into())),
            ("=1", InvalidTracestate::Key(String::new())),
            ("foo=", InvalidTracestate::Value(String::new())),
            ("foo=a=b", InvalidTracestate::Value("a=b".into())),
            ("foo=é", InvalidTracestate::Value("é".into())),
        ] {
            assert_eq!(format!("bar=1,{text}").parse::<Tracestate>(), Err(expected));
        }
        assert!(
            format!("{long}=1").parse::<Tracestate>().is_err() && format!("a={long}").parse::<Tracestate>().is_err()
        );
        assert!(format!("{}=1", &long[1..]).parse::<Tracestate>().is_ok());
    }

    proptest! {
        /// Against a list of pairs.
        #[test]
        fn changes_keep_the_newest_first(changes in prop::collection::vec(("[a-f]|[a-z][0-9]", prop::option::weighted(0.8, "[!-+]{1,3}")), 0..80)) {
            let (mut state, mut expected) = (Tracestate::default(), Vec::<(String, String)>::new());
            for (key, value) in changes {
                let before = expected.len();
                expected.retain(|(known, _)| *known != key);
                match value {
                    Some(value) => {
                        state.insert(&key, &value).unwrap();
                        expected.insert(0, (key, value));
                        expected.truncate(32);
                    }
                    None => prop_assert_eq!(state.remove(&key), expected.len() < before),
                }
                let found: Vec<_> = state.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
                prop_assert_eq!(&found, &expected);
                prop_assert_eq!(state.as_str().parse::<Tracestate>().unwrap(), state.clone());
            }
        }
    }
}
