use sre_core::{BackendApi, InvalidExporter, Secret};

/// The exporter's name.
pub(crate) const NAME: &str = "agentops";

/// The key, hosts and tags of an AgentOps project.
///
/// Later versions may have more fields: end with `..AgentOpsSettings::new(api_key)`.
#[derive(Clone, Debug)]
pub struct AgentOpsSettings {
    /// The project's API key.
    pub api_key: Secret,
    /// The base URL of the API, for tokens.
    pub url: String,
    /// The base URL for spans.
    pub otlp_url: String,
    /// Tags of every session.
    pub tags: Vec<String>,
}

impl AgentOpsSettings {
    /// Creates settings for AgentOps' cloud.
    pub fn new(api_key: Secret) -> Self {
        Self {
            api_key,
            url: "https://api.agentops.ai".to_owned(),
            otlp_url: "https://otlp.agentops.ai".to_owned(),
            tags: Vec::new(),
        }
    }

    /// The JSON Schema of the fields that [`read`](Self::read) takes, with an example of all.
    #[cfg(feature = "yaml")]
    pub const SCHEMA: &'static str = include_str!("settings.schema.json");

    /// Reads `api_key`, `url`, `otlp_url` and `tags`.
    #[cfg(feature = "yaml")]
    pub fn read(fields: &mut sre_core::yaml::Fields<'_>) -> Result<Self, sre_core::yaml::ConfigError> {
        let settings = Self::new(fields.required_secret("api_key")?);
        Ok(Self {
            url: fields.text("url")?.unwrap_or(settings.url),
            otlp_url: fields.text("otlp_url")?.unwrap_or(settings.otlp_url),
            tags: fields.texts("tags")?,
            api_key: settings.api_key,
        })
    }
}

/// Validated settings.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) api_key: Secret,
    pub(crate) api: BackendApi,
    /// The API for spans, without a token.
    pub(crate) otlp: BackendApi,
    pub(crate) tags: Vec<String>,
}

impl TryFrom<AgentOpsSettings> for Project {
    type Error = InvalidExporter;

    fn try_from(settings: AgentOpsSettings) -> Result<Self, InvalidExporter> {
        let AgentOpsSettings { api_key, url, otlp_url, tags } = settings;
        if api_key.expose().is_empty() {
            return Err(InvalidExporter::new(NAME, "api_key", "found an empty key, expected that of a project"));
        }
        let api = |url: &str| Ok(BackendApi::new(NAME, url)?.with_secret(api_key.clone()));
        Ok(Self { api: api(&url)?, otlp: api(&otlp_url)?, api_key, tags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_errors_that_say_which() {
        let good = || AgentOpsSettings::new(Secret::new("s3cr3t"));
        let error = |settings: AgentOpsSettings| Project::try_from(settings).unwrap_err().to_string();
        assert!(error(AgentOpsSettings::new(Secret::new(""))).starts_with("agentops: `api_key`: found an empty key"));
        for settings in [
            AgentOpsSettings { url: "agentops.ai".to_owned(), ..good() },
            AgentOpsSettings { otlp_url: "agentops.ai".to_owned(), ..good() },
        ] {
            assert!(error(settings).starts_with("agentops: `url`: expected a URL"));
        }
        let project = Project::try_from(good()).unwrap();
        assert_eq!(project.otlp.url("/v1/traces"), "https://otlp.agentops.ai/v1/traces");
        assert!(!format!("{project:?}").contains("s3cr3t"));
    }
}
