use std::collections::BTreeMap;

use agent_sre::slo::{ExhaustionAction, SloEngine};
use agent_sre::{FailOn, SloSnapshot, Status, Timestamp};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::AppRef;
use super::body::receive;
use super::error::{ApiError, ErrorBody};
use super::openapi::{ApiRouter, with_errors};
use super::reads::compute;
use crate::app::AppState;

pub(super) fn routes() -> ApiRouter {
    let errors = [
        (StatusCode::REQUEST_TIMEOUT, "The request did not arrive within `client_timeout`."),
        (StatusCode::PAYLOAD_TOO_LARGE, "The request is larger than 64 KiB."),
        (StatusCode::TOO_MANY_REQUESTS, "Too many requests are in progress; retry later."),
    ];
    with_errors(ApiRouter::default().routes(routes!(gate)), &errors, &[("application/json", ErrorBody::reference())])
}

/// The objectives that decide about a deploy; all of them by default.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct GateRequest {
    /// Only the objectives of this agent.
    service: Option<String>,
    /// Only the objectives of these names.
    slos: Option<Vec<String>>,
    /// Only the objectives with all of these labels.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// The status from which the deploy is refused; critical by default.
    #[serde(default)]
    fail_on: FailOn,
}

/// Whether a deploy is allowed.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct GateDecision {
    /// Whether no objective blocks the deploy.
    allowed: bool,
    /// Why the deploy is refused: objective and agent, the status, and the budget or the indicators that cause it, with
    /// their numbers.
    reasons: Vec<String>,
    /// Number of objectives that were checked.
    checked: usize,
}

/// Whether a deploy is allowed
///
/// Refused while a matching objective has the status `fail_on` or a worse one. An exhausted objective with
/// `exhaustion_action: freeze_deployments` refuses it whatever `fail_on` is.
#[utoipa::path(
    post, path = "/v1/gate", request_body = GateRequest,
    responses(
        (status = 200, description = "The decision.", body = GateDecision),
        (status = 400, description = "The request is invalid.", body = ErrorBody),
        (status = 404, description = "The request names an unknown objective.", body = ErrorBody)
    )
)]
async fn gate(State(state): AppRef, headers: HeaderMap, body: Body) -> Result<Json<GateDecision>, ApiError> {
    let body = receive(&state, &headers, body, MAX_REQUEST).await?;
    compute(&state.clone(), move || answer(&state, &body.bytes).map(Json)).await
}

/// Maximum size of a request in bytes.
const MAX_REQUEST: usize = 64 << 10;

fn answer(state: &AppState, request: &[u8]) -> Result<GateDecision, ApiError> {
    // From an object only: serde would also read the fields from an array.
    let request: Map<String, Value> = parsed(serde_json::from_slice(request))?;
    let request: GateRequest = parsed(serde_json::from_value(request.into()))?;
    let engines = state.shared.engines();
    let unknown = request.slos.iter().flatten().find(|name| !engines.exhaustion_actions.contains_key(*name));
    if let Some(name) = unknown {
        let message = format!("`slos`: found `{name}`, expected an objective that /v1/slos lists");
        return Err(ApiError::new(StatusCode::NOT_FOUND, message));
    }
    let now = state.shared.now();
    Ok(decide(&request, &engines.get::<SloEngine>().snapshots(now), &engines.exhaustion_actions, now))
}

fn parsed<T>(request: serde_json::Result<T>) -> Result<T, ApiError> {
    request.map_err(|error| ApiError::bad_request(error.to_string()))
}

fn decide(
    request: &GateRequest,
    slos: &[SloSnapshot],
    actions: &BTreeMap<String, ExhaustionAction>,
    now: Timestamp,
) -> GateDecision {
    let matches = |slo: &&SloSnapshot| {
        request.service.as_ref().is_none_or(|service| *service == slo.agent)
            && request.slos.as_ref().is_none_or(|names| names.contains(&slo.name))
            && request.labels.iter().all(|(name, value)| slo.labels.get(name) == Some(value))
    };
    let checked: Vec<_> = slos.iter().filter(matches).collect();
    let refusal = |slo: &&SloSnapshot| {
        let action = actions.get(&slo.name).copied().unwrap_or_default();
        let freezes = slo.status == Status::Exhausted && action == ExhaustionAction::FreezeDeployments;
        let signal = slo.status_changed(Status::Unknown, action, now);
        (freezes || request.fail_on.is_reached_by(slo.status)).then(|| format!("{}. {}", signal.title, signal.message))
    };
    let reasons: Vec<String> = checked.iter().filter_map(refusal).collect();
    GateDecision { allowed: reasons.is_empty(), reasons, checked: checked.len() }
}

