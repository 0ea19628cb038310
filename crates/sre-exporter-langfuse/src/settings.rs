use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sre_core::{BackendApi, InvalidExporter, Secret};

/// The exporter's name.
pub(crate) const NAME: &str = "langfuse";

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

    /// The JSON Schema of the fields that [`read`](Self::read) takes, with an example of all.
    #[cfg(feature = "yaml")]
    pub const SCHEMA: &'static str = include_str!("settings.schema.json");

    /// Reads `url`, `public_key`, `secret_key` and `environment`.
    #[cfg(feature = "yaml")]
    pub fn read(fields: &mut sre_core::yaml::Fields<'_>) -> Result<Self, sre_core::yaml::ConfigError> {
        let settings = Self::new(fields.required_secret("public_key")?, fields.required_secret("secret_key")?);
        let url = fields.text("url")?.unwrap_or(settings.url);
        Ok(Self { url, environment: fields.text("environment")?, ..settings })
    }
}

/// Validated settings.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) api: BackendApi,
    pub(crate) environment: Option<String>,
}

impl TryFrom<LangfuseSettings> for Project {
    type Error = InvalidExporter;

    fn try_from(settings: LangfuseSettings) -> Result<Self, InvalidExporter> {
        let LangfuseSettings { url, public_key, secret_key, environment } = settings;
        if public_key.expose().is_empty() || secret_key.expose().is_empty() {
            return Err(InvalidExporter::new(
                NAME,
                "public_key",
                "found an empty key, expected both keys of a project",
            ));
        }
        if let Some(environment) = &environment {
            let is_plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_');
            if environment.is_empty() || environment.starts_with("langfuse") || !environment.chars().all(is_plain) {
                let message = format!(
                    "found `{environment}`, expected lower-case letters, digits, `-` and `_`, not beginning with `langfuse`"
                );
                return Err(InvalidExporter::new(NAME, "environment", message));
            }
        }
        let pair = Secret::new(STANDARD.encode(format!("{}:{}", public_key.expose(), secret_key.expose())));
        let api = BackendApi::new(NAME, &url)?
            .with_secret_header("authorization", "Basic ", &pair)?
            .with_header("x-langfuse-ingestion-version", "4")?
            .with_header("x-langfuse-sdk-name", "agent-sre")?;
        Ok(Self { api: api.with_secret(secret_key).with_secret(public_key), environment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_errors_that_say_which() {
        let good = || LangfuseSettings::new(Secret::new("pk"), Secret::new("sk"));
        let error = |settings: LangfuseSettings| Project::try_from(settings).unwrap_err().to_string();
        let found = error(LangfuseSettings { url: "https://pk:sk@a".to_owned(), ..good() });
        assert!(found.starts_with("langfuse: `url`: expected") && !found.contains("sk@"), "{found}");
        let found = error(LangfuseSettings { secret_key: Secret::new(""), ..good() });
        assert!(found.starts_with("langfuse: `public_key`: found an empty key"), "{found}");
        for name in ["", "Prod", "langfuse-x", "a b"] {
            let found = error(LangfuseSettings { environment: Some(name.to_owned()), ..good() });
            assert!(found.starts_with(&format!("langfuse: `environment`: found `{name}`")), "{found}");
        }
        assert!(Project::try_from(LangfuseSettings { environment: Some("production-2".into()), ..good() }).is_ok());
    }
}
