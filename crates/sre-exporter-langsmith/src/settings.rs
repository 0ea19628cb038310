use sre_core::{BackendApi, InvalidExporter, Secret};

/// The exporter's name.
pub(crate) const NAME: &str = "langsmith";

/// The URL, key and project of LangSmith.
///
/// Later versions may have more fields: end with `..LangSmithSettings::new(api_key)`.
#[derive(Clone, Debug)]
pub struct LangSmithSettings {
    /// The base URL of the API; LangSmith's cloud in the US by default. A self-hosted one ends with `/api/v1`.
    pub url: String,
    /// The API key.
    pub api_key: Secret,
    /// The tracing project; `agent-sre` by default. LangSmith creates it with the first run.
    pub project: String,
    /// The workspace, for a key that is valid in several.
    pub workspace_id: Option<String>,
}

impl LangSmithSettings {
    /// Creates settings for the cloud.
    pub fn new(api_key: Secret) -> Self {
        let url = "https://api.smith.langchain.com".to_owned();
        Self { url, api_key, project: "agent-sre".to_owned(), workspace_id: None }
    }

    /// The JSON Schema of the fields that [`read`](Self::read) takes, with an example of all.
    #[cfg(feature = "yaml")]
    pub const SCHEMA: &'static str = include_str!("settings.schema.json");

    /// Reads `url`, `api_key`, `project` and `workspace_id`.
    #[cfg(feature = "yaml")]
    pub fn read(fields: &mut sre_core::yaml::Fields<'_>) -> Result<Self, sre_core::yaml::ConfigError> {
        let settings = Self::new(fields.required_secret("api_key")?);
        let url = fields.text("url")?.unwrap_or(settings.url);
        let project = fields.text("project")?.unwrap_or(settings.project);
        Ok(Self { url, project, workspace_id: fields.text("workspace_id")?, ..settings })
    }
}

/// Validated settings.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) api: BackendApi,
    pub(crate) name: String,
}

impl TryFrom<LangSmithSettings> for Project {
    type Error = InvalidExporter;

    fn try_from(settings: LangSmithSettings) -> Result<Self, InvalidExporter> {
        let LangSmithSettings { url, api_key, project, workspace_id } = settings;
        if api_key.expose().is_empty() {
            return Err(InvalidExporter::new(NAME, "api_key", "found an empty key"));
        }
        if project.is_empty() {
            return Err(InvalidExporter::new(NAME, "project", "found an empty text, expected the name of a project"));
        }
        let mut api = BackendApi::new(NAME, &url)?.with_secret_header("x-api-key", "", &api_key)?;
        if let Some(id) = workspace_id {
            let is_id = !id.is_empty() && id.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
            if !is_id {
                let message = format!("found `{id}`, expected the workspace's UUID");
                return Err(InvalidExporter::new(NAME, "workspace_id", message));
            }
            api = api.with_header("x-tenant-id", &id)?;
        }
        Ok(Self { api, name: project })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_errors_that_say_which() {
        let good = || LangSmithSettings::new(Secret::new("lsv2-key"));
        let error = |settings: LangSmithSettings| Project::try_from(settings).unwrap_err().to_string();
        let found = error(LangSmithSettings { url: "https://me:lsv2@a".to_owned(), ..good() });
        assert!(found.starts_with("langsmith: `url`: expected") && !found.contains("lsv2"), "{found}");
        let found = error(LangSmithSettings { api_key: Secret::new(""), ..good() });
        assert_eq!(found, "langsmith: `api_key`: found an empty key");
        let found = error(LangSmithSettings { project: String::new(), ..good() });
        assert!(found.starts_with("langsmith: `project`: found an empty text"), "{found}");
        let found = error(LangSmithSettings { workspace_id: Some("mine".to_owned()), ..good() });
        assert!(found.starts_with("langsmith: `workspace_id`: found `mine`"), "{found}");
        let id = Some("b9825b9a-aaad-4896-9b8d-c289030d3b03".to_owned());
        let project = Project::try_from(LangSmithSettings { workspace_id: id, ..good() }).unwrap();
        assert!(project.api.headers().contains_key("x-tenant-id"));
    }
}
