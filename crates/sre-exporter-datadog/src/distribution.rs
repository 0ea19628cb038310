use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use sre_core::event::{Evaluation, LlmCall, PolicyCheck, StepFinished, TaskFinished, ToolCall};
use sre_core::{AgentEvent, Event, Timestamp, Usd};

use crate::origin::Origin;

/// A distribution, as `/api/v1/distribution_points` accepts it.
///
/// Source: <https://docs.datadoghq.com/api/latest/metrics/#submit-distribution-points>.
#[derive(Serialize)]
pub(crate) struct Distribution<'a> {
    metric: &'static str,
    r#type: &'static str,
    points: Vec<(i64, Vec<f64>)>,
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
}

impl<'a> Distribution<'a> {
    /// Returns a distribution with one value.
    pub(crate) fn of_value(
        metric: &'static str,
        value: f64,
        tags: Vec<String>,
        origin: &'a Origin,
        at: Timestamp,
    ) -> Self {
        let points = vec![(at.as_secs(), vec![value])];
        Self { metric, r#type: "distribution", points, tags, host: origin.host.as_deref() }
    }
}

/// Values by their second.
type Points = BTreeMap<i64, Vec<f64>>;
type Tags<'a> = Vec<(&'static str, &'a str)>;
type Values = Vec<(&'static str, Option<f64>)>;

/// Collects the values of events, by tags and metric.
#[derive(Default)]
pub(crate) struct Distributions<'a>(BTreeMap<Tags<'a>, BTreeMap<&'static str, Points>>);

/// Datadog accepts points that are at most an hour old. An older event, such as one that waited while Datadog was
/// unavailable, counts at the oldest time that is certain to be accepted.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(55 * 60);

impl<'a> Distributions<'a> {
    /// Adds the values of an event. Returns false if it has none.
    pub(crate) fn add(&mut self, event: &'a AgentEvent, at: Timestamp) -> bool {
        let (tags, mut values) = measure(event);
        values.retain(|(_, value)| value.is_some_and(f64::is_finite));
        if values.is_empty() {
            return false;
        }
        let time = event.time.clamp(at.saturating_sub(MAX_AGE), at).as_secs();
        let metrics = self.0.entry(tags).or_default();
        for (metric, value) in values {
            metrics.entry(metric).or_default().entry(time).or_default().extend(value);
        }
        true
    }

    pub(crate) fn into_vec(self, origin: &Origin) -> Vec<Distribution<'_>> {
        let mut distributions = Vec::new();
        for (tags, metrics) in self.0 {
            let tags = origin.tags_with(tags);
            distributions.extend(metrics.into_iter().map(|(metric, points)| Distribution {
                metric,
                r#type: "distribution",
                points: points.into_iter().collect(),
                tags: tags.clone(),
                host: origin.host.as_deref(),
            }));
        }
        distributions
    }
}

/// Returns the tags and values of an event. A task's id is no tag, because each would be a series of its own.
fn measure(event: &AgentEvent) -> (Tags<'_>, Values) {
    let outcome = event.event.outcome().map(|is_success| if is_success { "succeeded" } else { "failed" });
    let mut tags = vec![("agent", event.agent.as_str())];
    tags.extend(outcome.map(|outcome| ("outcome", outcome)));
    let seconds = event.event.duration_ms().map(|ms| ms / 1e3);
    let dollars = |cost: &Option<Usd>| cost.map(Usd::as_dollars);
    let values = match &event.event {
        Event::TaskFinished(TaskFinished { cost_usd, .. }) => {
            vec![("agent_sre.task.duration", seconds), ("agent_sre.task.cost", dollars(cost_usd))]
        }
        Event::LlmCall(LlmCall { model, provider, input_tokens, output_tokens, cost_usd, first_token_ms, .. }) => {
            tags.extend(model.as_deref().map(|model| ("model", model)));
            tags.extend(provider.as_deref().map(|provider| ("provider", provider)));
            vec![
                ("agent_sre.llm_call.duration", seconds),
                ("agent_sre.llm_call.time_to_first_token", first_token_ms.map(|ms| ms / 1e3)),
                ("agent_sre.llm_call.input_tokens", Some(*input_tokens as f64)),
                ("agent_sre.llm_call.output_tokens", Some(*output_tokens as f64)),
                ("agent_sre.llm_call.cost", dollars(cost_usd)),
            ]
        }
        Event::ToolCall(ToolCall { tool, .. }) => {
            tags.push(("tool", tool));
            vec![("agent_sre.tool_call.duration", seconds)]
        }
        Event::StepFinished(StepFinished { name, kind, .. }) => {
            tags.extend([("step", name.as_str()), ("kind", kind)]);
            vec![("agent_sre.step.duration", seconds)]
        }
        Event::Evaluation(Evaluation { metric, score, passed, .. }) => {
            tags.push(("evaluation", metric));
            let score = score.or(passed.map(|passed| f64::from(u8::from(passed))));
            vec![("agent_sre.evaluation.score", score)]
        }
        Event::PolicyCheck(PolicyCheck { policy, compliant, .. }) => {
            tags.push(("policy", policy));
            vec![("agent_sre.policy_check.compliant", Some(f64::from(u8::from(*compliant))))]
        }
        _ => Vec::new(),
    };
    (tags, values)
}
