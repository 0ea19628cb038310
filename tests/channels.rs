//! The conformance suite of the channels: each against a server on loopback that behaves as networks and vendors do, and
//! each request against the vendor's published contract, or a schema written from its documentation.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};
use sre_alerts::{
    AlertManager, AlertOptions, AlertmanagerChannel, CallbackChannel, ChannelConfig, FileChannel, OpsgenieChannel,
    PagerDutyChannel, SlackChannel, TeamsChannel, WebhookChannel,
};
use sre_core::{
    Alert, AlertChannel, AlertQuery, AlertRecord, AlertStore, DeliveryState, ManualClock, RetryPolicy, Secret,
    Severity, Timestamp,
};
use sre_http::Client;
use sre_store_sqlite::SqliteAlertStore;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

const START: Timestamp = Timestamp::from_secs(1_790_000_000);
/// In every URL and key: nothing that is printed may contain it.
const SECRET: &str = "s3cr3t0123456789abcdef0123456789";
const SIGNING: &str = "whsec_czNjcjN0MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";

/// A channel that speaks HTTP, and what its requests must be like.
struct Row {
    name: &'static str,
    make: fn(&str) -> Arc<dyn AlertChannel>,
    /// The schema of a request, by its path and body.
    schema: fn(&Request) -> Value,
}

const ROWS: [Row; 6] = [
    Row {
        name: "slack",
        make: |url| Arc::new(SlackChannel::new("slack", Secret::new(format!("{url}/services/{SECRET}")))),
        schema: |_| file("slack.schema.json"),
    },
    Row {
        name: "pagerduty",
        make: |url| {
            let channel = PagerDutyChannel::new("pagerduty", Secret::new(SECRET));
            Arc::new(channel.with_url(Secret::new(format!("{url}/v2/enqueue"))))
        },
        schema: |_| {
            let path = "#/paths/~1enqueue/post/requestBody/content/application~1json/schema";
            within("pagerduty.events-v2.json", path)
        },
    },
    Row {
        name: "opsgenie",
        make: |url| Arc::new(OpsgenieChannel::new("opsgenie", Secret::new(SECRET)).with_url(url)),
        schema: |request| {
            let creates = request.url.path() == "/v2/alerts";
            within("opsgenie.schema.json", if creates { "#/$defs/create" } else { "#/$defs/action" })
        },
    },
    Row {
        name: "teams",
        make: |url| Arc::new(TeamsChannel::new("teams", Secret::new(format!("{url}/workflows/{SECRET}?sig={SECRET}")))),
        schema: |_| file("teams.schema.json"),
    },
    Row {
        name: "alertmanager",
        make: |url| {
            let url = url.replace("http://", &format!("http://user:{SECRET}@"));
            Arc::new(AlertmanagerChannel::new("alertmanager", Secret::new(url)))
        },
        schema: |_| within("alertmanager.v2.json", "#/definitions/postableAlerts"),
    },
    Row {
        name: "webhook",
        make: |url| {
            let channel = WebhookChannel::new("webhook", Secret::new(format!("{url}/hook/{SECRET}")));
            Arc::new(channel.with_secret(&Secret::new(SIGNING)).unwrap())
        },
        schema: |_| file("webhook.schema.json"),
    },
];

fn file(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A part of a contract, whose references lead into the rest of it.
fn within(name: &str, part: &str) -> Value {
    let mut document = file(name);
    document["$ref"] = part.into();
    document
}

fn validator(schema: &Value) -> Validator {
    let draft = if schema["$schema"].is_string() { Draft::Draft202012 } else { Draft::Draft7 };
    jsonschema::options().with_draft(draft).should_validate_formats(true).build(schema).unwrap()
}

/// Answers with each of the statuses in turn, then with the last for ever.
struct InTurn(Vec<ResponseTemplate>, AtomicUsize);

impl Respond for InTurn {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let at = self.1.fetch_add(1, Ordering::SeqCst);
        self.0[at.min(self.0.len() - 1)].clone()
    }
}

async fn server(answers: Vec<ResponseTemplate>) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(InTurn(answers, AtomicUsize::new(0))).mount(&server).await;
    server
}

fn answer(status: u16) -> ResponseTemplate {
    ResponseTemplate::new(status)
}

struct Rig {
    manager: AlertManager,
    clock: Arc<ManualClock>,
    store: Arc<SqliteAlertStore>,
}

impl Rig {
    fn new(channel: Arc<dyn AlertChannel>, folder: &Path) -> Self {
        Self::with(channel, folder, AlertOptions::default())
    }

