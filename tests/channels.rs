//! The conformance suite of the channels: each is run against a loopback server that fails as networks and vendors do, and
//! each request is checked against the vendor's published contract or a schema written from its documentation.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};
use sre_alerts::{
    AlertManager, AlertOptions, AlertmanagerChannel, CallbackChannel, ChannelConfig, FileChannel, ManagerError,
    OpsgenieChannel, PagerDutyChannel, SlackChannel, TeamsChannel, WebhookChannel,
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
/// Part of every URL and key; no output may contain it.
const SECRET: &str = "s3cr3t0123456789abcdef0123456789";
const SIGNING: &str = "whsec_czNjcjN0MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";

/// A channel that uses HTTP, and the schema of its requests.
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

/// A part of a contract, with references to the rest of it.
fn within(name: &str, part: &str) -> Value {
    let mut document = file(name);
    document["$ref"] = part.into();
    document
}

fn validator(schema: &Value) -> Validator {
    let draft = if schema["$schema"].is_string() { Draft::Draft202012 } else { Draft::Draft7 };
    jsonschema::options().with_draft(draft).should_validate_formats(true).build(schema).unwrap()
}

/// Returns the answers in turn, then the last one for ever.
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

struct Setup {
    manager: AlertManager,
    clock: Arc<ManualClock>,
    store: Arc<SqliteAlertStore>,
}

impl Setup {
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

    async fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.manager.deliver_due().await;
    }

    /// The state, attempts, status and error of the newest alert's delivery.
    fn outcome(&self) -> (DeliveryState, u32, Option<u16>, String) {
        let records = self.store.query(&AlertQuery::default()).unwrap();
        let delivery = &records[0].deliveries[0];
        (delivery.state, delivery.attempts, delivery.status, delivery.error.clone().unwrap_or_default())
    }

    /// Everything that may be printed about the manager and its alerts.
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

/// An alert with longer and stranger texts than any vendor accepts.
fn oversized(severity: Severity) -> Alert {
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

#[test]
fn a_manager_without_an_http_client_refuses_every_channel_that_needs_one() {
    for row in &ROWS {
        let manager = AlertManager::without_thread(AlertOptions::default());
        let channels = vec![((row.make)("http://127.0.0.1:9"), ChannelConfig::default())];
        let error = manager.add_channels(channels).unwrap_err();
        assert!(matches!(&error, ManagerError::NoHttpClient(name) if name == row.name), "{}: {error}", row.name);
        assert!(!error.to_string().contains(SECRET), "{}", row.name);
    }
}

#[tokio::test]
async fn every_request_fits_the_vendors_contract() {
    for row in &ROWS {
        let folder = tempfile::tempdir().unwrap();
        let server = server(vec![answer(202)]).await;
        let setup = Setup::new((row.make)(&server.uri()), folder.path());
        for make in [alert, oversized, |severity| Alert { severity, ..Alert::new("", "") }] {
            for severity in [Severity::Warning, Severity::Critical, Severity::Resolved] {
                let alert = make(severity);
                let sent = setup.manager.send(&alert);
                assert_eq!(sent.receivers().count(), 1, "{}: {sent:?}", row.name);
                if severity == Severity::Critical {
                    assert!(setup.manager.acknowledge(&alert.key(), "ann").unwrap());
                }
            }
        }
        setup.advance(0).await;
        assert_eq!(setup.outcome(), (DeliveryState::Delivered, 1, Some(202), String::new()), "{}", row.name);
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
async fn an_unreachable_server_is_retried_and_given_up_with_a_record() {
    for row in &ROWS {
        let folder = tempfile::tempdir().unwrap();
        // A free port, where nothing listens.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let setup = Setup::new((row.make)(&format!("http://{free}")), folder.path());
        setup.manager.send(&alert(Severity::Critical));
        setup.advance(0).await;
        assert_eq!(setup.outcome().0, DeliveryState::Pending, "{}", row.name);
        setup.advance(300).await;
        setup.advance(300).await;
        let (state, attempts, status, error) = setup.outcome();
        assert_eq!((state, attempts, status), (DeliveryState::Failed, 3, None), "{}: {error}", row.name);
        assert!(error.contains(&format!("cannot reach {free}")), "{}: {error}", row.name);
        assert!(!setup.printed().contains(SECRET), "{}", row.name);
    }
}

#[tokio::test]
async fn too_many_requests_waits_for_retry_after() {
    for row in &ROWS {
        let folder = tempfile::tempdir().unwrap();
        let server = server(vec![answer(429).insert_header("retry-after", "77"), answer(200)]).await;
        let setup = Setup::new((row.make)(&server.uri()), folder.path());
        setup.manager.send(&alert(Severity::Critical));
        setup.advance(0).await;
        setup.advance(76).await;
        assert_eq!(server.received_requests().await.unwrap().len(), 1, "{}", row.name);
        setup.advance(1).await;
        assert_eq!(setup.outcome(), (DeliveryState::Delivered, 2, Some(200), String::new()), "{}", row.name);
    }
}

#[tokio::test]
async fn a_server_error_is_retried_with_the_same_message() {
    for row in &ROWS {
        let folder = tempfile::tempdir().unwrap();
        let server = server(vec![answer(500), answer(503), answer(200)]).await;
        let setup = Setup::new((row.make)(&server.uri()), folder.path());
        setup.manager.send(&alert(Severity::Critical));
        for _ in 0..3 {
            setup.advance(300).await;
        }
        assert_eq!(setup.outcome(), (DeliveryState::Delivered, 3, Some(200), String::new()), "{}", row.name);
        let requests = server.received_requests().await.unwrap();
        let ids: Vec<_> = requests.iter().map(|request| request.headers.get("webhook-id")).collect();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{}: {ids:?}", row.name);
    }
}

#[tokio::test]
async fn a_rejected_alert_is_not_retried_and_no_secret_is_recorded() {
    for row in &ROWS {
        let folder = tempfile::tempdir().unwrap();
        let echo = format!(
            "invalid key {SECRET} in /services/{SECRET}, /workflows/{SECRET}?sig={SECRET}: {}",
            "x".repeat(500)
        );
        let server = server(vec![answer(400).set_body_string(echo), answer(200)]).await;
        let setup = Setup::new((row.make)(&server.uri()), folder.path());
        setup.manager.send(&alert(Severity::Critical));
        setup.advance(0).await;
        setup.advance(3_600).await;
        assert_eq!(server.received_requests().await.unwrap().len(), 1, "{}", row.name);
        let (state, attempts, status, error) = setup.outcome();
        assert_eq!((state, attempts, status), (DeliveryState::Failed, 1, Some(400)), "{}", row.name);
        assert!(error.starts_with("answered 400: invalid key") && error.chars().count() < 260, "{}: {error}", row.name);
        assert!(!setup.printed().contains(SECRET), "{}: {}", row.name, setup.printed());
        assert_eq!(setup.manager.stats().channels[0].failed, 1);
    }
}

#[tokio::test]
async fn a_slow_answer_times_out_and_a_huge_one_is_accepted() {
    for row in &ROWS {
        let folder = tempfile::tempdir().unwrap();
        let huge = answer(200).set_body_bytes(vec![b'x'; 8 << 20]);
        let server = server(vec![answer(200).set_delay(Duration::from_secs(4)), huge]).await;
        let setup = Setup::new((row.make)(&server.uri()), folder.path());
        setup.manager.send(&alert(Severity::Critical));
        setup.advance(0).await;
        assert!(setup.manager.stats().channels[0].last_error.starts_with("no response from"), "{}", row.name);
        setup.advance(300).await;
        assert_eq!(setup.outcome(), (DeliveryState::Delivered, 2, Some(200), String::new()), "{}", row.name);
    }
}

#[tokio::test]
async fn undelivered_alerts_are_delivered_in_order_by_the_next_run() {
    for row in &ROWS {
        let folder = tempfile::tempdir().unwrap();
        let server = server(vec![answer(503)]).await;
        let options = || AlertOptions { queue_limit: 2, ..AlertOptions::default() };
        let setup = Setup::with((row.make)(&server.uri()), folder.path(), options());
        let keyed = |number: usize, severity| Alert { dedup_key: format!("key-{number}"), ..alert(severity) };
        for number in 0..5 {
            setup.manager.send(&keyed(number, Severity::Critical));
        }
        setup.manager.send(&keyed(4, Severity::Resolved));
        setup.advance(0).await;
        assert_eq!(setup.manager.stats().channels[0].delivered, 0, "{}", row.name);
        setup.manager.shutdown(Duration::ZERO);
        drop(setup.store);

        server.reset().await;
        Mock::given(any()).respond_with(answer(200)).mount(&server).await;
        let setup = Setup::with((row.make)(&server.uri()), folder.path(), options());
        setup.advance(0).await;
        setup.advance(0).await;
        let records: Vec<AlertRecord> = setup.store.query(&AlertQuery::default()).unwrap();
        assert_eq!(records.len(), 6);
        for record in &records {
            assert_eq!(record.deliveries[0].state, DeliveryState::Delivered, "{}: {record:?}", row.name);
        }
        assert_eq!(server.received_requests().await.unwrap().len(), 6, "{}", row.name);
        // An incident of the earlier run is still open, so its resolution is sent.
        assert_eq!(setup.manager.send(&keyed(0, Severity::Resolved)).receivers().count(), 1, "{}", row.name);
    }
}

#[tokio::test]
async fn a_webhook_is_signed_as_standard_webhooks_verifies_it() {
    let server = server(vec![answer(200)]).await;
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new((ROWS[5].make)(&server.uri()), folder.path());
    // The verifier compares with the real time.
    let now = sre_core::Clock::now(&sre_core::SystemClock);
    setup.clock.set(now);
    setup.manager.send(&alert(Severity::Critical));
    setup.advance(0).await;
    let request = server.received_requests().await.unwrap().remove(0);
    let verifier = standardwebhooks::Webhook::new(SIGNING).unwrap();
    verifier.verify(&request.body, &request.headers).unwrap();
    let mut forged = request.body.clone();
    forged[10] ^= 1;
    assert!(verifier.verify(&forged, &request.headers).is_err());
}

#[tokio::test]
async fn opsgenie_alerts_are_identified_by_alias() {
    let server = server(vec![answer(202)]).await;
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new((ROWS[2].make)(&server.uri()), folder.path());
    let keyed = |severity| Alert { dedup_key: "slo/answers of ännchen".into(), ..alert(severity) };
    setup.manager.send(&keyed(Severity::Critical));
    setup.manager.acknowledge("slo/answers of ännchen", "ann").unwrap();
    setup.manager.send(&keyed(Severity::Resolved));
    setup.advance(0).await;
    let requests = server.received_requests().await.unwrap();
    let paths: Vec<&str> = requests.iter().map(|request| request.url.path()).collect();
    let alias = "/v2/alerts/slo%2Fanswers%20of%20%C3%A4nnchen";
    assert_eq!(paths, ["/v2/alerts", &format!("{alias}/acknowledge"), &format!("{alias}/close")]);
    assert!(requests[2].url.query().unwrap().contains("identifierType=alias"));
    assert_eq!(requests[0].headers["authorization"], format!("GenieKey {SECRET}"));
}

#[tokio::test]
async fn a_file_gets_a_line_per_alert_and_a_failed_write_is_retried() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later/alerts.jsonl");
    let setup = Setup::new(Arc::new(FileChannel::new("file", &path)), folder.path());
    setup.manager.send(&alert(Severity::Critical));
    setup.advance(0).await;
    assert!(setup.manager.stats().channels[0].last_error.contains("alerts.jsonl"));
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    setup.manager.send(&Alert { message: "two\nlines".into(), ..alert(Severity::Resolved) });
    setup.advance(300).await;
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
    let setup = Setup::new(Arc::new(callback), folder.path());
    for severity in [Severity::Critical, Severity::Resolved] {
        setup.manager.send(&alert(severity));
    }
    setup.advance(0).await;
    assert_eq!(*got.lock().unwrap(), [Severity::Critical, Severity::Resolved]);
}
