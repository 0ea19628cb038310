use sre_core::{BackendApi, InvalidExporter, Secret};

/// The exporter's name.
pub(crate) const NAME: &str = "phoenix";

/// The URL, key and project of a Phoenix server.
///
/// Later versions may have more fields: end with `..PhoenixSettings::new(url)`.
#[derive(Clone, Debug)]
pub struct PhoenixSettings {
    /// The base URL, such as `http://127.0.0.1:6006`.
    pub url: String,
    /// An API key, if the server requires one.
    pub api_key: Option<Secret>,
    /// The project, which Phoenix creates if it is missing; `agent-sre` by default.
    pub project: String,
}

impl PhoenixSettings {
    /// Creates settings for a server without authentication.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), api_key: None, project: "agent-sre".to_owned() }
    }

    /// The JSON Schema of the fields that [`read`](Self::read) takes, with an example of all.
    #[cfg(feature = "yaml")]
    pub const SCHEMA: &'static str = include_str!("settings.schema.json");

    /// Reads `url`, `api_key` and `project`.
    #[cfg(feature = "yaml")]
    pub fn read(fields: &mut sre_core::yaml::Fields<'_>) -> Result<Self, sre_core::yaml::ConfigError> {
        let url = fields.text("url")?;
        let settings = Self::new(url.ok_or_else(|| fields.missing("url", "the URL of a Phoenix server"))?);
        let project = fields.text("project")?.unwrap_or(settings.project);
        Ok(Self { url: settings.url, api_key: fields.secret("api_key")?, project })
    }
}

/// Validated settings.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) api: BackendApi,
    pub(crate) name: String,
}

impl TryFrom<PhoenixSettings> for Project {
    type Error = InvalidExporter;

    fn try_from(settings: PhoenixSettings) -> Result<Self, InvalidExporter> {
        let PhoenixSettings { url, api_key, project } = settings;
        if project.is_empty() {
            return Err(InvalidExporter::new(NAME, "project", "found an empty name, expected the name of a project"));
        }
        let api = BackendApi::new(NAME, &url)?;
        let api = match api_key {
            Some(key) => api.with_secret_header("authorization", "Bearer ", &key)?,
            None => api,
        };
        Ok(Self { api, name: project })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_errors_that_say_which() {
        let good = || PhoenixSettings::new("http://127.0.0.1:6006");
        let error = |settings: PhoenixSettings| Project::try_from(settings).unwrap_err().to_string();
        assert!(error(PhoenixSettings::new("127.0.0.1:6006")).starts_with("phoenix: `url`: expected a URL"));
        let found = error(PhoenixSettings { project: String::new(), ..good() });
        assert!(found.starts_with("phoenix: `project`: found an empty name"), "{found}");
        let found = error(PhoenixSettings { api_key: Some(Secret::new("s3cr3t\n")), ..good() });
        assert!(found.starts_with("phoenix: `authorization`: expected") && !found.contains("s3cr3t"), "{found}");
        let keyed = Project::try_from(PhoenixSettings { api_key: Some(Secret::new("k")), ..good() }).unwrap();
        assert_eq!(keyed.api.headers()["authorization"], "Bearer k");
    }
}