#[cfg(test)]
mod tests {
    use agent_sre::slo::{ResponseLatency, Slo, TaskSuccessRate};
    use agent_sre::{AgentEvent, Sli};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

    /// Returns an objective of an agent, whose tasks took 9 s and ended 1,000 s ago.
    fn slo(name: &str, agent: &str, indicator: Box<dyn Sli>, good: usize, bad: usize) -> SloSnapshot {
        let labels = BTreeMap::from([("team".to_owned(), agent.to_owned())]);
        let slo = Slo::new(name, vec![indicator]).unwrap().for_agent(agent).with_labels(labels);
        for success in (0..good).map(|_| true).chain((0..bad).map(|_| false)) {
            let line = format!(
                r#"{{"event":"task_finished","time":1789999000,"agent":"{agent}","success":{success},"duration_ms":9000}}"#
            );
            slo.observe(&AgentEvent::from_json(line.as_bytes()).unwrap());
        }
        slo.snapshot_at(NOW)
    }

    fn tasks(name: &str, agent: &str, good: usize, bad: usize) -> SloSnapshot {
        slo(name, agent, Box::new(TaskSuccessRate::new(0.9).unwrap()), good, bad)
    }

    fn ask(request: &str, slos: &[SloSnapshot]) -> GateDecision {
        let actions = BTreeMap::from([("frozen".to_owned(), ExhaustionAction::FreezeDeployments)]);
        decide(&serde_json::from_str(request).unwrap(), slos, &actions, NOW)
    }

    #[test]
    fn a_deploy_is_refused_from_the_level_that_is_asked_for() {
        let mut burning = tasks("burning", "a", 60, 40);
        burning.status = Status::Warning;
        let slos = [burning, tasks("spent", "b", 50, 50), tasks("frozen", "c", 50, 50), tasks("fine", "d", 99, 1)];
        assert_eq!(slos.each_ref().map(|slo| slo.status)[1..], [Status::Exhausted, Status::Exhausted, Status::Healthy]);
        for (request, refusing) in [
            ("{}", &["spent of b", "frozen of c"][..]),
            (r#"{"fail_on": "warning"}"#, &["burning of a", "spent of b", "frozen of c"]),
            (r#"{"fail_on": "exhausted"}"#, &["spent of b", "frozen of c"]),
            (r#"{"fail_on": "never"}"#, &["frozen of c"]),
            (r#"{"service": "a"}"#, &[]),
            (r#"{"slos": ["spent", "fine"]}"#, &["spent of b"]),
            (r#"{"labels": {"team": "c"}}"#, &["frozen of c"]),
        ] {
            let decision = ask(request, &slos);
            let names = decision.reasons.iter().map(|reason| reason.split(':').next().unwrap());
            assert_eq!(
                (decision.allowed, names.collect::<Vec<_>>()),
                (refusing.is_empty(), refusing.to_vec()),
                "{request}"
            );
        }
        assert_eq!(ask(r#"{"labels": {"team": "z"}}"#, &slos).checked, 0);
        assert!(serde_json::from_str::<GateRequest>(r#"{"fail_on": "healthy"}"#).is_err());
    }

    #[test]
    fn a_reason_has_the_numbers_of_the_budget_or_the_indicator() {
        let slow = slo("fast", "b", Box::new(ResponseLatency::new(2_000.0, 0.95).unwrap()), 100, 0);
        let decision = ask("{}", &[tasks("frozen", "a", 50, 50), slow]);
        let expected = [
            "frozen of a: exhausted. The error budget of task_success_rate is exhausted. Burn rate 5.0 over the last 1h (threshold 2): 50 of \
             100 events bad. 500.0 % of the budget was consumed at 2026-09-21T14:13:20Z. Exhaustion action: freeze \
             deployments.",
            "fast of b: critical (response_latency). response_latency: Burn rate 20.0 over the last 1h (threshold 10): \
             100 of 100 samples bad. Its error budget is consumed 20 times over.",
        ];
        assert_eq!(decision.reasons, expected);
    }
}
