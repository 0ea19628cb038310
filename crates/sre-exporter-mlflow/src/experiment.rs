use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;
use sre_core::{BackendApi, ExportError, HttpClient, Timestamp};

use crate::settings::{NAME, Server};

/// An experiment of the server, to which traces and runs belong.
#[derive(Debug)]
pub(crate) struct Experiment {
    pub(crate) id: String,
    /// The API with the header that assigns spans to the experiment.
    pub(crate) spans: BackendApi,
}

#[derive(Deserialize)]
struct Found {
    experiment: Description,
}

#[derive(Deserialize)]
struct Description {
    experiment_id: String,
    #[serde(default)]
    lifecycle_stage: String,
}

impl Experiment {
    /// Returns the experiment of the settings. It is created if there is none of that name.
    pub(crate) async fn open(server: &Server, at: Timestamp, http: &dyn HttpClient) -> Result<Self, ExportError> {
        let id = match find(server, at, http).await {
            Err(ExportError::Rejected { status: 404, .. }) => create(server, at, http).await?,
            found => found?,
        };
        let spans = server.api.clone().with_header("x-mlflow-experiment-id", &id);
        Ok(Self { spans: spans.map_err(|error| server.api.invalid(error))?, id })
    }
}

async fn find(server: &Server, at: Timestamp, http: &dyn HttpClient) -> Result<String, ExportError> {
    let name = utf8_percent_encode(&server.experiment, NON_ALPHANUMERIC);
    let path = format!("/api/2.0/mlflow/experiments/get-by-name?experiment_name={name}");
    let answer = server.api.send(server.api.request(Method::GET, &path), "", at, http).await?;
    let Found { experiment } = parse(answer.body(), "an experiment")?;
    if experiment.lifecycle_stage == "deleted" {
        // Nothing can be added to it, and no other experiment can have its name.
        let message =
            format!("the experiment `{}` is deleted; restore it, or set another `experiment`", server.experiment);
        return Err(rejected(410, message));
    }
    Ok(experiment.experiment_id)
}

async fn create(server: &Server, at: Timestamp, http: &dyn HttpClient) -> Result<String, ExportError> {
    let body = json!({"name": server.experiment});
    match server.api.post_json("/api/2.0/mlflow/experiments/create", &body, at, http).await {
        Ok(answer) => Ok(parse::<Description>(answer.body(), "the id of an experiment")?.experiment_id),
        // Another process has created it meanwhile.
        Err(error) if error.to_string().contains("RESOURCE_ALREADY_EXISTS") => find(server, at, http).await,
        Err(error) => Err(error),
    }
}

/// Parses a response without which nothing more can be sent. An unreadable one is that of a gateway, not of MLflow.
pub(crate) fn parse<'de, T: Deserialize<'de>>(body: &'de [u8], expected: &str) -> Result<T, ExportError> {
    let message = || format!("the response is not {expected}; is `url` that of an MLflow server?");
    serde_json::from_slice(body).map_err(|_| rejected(502, message()))
}

pub(crate) fn rejected(status: u16, message: String) -> ExportError {
    ExportError::Rejected { exporter: NAME.to_owned(), status, message, retry_after: None }
}
