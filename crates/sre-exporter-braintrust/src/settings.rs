use sre_core::{BackendApi, InvalidExporter, Secret};

/// The exporter's name.
pub(crate) const NAME: &str = "braintrust";

/// The URL, key, project and experiment of Braintrust.
///
/// Later versions may have more fields: end with `..BraintrustSettings::new(api_key)`.
#[derive(Clone, Debug)]
pub struct BraintrustSettings {
    /// The base URL of the API; Braintrust's cloud by default.
    pub url: String,
    /// The API key.
    pub api_key: Secret,
    /// The project, created if it is missing; `agent-sre` by default.
    pub project: String,
    /// An experiment of the project, created if it is missing. Runs and evaluations become rows of it instead of logs of
    /// the project.
    pub experiment: Option<String>,
}

impl BraintrustSettings {
    /// Creates settings for the cloud.
    pub fn new(api_key: Secret) -> Self {
        let url = "https://api.braintrust.dev".to_owned();
        Self { url, api_key, project: "agent-sre".to_owned(), experiment: None }
    }

    /// The JSON Schema of the fields that [`read`](Self::read) takes, with an example of all.
    #[cfg(feature = "yaml")]
    pub const SCHEMA: &'static str = include_str!("settings.schema.json");

    /// Reads `url`, `api_key`, `project` and `experiment`.
    #[cfg(feature = "yaml")]
    pub fn read(fields: &mut sre_core::yaml::Fields<'_>) -> Result<Self, sre_core::yaml::ConfigError> {
        let settings = Self::new(fields.required_secret("api_key")?);
        let url = fields.text("url")?.unwrap_or(settings.url);
        let project = fields.text("project")?.unwrap_or(settings.project);
        Ok(Self { url, project, experiment: fields.text("experiment")?, ..settings })
    }
}

/// Validated settings.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) api: BackendApi,
    pub(crate) name: String,
    pub(crate) experiment: Option<String>,
}

impl TryFrom<BraintrustSettings> for Project {
    type Error = InvalidExporter;

    fn try_from(settings: BraintrustSettings) -> Result<Self, InvalidExporter> {
        let BraintrustSettings { url, api_key, project, experiment } = settings;
        if api_key.expose().is_empty() {
            return Err(InvalidExporter::new(NAME, "api_key", "found an empty key"));
        }
        for (setting, name) in [("project", Some(&project)), ("experiment", experiment.as_ref())] {
            if name.is_some_and(String::is_empty) {
                return Err(InvalidExporter::new(NAME, setting, "found an empty text, expected a name"));
            }
        }
        let api = BackendApi::new(NAME, &url)?.with_secret_header("authorization", "Bearer ", &api_key)?;
        Ok(Self { api, name: project, experiment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_errors_that_say_which() {
        let good = || BraintrustSettings::new(Secret::new("sk-key"));
        let error = |settings: BraintrustSettings| Project::try_from(settings).unwrap_err().to_string();
        let found = error(BraintrustSettings { url: "https://me:sk@a".to_owned(), ..good() });
        assert!(found.starts_with("braintrust: `url`: expected") && !found.contains("sk@"), "{found}");
        let found = error(BraintrustSettings { api_key: Secret::new(""), ..good() });
        assert_eq!(found, "braintrust: `api_key`: found an empty key");
        let found = error(BraintrustSettings { project: String::new(), ..good() });
        assert_eq!(found, "braintrust: `project`: found an empty text, expected a name");
        let found = error(BraintrustSettings { experiment: Some(String::new()), ..good() });
        assert_eq!(found, "braintrust: `experiment`: found an empty text, expected a name");
    }
}
