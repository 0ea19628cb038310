//! What Helicone's own client sent for a small run, beside what this crate sends for the same. Recorded between the client and a
//! server, see `tests/contracts/clients/helicone.json`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sre_core::{AgentEvent, ExportBatch, Exporter, Resource, Secret, Timestamp};
use sre_exporter_helicone::{
    Caching, CallContext, HeliconeExporter, HeliconeHeaders, HeliconeSettings, RateLimitPolicy, RateLimitSegment,
    Retries,
};
use sre_testkit::clients;
use sre_testkit::conformance::client;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

const EVENTS: [&str; 3] = [
    r#"{"event":"evaluation","time":1790000002,"agent":"support","task":"t","metric":"relevance","score":0.75,"attributes":{"helicone_id":"123e4567-e89b-12d3-a456-426614174000"}}"#,
    r#"{"event":"task_finished","time":1790000003,"agent":"support","task":"t","success":true,"attributes":{"helicone_id":"123e4567-e89b-12d3-a456-426614174000"}}"#,
    r#"{"event":"evaluation","time":1790000004,"agent":"support","task":"t","metric":"feedback","passed":true,"attributes":{"helicone_id":"123e4567-e89b-12d3-a456-426614174000"}}"#,
];

/// Headers that the client has no setting for.
const MORE: [&str; 3] = ["helicone-session-id", "helicone-session-name", "helicone-session-path"];

/// The address to which the client's proxy class posts feedback. Its API class has the documented one.
const OLD_FEEDBACK: &str = "/v1/feedback";

#[test]
fn a_model_call_has_the_headers_of_helicones_own_client() {
    let call = clients::requests("helicone").swap_remove(0);
    let of_client: BTreeMap<String, String> = serde_json::from_value(call["headers"].clone()).unwrap();
    let helicone = HeliconeHeaders {
        caching: Some(Caching::default()),
        retries: Some(Retries {
            number: Some(3),
            factor: Some(2.0),
            min_timeout: Some(Duration::from_secs(1)),
            max_timeout: Some(Duration::from_secs(10)),
        }),
        rate_limit: Some(RateLimitPolicy {
            segment: RateLimitSegment::User,
            ..RateLimitPolicy::new(10, Duration::from_secs(60))
        }),
        ..HeliconeHeaders::new(Secret::new("test-key"))
    };
    let context = CallContext {
        agent: "support".to_owned(),
        task: Some("t".to_owned()),
        user_id: Some("ann".to_owned()),
        ..CallContext::default()
    };
    let headers = helicone.headers(&context).unwrap();
    let ours: BTreeMap<&str, &str> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let theirs: BTreeMap<&str, &str> = of_client
        .iter()
        .filter(|(name, _)| name.starts_with("helicone-"))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(theirs.len(), 11, "{theirs:?}");
    assert_eq!(ours.keys().filter(|name| !theirs.contains_key(*name)).copied().collect::<Vec<_>>(), MORE);
    for (name, value) in theirs {
        assert_eq!(ours.get(name), Some(&value), "{name}");
    }
}

#[tokio::test]
async fn scores_and_feedback_are_the_requests_of_helicones_own_client() {
    let recorded = clients::requests("helicone");
    let results: Vec<&Value> =
        recorded[1..].iter().filter(|request| request["path"].as_str() != Some(OLD_FEEDBACK)).collect();
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let settings = HeliconeSettings { url: server.uri(), ..HeliconeSettings::new(Secret::new("test-key")) };
    let exporter = HeliconeExporter::new(settings).unwrap();
    let events = EVENTS.map(|line| Arc::new(AgentEvent::from_json(line.as_bytes()).unwrap()));
    let resource = Resource::new("support");
    let batch = ExportBatch::new(Timestamp::from_secs(1_790_000_100), &resource).with_events(&events);
    assert_eq!(exporter.export(&batch, &*client()).await.unwrap().accepted, 3);
    let ours = server.received_requests().await.unwrap();
    assert_eq!((ours.len(), results.len()), (2, 2));
    for (ours, theirs) in ours.iter().zip(&results) {
        assert_eq!((ours.method.as_str(), ours.url.path()), ("POST", theirs["path"].as_str().unwrap()));
        for header in ["authorization", "content-type"] {
            assert_eq!(ours.headers[header].to_str().unwrap(), theirs["headers"][header], "{header}");
        }
        assert_eq!(ours.body_json::<Value>().unwrap(), theirs["body"]);
    }
    let wire_len = results.into_iter().map(clients::wire_len).sum();
    clients::assert_wire_len(ours.iter().map(|request| request.body.len()).sum(), wire_len);
}
