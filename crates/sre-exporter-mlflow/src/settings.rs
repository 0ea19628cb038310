use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sre_core::{BackendApi, InvalidExporter, Secret};

/// The exporter's name.
pub(crate) const NAME: &str = "mlflow";

/// The maximum length of an experiment's name in MLflow, in characters.
const EXPERIMENT_CHARS: usize = 500;

/// The URL, experiment and credentials of an MLflow server.
///
/// Later versions may have more fields: end with `..MlflowSettings::new(url)`.
#[derive(Clone, Debug)]
pub struct MlflowSettings {
    /// The base URL, such as `http://127.0.0.1:5000`.
    pub url: String,
    /// The name of the experiment, which is created if it is missing; `agent-sre` by default.
    pub experiment: String,
    /// The credentials, if the server requires any.
    pub credentials: Option<Credentials>,
}

/// Credentials of an MLflow server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Credentials {
    /// A bearer token.
    Token(Secret),
    /// User name and password, as of MLflow's own basic authentication.
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
}

impl MlflowSettings {
    /// Creates settings for a server without authentication.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), experiment: "agent-sre".to_owned(), credentials: None }
    }

    /// The JSON Schema of the fields that [`read`](Self::read) takes, with an example of all.
    #[cfg(feature = "yaml")]
    pub const SCHEMA: &'static str = include_str!("settings.schema.json");

    /// Reads `url`, `experiment`, and either `token`, or `username` and `password`.
    #[cfg(feature = "yaml")]
    pub fn read(fields: &mut sre_core::yaml::Fields<'_>) -> Result<Self, sre_core::yaml::ConfigError> {
        let url = fields.text("url")?;
        let settings = Self::new(url.ok_or_else(|| fields.missing("url", "the URL of an MLflow server"))?);
        let experiment = fields.text("experiment")?.unwrap_or(settings.experiment);
        let (token, username, password) =
            (fields.secret("token")?, fields.text("username")?, fields.secret("password")?);
        let credentials = match (token, username, password) {
            (None, None, None) => None,
            (Some(token), None, None) => Some(Credentials::Token(token)),
            (None, Some(username), Some(password)) => Some(Credentials::Basic { username, password }),
            _ => return Err(fields.missing("token", "either `token`, or both `username` and `password`")),
        };
        Ok(Self { url: settings.url, experiment, credentials })
    }
}

/// Validated settings.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) api: BackendApi,
    pub(crate) experiment: String,
}

impl TryFrom<MlflowSettings> for Server {
    type Error = InvalidExporter;

    fn try_from(settings: MlflowSettings) -> Result<Self, InvalidExporter> {
        let MlflowSettings { url, experiment, credentials } = settings;
        if experiment.is_empty() || experiment.chars().count() > EXPERIMENT_CHARS {
            let message = format!("expected a name of 1 to {EXPERIMENT_CHARS} characters");
            return Err(InvalidExporter::new(NAME, "experiment", message));
        }
        let api = BackendApi::new(NAME, &url)?;
        let api = match credentials {
            None => api,
            Some(Credentials::Token(token)) => api.with_secret_header("authorization", "Bearer ", &token)?,
            Some(Credentials::Basic { username, password }) => {
                if username.is_empty() || username.contains(':') || password.expose().is_empty() {
                    let message = "expected a user name without a colon, and a password, not empty";
                    return Err(InvalidExporter::new(NAME, "username", message));
                }
                let pair = Secret::new(STANDARD.encode(format!("{username}:{}", password.expose())));
                api.with_secret_header("authorization", "Basic ", &pair)?.with_secret(password)
            }
        };
        Ok(Self { api, experiment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_errors_that_say_which() {
        let good = || MlflowSettings::new("http://127.0.0.1:5000");
        let error = |settings: MlflowSettings| Server::try_from(settings).unwrap_err().to_string();
        assert!(error(MlflowSettings::new("127.0.0.1:5000")).starts_with("mlflow: `url`: expected a URL"));
        for experiment in [String::new(), "x".repeat(501)] {
            let found = error(MlflowSettings { experiment, ..good() });
            assert!(found.starts_with("mlflow: `experiment`: expected a name of 1 to 500 characters"), "{found}");
        }
        for (username, password) in [("", "s3cr3t"), ("a:b", "s3cr3t"), ("a", "")] {
            let credentials = Credentials::Basic { username: username.to_owned(), password: Secret::new(password) };
            let found = error(MlflowSettings { credentials: Some(credentials), ..good() });
            assert!(found.starts_with("mlflow: `username`: expected") && !found.contains("s3cr3t"), "{found}");
        }
        let credentials = Credentials::Basic { username: "ann".to_owned(), password: Secret::new("s3cr3t") };
        let server = Server::try_from(MlflowSettings { credentials: Some(credentials), ..good() }).unwrap();
        assert_eq!(server.api.headers()["authorization"], "Basic YW5uOnMzY3IzdA==");
    }

    #[cfg(feature = "yaml")]
    #[test]
    fn settings_in_yaml_have_one_kind_of_credentials() {
        use sre_core::yaml::{Fields, document};
        let read = |text: &str| {
            let node = document(text, "f", "exporter").unwrap();
            MlflowSettings::read(&mut Fields::new(&node, "f", "").unwrap()).map_err(|error| error.to_string())
        };
        let settings = read("{url: 'http://a', token: s3cr3t}").unwrap();
        assert_eq!(settings.experiment, "agent-sre");
        assert!(matches!(settings.credentials, Some(Credentials::Token(_))));
        let settings = read("{url: 'http://a', username: ann, password: s3cr3t}").unwrap();
        assert!(matches!(settings.credentials, Some(Credentials::Basic { .. })));
        for text in ["{url: a, username: ann}", "{url: a, password: s3cr3t}", "{url: a, token: s3cr3t, username: ann}"]
        {
            let expected = "f:1: `token`: expected either `token`, or both `username` and `password`";
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
        assert_eq!(read("{}").unwrap_err(), "f:1: `url`: expected the URL of an MLflow server");
    }
}
