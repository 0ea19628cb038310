use agent_sre::http::{Client, Options};
use agent_sre::{HttpClient, Secret};
use anyhow::{Context, bail};
use http::header;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A client of the API of `sre serve`.
pub(crate) struct ServiceClient {
    url: String,
    token: Option<Secret>,
    http: Client,
    runtime: tokio::runtime::Runtime,
}

impl ServiceClient {
    pub(crate) fn new(url: &str, token: Option<String>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { url, token: token.map(Secret::new), http: Client::new(Options::default())?, runtime })
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.send(http::Request::get(format!("{}{path}", self.url)), Vec::new())
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        let request = http::Request::post(format!("{}{path}", self.url));
        self.send(request.header(header::CONTENT_TYPE, "application/json"), serde_json::to_vec(body)?)
    }

    fn send<T: DeserializeOwned>(&self, mut request: http::request::Builder, body: Vec<u8>) -> anyhow::Result<T> {
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        let request = request.body(body.into()).context("invalid URL")?;
        let response = self.runtime.block_on(self.http.send(request)).context("the service did not answer")?;
        if !response.status().is_success() {
            let body: Option<Value> = serde_json::from_slice(response.body()).ok();
            let error = body.as_ref().and_then(|body| body["error"].as_str().map(str::to_owned));
            let error = error.unwrap_or_else(|| String::from_utf8_lossy(response.body()).into_owned());
            bail!("the service answered {}: {error}", response.status());
        }
        serde_json::from_slice(response.body()).context("invalid response of the service")
    }
}
