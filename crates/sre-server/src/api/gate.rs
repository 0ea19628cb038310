use std::collections::BTreeMap;

use agent_sre::slo::{ExhaustionAction, SloEngine};
use agent_sre::{Clock, SloSnapshot, Status, SystemClock};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::AppRef;
use super::error::{ApiError, ErrorBody};
use super::openapi::ApiRouter;

pub(super) fn routes() -> ApiRouter {
    ApiRouter::default().routes(routes!(gate))
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
}

/// Whether a deploy is allowed.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct GateDecision {
    allowed: bool,
    /// Why the deploy is refused: objective, agent and number.
    reasons: Vec<String>,
    /// Number of objectives that were checked.
    checked: usize,
}

/// Whether a deploy is allowed
///
/// Refused while a matching objective is critical, or exhausted with `exhaustion_action: freeze_deployments`.
#[utoipa::path(
    post, path = "/v1/gate", request_body = GateRequest,
    responses(
        (status = 200, description = "The decision.", body = GateDecision),
        (status = 400, description = "The request is invalid or names an unknown objective.", body = ErrorBody)
    )
)]
async fn gate(
    State(state): AppRef,
    request: Result<Json<GateRequest>, JsonRejection>,
) -> Result<Json<GateDecision>, ApiError> {
    let Json(request) = request.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let engines = state.shared.engines();
    let unknown = request.slos.iter().flatten().find(|name| !engines.exhaustion_actions.contains_key(*name));
    if let Some(name) = unknown {
        return Err(ApiError::bad_request(format!(
            "`slos`: found `{name}`, expected an objective that /v1/slos lists"
        )));
    }
    Ok(Json(decide(&request, &engines.get::<SloEngine>().snapshots(SystemClock.now()), &engines.exhaustion_actions)))
}

fn decide(request: &GateRequest, slos: &[SloSnapshot], actions: &BTreeMap<String, ExhaustionAction>) -> GateDecision {
    let matches = |slo: &&SloSnapshot| {
        request.service.as_ref().is_none_or(|service| *service == slo.agent)
            && request.slos.as_ref().is_none_or(|names| names.contains(&slo.name))
            && request.labels.iter().all(|(name, value)| slo.labels.get(name) == Some(value))
    };
    let checked: Vec<_> = slos.iter().filter(matches).collect();
    let refusal = |slo: &&SloSnapshot| {
        let of = if slo.agent.is_empty() { String::new() } else { format!(" of {}", slo.agent) };
        let freezes = actions.get(&slo.name) == Some(&ExhaustionAction::FreezeDeployments);
        match slo.status {
            Status::Critical => Some(format!("{}{of} is critical: its error budget burns too fast", slo.name)),
            Status::Exhausted if freezes => {
                Some(format!("{}{of} is exhausted, and freezes deployments until its error budget recovers", slo.name))
            }
            _ => None,
        }
    };
    let reasons: Vec<String> = checked.iter().filter_map(refusal).collect();
    GateDecision { allowed: reasons.is_empty(), reasons, checked: checked.len() }
}

#[cfg(test)]
mod tests {
    use agent_sre::slo::{Slo, TaskSuccessRate};
    use agent_sre::{AgentEvent, Timestamp};

    use super::*;

    #[test]
    fn exhausted_objectives_freeze_on_request_and_critical_ones_always() {
        let now = Timestamp::from_secs(1_790_000_000);
        let slo = |name: &str, agent: &str, hours_ago: u64| {
            let slo = Slo::new(name, vec![Box::new(TaskSuccessRate::new(0.9).unwrap())]).unwrap().for_agent(agent);
            let slo = slo.with_labels([("team".to_owned(), agent.to_owned())].into());
            let at = now.saturating_sub(std::time::Duration::from_secs(3_600 * hours_ago)).as_unix_seconds();
            for success in [true, false, true, false, true, false, false, false, true, false, true] {
                let json = format!(r#"{{"event":"task_finished","time":{at},"agent":"{agent}","success":{success}}}"#);
                slo.observe(&AgentEvent::from_json(json.as_bytes()).unwrap());
            }
            slo.snapshot_at(now)
        };
        let slos = [slo("frozen", "a", 20), slo("alerting", "b", 20)];
        assert_eq!(slos[0].status, Status::Exhausted);
        let actions = BTreeMap::from([
            ("frozen".to_owned(), ExhaustionAction::FreezeDeployments),
            ("alerting".to_owned(), ExhaustionAction::Alert),
        ]);
        let ask = |request: &str| decide(&serde_json::from_str(request).unwrap(), &slos, &actions);
        let everything = ask("{}");
        assert_eq!((everything.allowed, everything.checked, everything.reasons.len()), (false, 2, 1));
        assert!(everything.reasons[0].starts_with("frozen of a is exhausted"));
        assert!(ask(r#"{"service": "b"}"#).allowed);
        assert!(ask(r#"{"slos": ["alerting"]}"#).allowed);
        assert!(!ask(r#"{"labels": {"team": "a"}}"#).allowed);
        assert_eq!(ask(r#"{"labels": {"team": "c"}}"#).checked, 0);
        let mut critical = slo("alerting", "b", 20);
        critical.status = Status::Critical;
        assert!(!decide(&GateRequest::default(), &[critical], &actions).allowed);
    }
}