    fn with(channel: Arc<dyn AlertChannel>, folder: &Path, options: AlertOptions) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let store = Arc::new(SqliteAlertStore::open(folder.join("alerts.db")).unwrap());
        let limits = sre_http::Options { timeout: Duration::from_secs(1), ..Default::default() };
        let options = AlertOptions {
            clock: clock.clone(),
            store: Some(store.clone()),
            http: Arc::new(Client::new(limits).unwrap()),
            retry: RetryPolicy { attempts: 3, ..RetryPolicy::default() },
            ..options
        };
        let manager = AlertManager::without_thread(options);
        manager.add_channels(vec![(channel, ChannelConfig::default())]).unwrap();
        Self { manager, clock, store }
    }

    async fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.manager.deliver_due().await;
    }

    /// How the delivery of the newest alert went: its state, attempts, status and error.
    fn outcome(&self) -> (DeliveryState, u32, Option<u16>, String) {
        let records = self.store.query(&AlertQuery::default()).unwrap();
        let delivery = &records[0].deliveries[0];
        (delivery.state, delivery.attempts, delivery.status, delivery.error.clone().unwrap_or_default())
    }

    /// Everything about it that anybody could print.
    fn printed(&self) -> String {
        let records = self.store.query(&AlertQuery::default()).unwrap();
        format!("{:?} {:?} {records:?} {}", self.manager, self.manager.stats(), json!(records))
    }
}

fn alert(severity: Severity) -> Alert {
    let mut alert = Alert {
        severity,
        agent_id: "support".into(),
        slo_name: "answers".into(),
        ..Alert::new("answers of support: critical", "It burns <fast> & \"long\".")
    };
    alert.labels.insert("team".into(), "search".into());
    alert.metadata.insert("build".into(), "7f3a".into());
    alert.links.insert("runbook".into(), "https://example.com/runbook?a=1&b=2".into());
    alert
}

/// Longer and stranger than any vendor takes.
fn monster(severity: Severity) -> Alert {
    let long = "🔥 naïve <tag> & \u{0} \u{202E} \"quoted\" \\ \n".repeat(1_000);
    let key = |number: usize| format!("{number} {}", &long[..400]);
    Alert {
        severity,
        message: long.clone(),
        agent_id: long.clone(),
        slo_name: long.clone(),
        source: long.clone(),
        dedup_key: long.clone(),
        labels: (0..80).map(|number| (key(number), long.clone())).collect(),
        metadata: (0..80).map(|number| (key(number), long.clone())).collect(),
        links: (0..80).map(|number| (key(number), format!("https://example.com/{number}"))).collect(),
        ..Alert::new(long.clone(), "")
    }
}

