use sre_core::{BackendApi, InvalidExporter, Secret};

/// The exporter's name.
pub(crate) const NAME: &str = "helicone";

/// The key and host of Helicone's API.
///
/// Later versions may have more fields: end with `..HeliconeSettings::new(api_key)`.
#[derive(Clone, Debug)]
pub struct HeliconeSettings {
    /// The API key.
    pub api_key: Secret,
    /// The base URL of the API; `https://api.helicone.ai` by default. In the EU, `https://eu.api.helicone.ai`.
    pub url: String,
}

impl HeliconeSettings {
    /// Creates settings for Helicone's cloud in the US.
    pub fn new(api_key: Secret) -> Self {
        Self { api_key, url: "https://api.helicone.ai".to_owned() }
    }

    /// The JSON Schema of the fields that [`read`](Self::read) takes, with an example of all.
    #[cfg(feature = "yaml")]
    pub const SCHEMA: &'static str = include_str!("settings.schema.json");

    /// Reads `api_key` and `url`.
    #[cfg(feature = "yaml")]
    pub fn read(fields: &mut sre_core::yaml::Fields<'_>) -> Result<Self, sre_core::yaml::ConfigError> {
        let settings = Self::new(fields.required_secret("api_key")?);
        Ok(Self { url: fields.text("url")?.unwrap_or(settings.url), ..settings })
    }

    pub(crate) fn api(self) -> Result<BackendApi, InvalidExporter> {
        BackendApi::new(NAME, &self.url)?.with_secret_header("authorization", "Bearer ", &self.api_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_errors_that_say_which() {
        let found = HeliconeSettings::new(Secret::new("")).api().unwrap_err().to_string();
        assert!(found.starts_with("helicone: `authorization`: expected"), "{found}");
        let settings = HeliconeSettings { url: "helicone.ai".to_owned(), ..HeliconeSettings::new(Secret::new("k")) };
        assert!(settings.api().unwrap_err().to_string().starts_with("helicone: `url`: expected a URL"));
    }
}
