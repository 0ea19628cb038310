use std::time::Duration;

use http::Method;
use http::header::CONTENT_TYPE;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sre_core::{BackendApi, ExportError, HttpClient, SloSnapshot, Timestamp};

use crate::names;
use crate::origin::Origin;
use crate::settings::NAME;

/// A metric-based SLO over the counts of an objective's events.
///
/// Source: <https://docs.datadoghq.com/api/latest/service-level-objectives/>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SloObject {
    name: String,
    r#type: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    query: Query,
    #[serde(default)]
    thresholds: Vec<Threshold>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Query {
    numerator: String,
    denominator: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Threshold {
    timeframe: String,
    /// In percent.
    target: f64,
}

/// An SLO in Datadog.
#[derive(Deserialize)]
struct Existing {
    id: String,
    #[serde(flatten)]
    object: SloObject,
}

#[derive(Deserialize)]
struct Found {
    data: Vec<Existing>,
}

const PATH: &str = "/api/v1/slo";

impl SloObject {
    /// Returns the SLO of an objective; `None` if Datadog cannot express it: without a target, with a target of 100 %, or
    /// composed of other objectives.
    pub(crate) fn of(slo: &SloSnapshot, origin: &Origin) -> Option<Self> {
        let target = slo.target.filter(|target| *target > 0.0 && *target < 1.0)?;
        if slo.method.is_some() {
            return None;
        }
        let own = [names::tag("slo", &slo.name), names::tag("agent", &slo.agent)];
        let own: Vec<String> = own.into_iter().flatten().chain(origin.identity.iter().cloned()).collect();
        let events = |filter: &str| format!("sum:agent_sre.slo.events{{{}{filter}}}.as_count()", own.join(","));
        let of_agent = if slo.agent.is_empty() { String::new() } else { format!(" of {}", slo.agent) };
        Some(Self {
            name: format!("{}{of_agent}", slo.name),
            r#type: "metric".to_owned(),
            description: Some(slo.description.clone()),
            query: Query { numerator: events(",outcome:good"), denominator: events("") },
            tags: own.into_iter().chain(["managed_by:agent-sre".to_owned()]).collect(),
            thresholds: vec![Threshold {
                timeframe: timeframe(slo.window.duration()).to_owned(),
                // Datadog shows three decimals.
                target: (target * 1e7).round() / 1e5,
            }],
        })
    }

    /// Returns what identifies the SLO: its name and tags.
    pub(crate) fn key(&self) -> String {
        format!("{} {}", self.name, self.tags.join(","))
    }

    /// Creates the SLO, or updates it if it differs.
    pub(crate) async fn sync(&self, api: &BackendApi, at: Timestamp, http: &dyn HttpClient) -> Result<(), ExportError> {
        match self.find(api, at, http).await? {
            None => drop(api.post_json(PATH, self, at, http).await?),
            Some(found) => {
                let wanted = self.with_tags_of(&found.object);
                if wanted != found.object {
                    let path = format!("{PATH}/{}", utf8_percent_encode(&found.id, NON_ALPHANUMERIC));
                    let body = serde_json::to_vec(&wanted).map_err(|error| api.invalid(error))?;
                    let request = api.request(Method::PUT, &path).header(CONTENT_TYPE, "application/json");
                    api.send(request, body, at, http).await?;
                }
            }
        }
        Ok(())
    }

    async fn find(
        &self,
        api: &BackendApi,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<Option<Existing>, ExportError> {
        let tag = self.tags.first().map_or("", String::as_str);
        let path = format!("{PATH}?limit=1000&tags_query={}", utf8_percent_encode(tag, NON_ALPHANUMERIC));
        let answer = api.send(api.request(Method::GET, &path), Vec::new(), at, http).await?;
        let found: Found = serde_json::from_slice(answer.body())
            .map_err(|error| ExportError::invalid(NAME, format!("the list of SLOs is unreadable: {error}")))?;
        Ok(found.data.into_iter().find(|found| {
            found.object.name == self.name && self.tags.iter().all(|tag| found.object.tags.contains(tag))
        }))
    }

    /// Returns the SLO with the tags of the existing one, which a user may have added to.
    fn with_tags_of(&self, existing: &Self) -> Self {
        Self { tags: existing.tags.clone(), ..self.clone() }
    }
}

/// Returns the shortest of Datadog's windows that is not shorter, or else the longest.
fn timeframe(window: Duration) -> &'static str {
    match window.as_secs() / 86_400 {
        0..=7 => "7d",
        8..=30 => "30d",
        _ => "90d",
    }
}
