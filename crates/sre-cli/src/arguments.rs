//! Values of options that several commands take.

use agent_sre::FailOn;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// Returns the parser of `--fail-on`.
pub(crate) fn fail_on() -> impl TypedValueParser<Value = FailOn> {
    PossibleValuesParser::new(FailOn::ALL.map(FailOn::as_str)).try_map(|name| name.parse())
}

/// Parses `--url`. Without a scheme, `http://` is assumed.
pub(crate) fn url(text: &str) -> Result<String, String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let is_valid = url.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    if is_valid { Ok(url) } else { Err("expected a URL such as http://127.0.0.1:4318".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_needs_no_scheme() {
        for (text, expected) in [
            ("127.0.0.1:4318", Some("http://127.0.0.1:4318")),
            ("localhost:4318", Some("http://localhost:4318")),
            ("[::1]:4318", Some("http://[::1]:4318")),
            ("sre.example/prefix", Some("http://sre.example/prefix")),
            ("https://sre.example", Some("https://sre.example")),
            ("ftp://sre.example", None),
            ("", None),
            ("a b", None),
        ] {
            assert_eq!(url(text).ok().as_deref(), expected, "{text}");
        }
    }
}
