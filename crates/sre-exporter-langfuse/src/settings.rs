use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use sre_core::Secret;

/// The URL, keys and environment of a Langfuse project.
///
/// Later versions may have more fields: end with `..LangfuseSettings::new(public_key, secret_key)`.
#[derive(Clone, Debug)]
pub struct LangfuseSettings {
    /// The base URL; Langfuse's cloud in the EU by default.
    pub url: String,
    /// The project's public key.
    pub public_key: Secret,
    /// The project's secret key.
    pub secret_key: Secret,
    /// The environment, such as `production`; without one, Langfuse uses `default`.
    pub environment: Option<String>,
}

impl LangfuseSettings {
    /// Creates settings for a project in the cloud.
    pub fn new(public_key: Secret, secret_key: Secret) -> Self {
        Self { url: "https://cloud.langfuse.com".to_owned(), public_key, secret_key, environment: None }
    }
}

/// Invalid settings. The message shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSettings {
    /// The base URL is invalid.
    #[error("langfuse: `url`: expected a URL such as https://cloud.langfuse.com, without user, password or query")]
    Url,
    /// A key is missing.
    #[error("langfuse: `public_key` and `secret_key`: found an empty key, expected both keys of a project")]
    Key,
    /// The environment's name is invalid.
    #[error(
        "langfuse: `environment`: found `{0}`, expected lower-case letters, digits, `-` and `_`, not beginning with `langfuse`"
    )]
    Environment(String),
}

/// Validated settings.
#[derive(Clone)]
pub(crate) struct Checked {
    pub(crate) url: String,
    pub(crate) authorization: HeaderValue,
    /// Secrets that errors must not show.
    pub(crate) secrets: [Secret; 3],
    pub(crate) environment: Option<String>,
}

impl TryFrom<LangfuseSettings> for Checked {
    type Error = InvalidSettings;

    fn try_from(settings: LangfuseSettings) -> Result<Self, InvalidSettings> {
        let uri: Uri = settings.url.parse().map_err(|_| InvalidSettings::Url)?;
        let authority = uri.authority().ok_or(InvalidSettings::Url)?.as_str();
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.query().is_some() || authority.contains('@') {
            return Err(InvalidSettings::Url);
        }
        if settings.public_key.expose().is_empty() || settings.secret_key.expose().is_empty() {
            return Err(InvalidSettings::Key);
        }
        if let Some(environment) = &settings.environment {
            let is_plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_');
            if environment.is_empty() || environment.starts_with("langfuse") || !environment.chars().all(is_plain) {
                return Err(InvalidSettings::Environment(environment.clone()));
            }
        }
        let pair = format!("{}:{}", settings.public_key.expose(), settings.secret_key.expose());
        let encoded = STANDARD.encode(pair);
        let mut authorization = HeaderValue::try_from(format!("Basic {encoded}")).map_err(|_| InvalidSettings::Key)?;
        authorization.set_sensitive(true);
        Ok(Self {
            url: settings.url.trim_end_matches('/').to_owned(),
            authorization,
            secrets: [settings.secret_key, settings.public_key, Secret::new(encoded)],
            environment: settings.environment,
        })
    }
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked")
            .field("url", &self.url)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_errors_that_say_which() {
        let good = || LangfuseSettings::new(Secret::new("pk"), Secret::new("sk"));
        let check = |settings| Checked::try_from(settings).map(|_| ());
        for url in ["", "cloud.langfuse.com", "ftp://a", "https://pk:sk@a", "https://a/?key=1"] {
            assert_eq!(check(LangfuseSettings { url: url.to_owned(), ..good() }), Err(InvalidSettings::Url), "{url}");
        }
        assert_eq!(check(LangfuseSettings { secret_key: Secret::new(""), ..good() }), Err(InvalidSettings::Key));
        for name in ["", "Prod", "langfuse-x", "a b"] {
            let settings = LangfuseSettings { environment: Some(name.to_owned()), ..good() };
            assert_eq!(check(settings), Err(InvalidSettings::Environment(name.to_owned())));
        }
        assert_eq!(check(LangfuseSettings { environment: Some("production-2".to_owned()), ..good() }), Ok(()));
    }
}