#[tokio::test]
async fn every_request_fits_the_vendors_contract() {
    for row in &ROWS {
        let folder = tempfile::tempdir().unwrap();
        let server = server(vec![answer(202)]).await;
        let rig = Rig::new((row.make)(&server.uri()), folder.path());
        for make in [alert, monster, |severity| Alert { severity, ..Alert::new("", "") }] {
            for severity in [Severity::Warning, Severity::Critical, Severity::Resolved] {
                let alert = make(severity);
                let sent = rig.manager.send(&alert);
                assert_eq!(sent.receivers().count(), 1, "{}: {sent:?}", row.name);
                if severity == Severity::Critical {
                    assert!(rig.manager.acknowledge(&alert.key(), "ann").unwrap());
                }
            }
        }
        rig.pass(0).await;
        assert_eq!(rig.outcome(), (DeliveryState::Delivered, 1, Some(202), String::new()), "{}", row.name);
        let requests = server.received_requests().await.unwrap();
        assert!(requests.len() >= 9, "{}: {} requests", row.name, requests.len());
        for request in &requests {
            assert_eq!(request.method.as_str(), "POST");
            assert_eq!(request.headers["content-type"], "application/json");
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let validator = validator(&(row.schema)(request));
            let errors: Vec<String> = validator
                .iter_errors(&body)
                .map(|error| format!("{} at {}", error.kind().keyword(), error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{}: {errors:?}", row.name);
            let most = match row.name {
                "teams" => 28_000,
                "pagerduty" => 512 * 1024,
                _ => 4 << 20,
            };
            assert!(request.body.len() <= most, "{}: {} bytes", row.name, request.body.len());
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again_and_given_up_on_record() {
    for row in &ROWS {
        let folder = tempfile::tempdir().unwrap();
        // Free a moment ago, and nobody listens.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let rig = Rig::new((row.make)(&format!("http://{free}")), folder.path());
        rig.manager.send(&alert(Severity::Critical));
        rig.pass(0).await;
        assert_eq!(rig.outcome().0, DeliveryState::Pending, "{}", row.name);
        rig.pass(300).await;
        rig.pass(300).await;
        let (state, attempts, status, error) = rig.outcome();
        assert_eq!((state, attempts, status), (DeliveryState::Failed, 3, None), "{}: {error}", row.name);
        assert!(error.contains(&format!("cannot reach {free}")), "{}: {error}", row.name);
        assert!(!rig.printed().contains(SECRET), "{}", row.name);
    }
}

#[tokio::test]
async fn too_many_requests_waits_as_long_as_it_was_told() {
    for row in &ROWS {
        let folder = tempfile::tempdir().unwrap();
        let server = server(vec![answer(429).insert_header("retry-after", "77"), answer(200)]).await;
        let rig = Rig::new((row.make)(&server.uri()), folder.path());
        rig.manager.send(&alert(Severity::Critical));
        rig.pass(0).await;
        rig.pass(76).await;
        assert_eq!(server.received_requests().await.unwrap().len(), 1, "{}", row.name);
        rig.pass(1).await;
        assert_eq!(rig.outcome(), (DeliveryState::Delivered, 2, Some(200), String::new()), "{}", row.name);
    }
}

#[tokio::test]
async fn an_error_of_the_server_is_tried_again_with_the_same_message() {
    for row in &ROWS {
        let folder = tempfile::tempdir().unwrap();
        let server = server(vec![answer(500), answer(503), answer(200)]).await;
        let rig = Rig::new((row.make)(&server.uri()), folder.path());
        rig.manager.send(&alert(Severity::Critical));
        for _ in 0..3 {
            rig.pass(300).await;
        }
        assert_eq!(rig.outcome(), (DeliveryState::Delivered, 3, Some(200), String::new()), "{}", row.name);
        let requests = server.received_requests().await.unwrap();
        let ids: Vec<_> = requests.iter().map(|request| request.headers.get("webhook-id")).collect();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{}: {ids:?}", row.name);
    }
}

#[tokio::test]
async fn what_the_vendor_refuses_is_not_tried_again_and_no_secret_is_recorded() {
    for row in &ROWS {
        let folder = tempfile::tempdir().unwrap();
        let echo = format!(
            "invalid key {SECRET} in /services/{SECRET}, /workflows/{SECRET}?sig={SECRET}: {}",
            "x".repeat(500)
        );
        let server = server(vec![answer(400).set_body_string(echo), answer(200)]).await;
        let rig = Rig::new((row.make)(&server.uri()), folder.path());
        rig.manager.send(&alert(Severity::Critical));
        rig.pass(0).await;
        rig.pass(3_600).await;
        assert_eq!(server.received_requests().await.unwrap().len(), 1, "{}", row.name);
        let (state, attempts, status, error) = rig.outcome();
        assert_eq!((state, attempts, status), (DeliveryState::Failed, 1, Some(400)), "{}", row.name);
        assert!(error.starts_with("answered 400: invalid key") && error.chars().count() < 260, "{}: {error}", row.name);
        assert!(!rig.printed().contains(SECRET), "{}: {}", row.name, rig.printed());
        assert_eq!(rig.manager.stats().channels[0].failed, 1);
    }
}

#[tokio::test]
async fn a_slow_answer_is_no_answer_and_a_huge_one_is_one() {
    for row in &ROWS {
        let folder = tempfile::tempdir().unwrap();
        let huge = answer(200).set_body_bytes(vec![b'x'; 8 << 20]);
        let server = server(vec![answer(200).set_delay(Duration::from_secs(4)), huge]).await;
        let rig = Rig::new((row.make)(&server.uri()), folder.path());
        rig.manager.send(&alert(Severity::Critical));
        rig.pass(0).await;
        assert!(rig.manager.stats().channels[0].last_error.starts_with("no answer from"), "{}", row.name);
        rig.pass(300).await;
        assert_eq!(rig.outcome(), (DeliveryState::Delivered, 2, Some(200), String::new()), "{}", row.name);
    }
}

#[tokio::test]
async fn what_a_shutdown_leaves_is_delivered_by_the_next_run_in_order() {
    for row in &ROWS {
        let folder = tempfile::tempdir().unwrap();
        let server = server(vec![answer(503)]).await;
        let options = || AlertOptions { queue_limit: 2, ..AlertOptions::default() };
        let rig = Rig::with((row.make)(&server.uri()), folder.path(), options());
        let keyed = |number: usize, severity| Alert { dedup_key: format!("key-{number}"), ..alert(severity) };
        for number in 0..5 {
            rig.manager.send(&keyed(number, Severity::Critical));
        }
        rig.manager.send(&keyed(4, Severity::Resolved));
        rig.pass(0).await;
        assert_eq!(rig.manager.stats().channels[0].delivered, 0, "{}", row.name);
        rig.manager.shutdown(Duration::ZERO);
        drop(rig.store);

        server.reset().await;
        Mock::given(any()).respond_with(answer(200)).mount(&server).await;
        let rig = Rig::with((row.make)(&server.uri()), folder.path(), options());
        rig.pass(0).await;
        rig.pass(0).await;
        let records: Vec<AlertRecord> = rig.store.query(&AlertQuery::default()).unwrap();
        assert_eq!(records.len(), 6);
        for record in &records {
            assert_eq!(record.deliveries[0].state, DeliveryState::Delivered, "{}: {record:?}", row.name);
        }
        assert_eq!(server.received_requests().await.unwrap().len(), 6, "{}", row.name);
        // An incident that was open before is known: its end goes out.
        assert_eq!(rig.manager.send(&keyed(0, Severity::Resolved)).receivers().count(), 1, "{}", row.name);
    }
}

#[tokio::test]
async fn a_webhook_is_signed_as_standard_webhooks_verifies_it() {
    let server = server(vec![answer(200)]).await;
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new((ROWS[5].make)(&server.uri()), folder.path());
    // The verifier compares with the real time.
    let now = sre_core::Clock::now(&sre_core::SystemClock);
    rig.clock.set(now);
    rig.manager.send(&alert(Severity::Critical));
    rig.pass(0).await;
    let request = server.received_requests().await.unwrap().remove(0);
    let verifier = standardwebhooks::Webhook::new(SIGNING).unwrap();
    verifier.verify(&request.body, &request.headers).unwrap();
    let mut forged = request.body.clone();
    forged[10] ^= 1;
    assert!(verifier.verify(&forged, &request.headers).is_err());
}

#[tokio::test]
async fn opsgenie_is_told_by_alias_and_alertmanager_by_severity() {
    let server = server(vec![answer(202)]).await;
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new((ROWS[2].make)(&server.uri()), folder.path());
    let keyed = |severity| Alert { dedup_key: "slo/answers of ännchen".into(), ..alert(severity) };
    rig.manager.send(&keyed(Severity::Critical));
    rig.manager.acknowledge("slo/answers of ännchen", "ann").unwrap();
    rig.manager.send(&keyed(Severity::Resolved));
    rig.pass(0).await;
    let requests = server.received_requests().await.unwrap();
    let paths: Vec<&str> = requests.iter().map(|request| request.url.path()).collect();
    let alias = "/v2/alerts/slo%2Fanswers%20of%20%C3%A4nnchen";
    assert_eq!(paths, ["/v2/alerts", &format!("{alias}/acknowledge"), &format!("{alias}/close")]);
    assert!(requests[2].url.query().unwrap().contains("identifierType=alias"));
    assert_eq!(requests[0].headers["authorization"], format!("GenieKey {SECRET}"));
}

#[tokio::test]
async fn a_file_gets_a_line_an_alert_and_one_that_cannot_be_written_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later/alerts.jsonl");
    let rig = Rig::new(Arc::new(FileChannel::new("file", &path)), folder.path());
    rig.manager.send(&alert(Severity::Critical));
    rig.pass(0).await;
    assert!(rig.manager.stats().channels[0].last_error.contains("alerts.jsonl"));
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    rig.manager.send(&Alert { message: "two\nlines".into(), ..alert(Severity::Resolved) });
    rig.pass(300).await;
    let text = std::fs::read_to_string(path).unwrap();
    let alerts: Vec<Alert> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(alerts.iter().map(|alert| alert.severity).collect::<Vec<_>>(), [Severity::Critical, Severity::Resolved]);
}

#[tokio::test]
async fn a_callback_gets_what_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let got = Arc::new(Mutex::new(Vec::new()));
    let into = got.clone();
    let callback = CallbackChannel::new("callback", move |alert| into.lock().unwrap().push(alert.severity));
    let rig = Rig::new(Arc::new(callback), folder.path());
    for severity in [Severity::Critical, Severity::Resolved] {
        rig.manager.send(&alert(severity));
    }
    rig.pass(0).await;
    assert_eq!(*got.lock().unwrap(), [Severity::Critical, Severity::Resolved]);
}
