use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sre_core::{BackendApi, InvalidExporter, Secret};

/// The exporter's name.
pub(crate) const NAME: &str = "wandb";

/// The URL, key and project of Weights & Biases.
///
/// Later versions may have more fields: end with `..WandbSettings::new(api_key, entity)`.
#[derive(Clone, Debug)]
pub struct WandbSettings {
    /// The base URL of the API; the cloud by default.
    pub url: String,
    /// The API key.
    pub api_key: Secret,
    /// The team or user that owns the project.
    pub entity: String,
    /// The project, created if it is missing; `agent-sre` by default.
    pub project: String,
    /// Tags of every run.
    pub tags: Vec<String>,
}

impl WandbSettings {
    /// Creates settings for the cloud.
    pub fn new(api_key: Secret, entity: impl Into<String>) -> Self {
        let (url, project) = ("https://api.wandb.ai".to_owned(), "agent-sre".to_owned());
        Self { url, api_key, entity: entity.into(), project, tags: Vec::new() }
    }

    /// The JSON Schema of the fields that [`read`](Self::read) takes, with an example of all.
    #[cfg(feature = "yaml")]
    pub const SCHEMA: &'static str = include_str!("settings.schema.json");

    /// Reads `url`, `api_key`, `entity`, `project` and `tags`.
    #[cfg(feature = "yaml")]
    pub fn read(fields: &mut sre_core::yaml::Fields<'_>) -> Result<Self, sre_core::yaml::ConfigError> {
        let api_key = fields.required_secret("api_key")?;
        let entity = fields.text("entity")?.ok_or_else(|| fields.missing("entity", "the name of a team or user"))?;
        let settings = Self::new(api_key, entity);
        let url = fields.text("url")?.unwrap_or(settings.url);
        let project = fields.text("project")?.unwrap_or(settings.project);
        Ok(Self { url, project, tags: fields.texts("tags")?, ..settings })
    }
}

/// Validated settings.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) api: BackendApi,
    pub(crate) entity: String,
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
}

impl TryFrom<WandbSettings> for Project {
    type Error = InvalidExporter;

    fn try_from(settings: WandbSettings) -> Result<Self, InvalidExporter> {
        let WandbSettings { url, api_key, entity, project, tags } = settings;
        if api_key.expose().is_empty() {
            return Err(InvalidExporter::new(NAME, "api_key", "found an empty key"));
        }
        for (setting, name) in [("entity", &entity), ("project", &project)] {
            if name.is_empty() || name.contains(['/', '\\', '#', '?', '%', ':']) {
                let message = format!("found `{name}`, expected a name without /, \\, #, ?, % and :");
                return Err(InvalidExporter::new(NAME, setting, message));
            }
        }
        let pair = Secret::new(STANDARD.encode(format!("api:{}", api_key.expose())));
        let api = BackendApi::new(NAME, &url)?.with_secret_header("authorization", "Basic ", &pair)?;
        Ok(Self { api: api.with_secret(api_key), entity, name: project, tags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_errors_that_say_which() {
        let good = || WandbSettings::new(Secret::new("key-1"), "team");
        let error = |settings: WandbSettings| Project::try_from(settings).unwrap_err().to_string();
        let found = error(WandbSettings { url: "https://api:key-1@a".to_owned(), ..good() });
        assert!(found.starts_with("wandb: `url`: expected") && !found.contains("key-1"), "{found}");
        assert_eq!(error(WandbSettings { api_key: Secret::new(""), ..good() }), "wandb: `api_key`: found an empty key");
        for name in ["", "a/b"] {
            let found = error(WandbSettings { entity: name.to_owned(), ..good() });
            assert!(found.starts_with(&format!("wandb: `entity`: found `{name}`")), "{found}");
            let found = error(WandbSettings { project: name.to_owned(), ..good() });
            assert!(found.starts_with(&format!("wandb: `project`: found `{name}`")), "{found}");
        }
    }
}
