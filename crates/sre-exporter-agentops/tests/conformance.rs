//! The conformance suite of exporters.

use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};
use sre_core::{Exporter, Secret};
use sre_exporter_agentops::{AgentOpsExporter, AgentOpsSettings};
use sre_testkit::conformance::{self, Arrived, ArrivedSpan, Backend, SECRET, Usage};
use sre_testkit::otlp;
use wiremock::{Request, ResponseTemplate};

struct AgentOps;

impl Backend for AgentOps {
    fn exporter(&self, url: &str, secret: &str) -> Arc<dyn Exporter> {
        let settings = AgentOpsSettings::new(Secret::new(secret));
        let (url, otlp_url) = (url.to_owned(), url.to_owned());
        let settings = AgentOpsSettings { url, otlp_url, tags: vec!["suite".to_owned()], ..settings };
        Arc::new(AgentOpsExporter::new(settings).unwrap())
    }

    fn success(&self, request: &Request) -> ResponseTemplate {
        let answer = ResponseTemplate::new(200);
        if is_token(request) {
            return answer.set_body_json(json!({"token": format!("jwt-for-{SECRET}"), "project_id": "p-1"}));
        }
        answer
    }

    fn refuses_one(&self, request: &Request) -> Option<ResponseTemplate> {
        (!is_token(request)).then(otlp::rejects_one)
    }

    fn check(&self, request: &Request) {
        assert_eq!(request.method.as_str(), "POST");
        if is_token(request) {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            assert_eq!(body, json!({"api_key": SECRET}), "as the vendor's client");
            assert!(!request.headers.contains_key("authorization"));
            return;
        }
        assert_eq!(request.url.path(), "/v1/traces");
        assert_eq!(request.headers["authorization"], format!("Bearer jwt-for-{SECRET}"));
        assert!(!String::from_utf8_lossy(&otlp::body(request)).contains(SECRET), "a secret in a body");
        for span in otlp::spans(request) {
            let kind = otlp::attribute(&span.attributes, "agentops.span.kind").unwrap();
            let operation = otlp::attribute(&span.attributes, "operation.name").unwrap();
            assert!(span.name.ends_with(&format!("{}.{}", operation.as_str().unwrap(), kind.as_str().unwrap())));
        }
    }

    fn read(&self, request: &Request) -> Arrived {
        let mut arrived = Arrived::default();
        if is_token(request) {
            return arrived;
        }
        for read in otlp::spans(request) {
            match otlp::attribute(&read.attributes, "trace.metadata.slo.answers.budget_remaining") {
                Some(remaining) => arrived.metrics.push(("answers".to_owned(), remaining.as_f64().unwrap())),
                None => arrived.spans.push(span(&read)),
            }
        }
        arrived
    }

    fn is_lookup(&self, request: &Request) -> bool {
        is_token(request)
    }
}

fn is_token(request: &Request) -> bool {
    request.url.path() == "/v3/auth/token"
}

fn span(span: &Span) -> ArrivedSpan {
    let attribute = |key: &str| otlp::attribute(&span.attributes, key);
    let usage = attribute("gen_ai.usage.prompt_tokens").map(|prompt| {
        let tokens = |key: &str| attribute(&format!("gen_ai.usage.{key}_tokens")).unwrap().as_i64().unwrap();
        let cost = attribute("gen_ai.usage.total_cost");
        Usage {
            input_tokens: prompt.as_i64().unwrap() + tokens("cache_read_input"),
            cached_input_tokens: tokens("cache_read_input"),
            output_tokens: tokens("completion"),
            cost_usd: cost.map(|cost| cost.as_str().unwrap().parse().unwrap()),
        }
    });
    let arrived = ArrivedSpan { usage, ..ArrivedSpan::from_otlp(span) };
    assert_eq!(attribute("error.type").is_some(), arrived.is_error, "error and status agree");
    if let Some(end_state) = attribute("agentops.session.end_state") {
        assert_eq!(end_state, if arrived.is_error { "Fail" } else { "Success" });
    }
    arrived
}

#[tokio::test]
async fn agentops_conforms() {
    conformance::exporter(AgentOps).await;
}
