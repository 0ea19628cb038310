use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use sre_core::event::{
    Evaluation, Handoff, HttpRequest, LlmCall, Message, PolicyCheck, StepFinished, TaskFinished, ToolCall,
};
use sre_core::{AgentEvent, Event, EventSpan, ExportBatch, Usd};

use crate::attribute::{self, Attributes};
use crate::metrics::unix_nanos;

/// Returns the request for a batch's events, and its number of spans.
pub(crate) fn request(batch: &ExportBatch<'_>) -> (ExportTraceServiceRequest, usize) {
    let spans: Vec<Span> = batch.events.iter().filter_map(|event| span(event)).collect();
    let count = spans.len();
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(attribute::resource(batch.resource)),
            scope_spans: vec![ScopeSpans { scope: Some(attribute::scope()), spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    };
    (request, count)
}

fn span(event: &AgentEvent) -> Option<Span> {
    let place = EventSpan::of(event)?;
    let mut attributes = Attributes::default();
    attributes.text("gen_ai.agent.name", &event.agent);
    attributes.some_text("sre.task", event.task.as_deref());
    let (name, kind) = describe(event, &mut attributes);
    event.attributes.iter().for_each(|(key, value)| attributes.json(key, value));
    let status = (place.outcome == Some(false)).then(|| {
        // The conventional value for an error of unknown type.
        attributes.text("error.type", "_OTHER");
        Status { message: place.error.unwrap_or_default().to_owned(), code: StatusCode::Error.into() }
    });
    Some(Span {
        trace_id: place.trace_id.to_bytes().to_vec(),
        span_id: place.span_id.to_bytes().to_vec(),
        parent_span_id: place.parent_span_id.map(|id| id.to_bytes().to_vec()).unwrap_or_default(),
        name,
        kind: kind.into(),
        start_time_unix_nano: unix_nanos(place.start),
        end_time_unix_nano: unix_nanos(place.end),
        attributes: attributes.0,
        status,
        ..Span::default()
    })
}

/// Adds the attributes of an event, and returns the span's name and kind.
///
/// Source: OpenTelemetry's semantic conventions for generative AI.
fn describe(event: &AgentEvent, attributes: &mut Attributes) -> (String, SpanKind) {
    match &event.event {
        Event::TaskFinished(TaskFinished { cost_usd, .. }) => {
            attributes.text("gen_ai.operation.name", "invoke_agent");
            attributes.double("gen_ai.usage.cost", cost_usd.map(Usd::as_dollars));
            (format!("invoke_agent {}", event.agent), SpanKind::Internal)
        }
        Event::StepFinished(StepFinished { name, kind, .. }) => {
            attributes.text("sre.step.kind", kind);
            (name.clone(), SpanKind::Internal)
        }
        Event::LlmCall(LlmCall {
            model,
            provider,
            input_tokens,
            cached_input_tokens,
            output_tokens,
            cost_usd,
            first_token_ms,
            attempt,
            ..
        }) => {
            attributes.text("gen_ai.operation.name", "chat");
            attempt.iter().for_each(|attempt| attributes.int("sre.attempt", u64::from(*attempt)));
            attributes.some_text("gen_ai.request.model", model.as_deref());
            attributes.some_text("gen_ai.response.model", model.as_deref());
            attributes.some_text("gen_ai.provider.name", provider.as_deref());
            attributes.int("gen_ai.usage.input_tokens", *input_tokens);
            attributes.int("gen_ai.usage.cache_read.input_tokens", *cached_input_tokens);
            attributes.int("gen_ai.usage.output_tokens", *output_tokens);
            attributes.double("gen_ai.usage.cost", cost_usd.map(Usd::as_dollars));
            attributes.double("gen_ai.response.time_to_first_chunk", first_token_ms.map(|ms| ms / 1e3));
            (named("chat", model.as_deref()), SpanKind::Client)
        }
        Event::ToolCall(ToolCall { tool, arguments_hash, correct, .. }) => {
            attributes.text("gen_ai.operation.name", "execute_tool");
            attributes.text("gen_ai.tool.name", tool);
            attributes.some_text("sre.tool.arguments_hash", arguments_hash.as_deref());
            attributes.bool("sre.tool.correct", *correct);
            (named("execute_tool", Some(tool)), SpanKind::Internal)
        }
        Event::Handoff(Handoff { from, to, depth, .. }) => {
            attributes.text("sre.handoff.from", from);
            attributes.text("sre.handoff.to", to);
            attributes.int("sre.handoff.depth", u64::from(*depth));
            (named("handoff", Some(to)), SpanKind::Internal)
        }
        Event::Message(Message { sender, .. }) => {
            attributes.text("sre.message.sender", sender);
            ("message".to_owned(), SpanKind::Internal)
        }
        Event::PolicyCheck(PolicyCheck { policy, compliant, .. }) => {
            attributes.text("sre.policy.name", policy);
            attributes.bool("sre.policy.compliant", Some(*compliant));
            (named("policy_check", Some(policy)), SpanKind::Internal)
        }
        Event::Evaluation(Evaluation { metric, score, confidence, .. }) => {
            attributes.text("gen_ai.evaluation.name", metric);
            attributes.double("gen_ai.evaluation.score.value", *score);
            let label = event.event.outcome().map(|passed| if passed { "pass" } else { "fail" });
            attributes.some_text("gen_ai.evaluation.score.label", label);
            attributes.double("sre.evaluation.confidence", *confidence);
            (named("evaluation", Some(metric)), SpanKind::Internal)
        }
        Event::HttpRequest(HttpRequest { url, status_code, .. }) => {
            attributes.text("url.full", without_secrets(url));
            status_code.iter().for_each(|code| attributes.int("http.response.status_code", u64::from(*code)));
            ("HTTP".to_owned(), SpanKind::Client)
        }
        other => (other.kind().to_string(), SpanKind::Internal),
    }
}

fn named(what: &str, name: Option<&str>) -> String {
    name.map_or_else(|| what.to_owned(), |name| format!("{what} {name}"))
}

/// Removes user, password, query and fragment from a URL, because they may hold a key.
fn without_secrets(url: &str) -> &str {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    match url[host..].split('/').next().and_then(|authority| authority.rfind('@')) {
        Some(user) => &url[host + user + 1..],
        None => url,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_published_without_user_and_query() {
        for (url, expected) in [
            ("https://user:key@example.com/a/b?token=1#x", "example.com/a/b"),
            ("https://example.com/a@b", "https://example.com/a@b"),
            ("example.com?key=1", "example.com"),
            ("", ""),
        ] {
            assert_eq!(without_secrets(url), expected);
        }
    }
}
