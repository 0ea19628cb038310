use std::collections::BTreeMap;
use std::sync::Arc;

use agent_sre::slo::{ExhaustionAction, SloEngine};
use agent_sre::{Clock, SloSnapshot, Status, SystemClock};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use crate::app::AppState;

/// What is to be deployed: the objectives that must be well. Nothing said means all of them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// Only those of this agent.
    service: Option<String>,
    /// Only those of these names.
    slos: Option<Vec<String>>,
    /// Only those with all of these labels.
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Whether a deploy may go on.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Answer {
    allowed: bool,
    /// Why not.
    reasons: Vec<String>,
    /// How many objectives were asked.
    checked: usize,
}

pub(crate) async fn gate(
    State(context): State<Arc<AppState>>,
    question: Result<Json<Question>, JsonRejection>,
) -> Result<Json<Answer>, ApiError> {
    let Json(question) = question.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let engines = context.shared.engines();
    let unknown = question.slos.iter().flatten().find(|name| !engines.exhaustion_actions.contains_key(*name));
    if let Some(name) = unknown {
        return Err(ApiError::bad_request(format!(
            "`slos`: found `{name}`, expected an objective that /v1/slos lists"
        )));
    }
    Ok(Json(answer(&question, &engines.get::<SloEngine>().snapshots(SystemClock.now()), &engines.exhaustion_actions)))
}

fn answer(question: &Question, slos: &[SloSnapshot], actions: &BTreeMap<String, ExhaustionAction>) -> Answer {
    let is_asked = |slo: &&SloSnapshot| {
        question.service.as_ref().is_none_or(|service| *service == slo.agent)
            && question.slos.as_ref().is_none_or(|names| names.contains(&slo.name))
            && question.labels.iter().all(|(name, value)| slo.labels.get(name) == Some(value))
    };
    let asked: Vec<_> = slos.iter().filter(is_asked).collect();
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
    let reasons: Vec<String> = asked.iter().filter_map(refusal).collect();
    Answer { allowed: reasons.is_empty(), reasons, checked: asked.len() }
}

#[cfg(test)]
mod tests {
    use agent_sre::slo::{Slo, TaskSuccessRate};
    use agent_sre::{AgentEvent, Timestamp};

    use super::*;

    #[test]
    fn what_is_exhausted_freezes_if_it_should_and_what_is_critical_always() {
        let now = Timestamp::from_secs(1_790_000_000);
        let slo = |name: &str, agent: &str, hours_ago: u64| {
            let slo = Slo::new(name, vec![Box::new(TaskSuccessRate::new(0.9))]).unwrap().for_agent(agent);
            let slo = slo.with_labels([("team".to_owned(), agent.to_owned())].into());
            let at = now.saturating_sub(std::time::Duration::from_secs(3_600 * hours_ago)).as_unix_seconds();
            for success in [true, false, true, false, true, true, true, true, true, true, true] {
                let json = format!(r#"{{"event":"task_finished","time":{at},"agent":"{agent}","success":{success}}}"#);
                slo.observe(&AgentEvent::from_json(json.as_bytes()).unwrap());
            }
            slo.snapshot_at(now)
        };
        let slos = [slo("frozen", "a", 20), slo("told", "b", 20)];
        assert_eq!(slos[0].status, Status::Exhausted);
        let actions = BTreeMap::from([
            ("frozen".to_owned(), ExhaustionAction::FreezeDeployments),
            ("told".to_owned(), ExhaustionAction::Alert),
        ]);
        let ask = |question: &str| answer(&serde_json::from_str(question).unwrap(), &slos, &actions);
        let everything = ask("{}");
        assert_eq!((everything.allowed, everything.checked, everything.reasons.len()), (false, 2, 1));
        assert!(everything.reasons[0].starts_with("frozen of a is exhausted"));
        assert!(ask(r#"{"service": "b"}"#).allowed);
        assert!(ask(r#"{"slos": ["told"]}"#).allowed);
        assert!(!ask(r#"{"labels": {"team": "a"}}"#).allowed);
        assert_eq!(ask(r#"{"labels": {"team": "c"}}"#).checked, 0);
        let mut critical = slo("told", "b", 20);
        critical.status = Status::Critical;
        assert!(!answer(&Question::default(), &[critical], &actions).allowed);
    }
}
