//! The conformance suite of exporters that push.

mod arrived;
mod data;
mod faults;
mod log;
mod outbox;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sre_core::{AgentEvent, ExportBatch, ExportError, ExportReport, Exporter, HttpClient, Resource};
use sre_http::{Client, Options};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

pub use self::arrived::{Arrived, ArrivedSpan, CALL, Usage};
pub(crate) use self::data::{Data, START};

/// An exporter and its backend, as the suite needs them.
pub trait Backend: Send + Sync + 'static {
    /// Returns the exporter, sending to the server at `url` with `secret` as every secret it has.
    fn exporter(&self, url: &str, secret: &str) -> Arc<dyn Exporter>;

    /// Returns the response of a backend that accepts everything in the request.
    fn success(&self, request: &Request) -> ResponseTemplate;

    /// Returns the response of a backend that rejects one record of the request and accepts the others; `None` if its
    /// protocol has no such response.
    fn refuses_one(&self, _request: &Request) -> Option<ResponseTemplate> {
        None
    }

    /// Panics if a request violates the vendor's contract.
    fn check(&self, _request: &Request) {}

    /// Returns the records that a backend reads from a request.
    fn read(&self, request: &Request) -> Arrived;

    /// Returns false if the exporter does not speak HTTP, and the backend translates between its protocol and the
    /// suite's HTTP server.
    fn is_http(&self) -> bool {
        true
    }

    /// Returns true if the exporter needs the response to this request to send anything, such as that to the look-up of an
    /// id. The suite's unreadable responses do not apply to it: without the id no record can be accepted.
    fn is_lookup(&self, _request: &Request) -> bool {
        false
    }

    /// Returns true if the backend shows tasks that are still running, so that the start of a task is a record too.
    fn shows_running_tasks(&self) -> bool {
        false
    }

    /// Returns the precision of the backend's times.
    fn precision(&self) -> Duration {
        Duration::from_nanos(1)
    }

    /// Returns false if the backend has no spans or scores of single events, but aggregates them. The backend's own tests then
    /// check what arrives of an event.
    fn has_spans(&self) -> bool {
        true
    }

    /// Changes an event of the suite for a backend that accepts only some, such as those with an id of its own.
    fn prepare(&self, _event: &mut AgentEvent) {}
}

/// The value of every secret of an exporter in the suite.
pub const SECRET: &str = "s3cr3t-of-the-suite";

/// Tests an exporter that pushes, against a server on loopback:
///
/// - an empty batch makes no request, and records arrive complete: ids, parents, times, tokens, costs, metrics;
/// - every record of a batch is reported as accepted, ignored, rejected or to be retried, for any response;
/// - faults are distinguished: busy, broken, too large, rejected, unreachable, slow, moved;
/// - no URL, error, log line or `Debug` output contains a secret;
/// - long, non-ASCII and non-finite values cause no error;
/// - with the outbox, every record is counted as sent, ignored, rejected or dropped, and none is lost by faults, by a clock
///   that steps back, by an outage of an hour or by a restart or kill, the last three with a spool in a file. An outage
///   replaces metrics and snapshots only where the backend takes none so old;
/// - `Retry-After` is kept, rejected credentials stop it until it is resumed, and it asks once;
/// - memory and the spool stay within their limits at ten times their load, and a shutdown within its deadline.
///
/// Three cases apply to HTTP only. Other protocols, such as gRPC, have no redirects; no status for a request that arrived
/// too slowly (408); and no success whose response is unreadable, because the client needs to read it to know the status.
///
/// # Panics
/// Panics if the exporter does not conform.
pub async fn exporter(backend: impl Backend) {
    let resource = Resource::new("suite").with("host.name", "höst");
    let suite = Suite { backend: Arc::new(backend), http: client(), resource };
    log::capture();
    suite.an_empty_batch_makes_no_request().await;
    suite.what_is_sent_arrives_whole().await;
    suite.extreme_values_are_no_problem().await;
    suite.one_refused_record_is_counted().await;
    suite.statuses_map_to_error_kinds().await;
    suite.missing_and_malformed_responses_are_classified().await;
    suite.a_redirect_is_not_followed().await;
    outbox::faults_lose_nothing(&suite).await;
    outbox::a_clock_that_steps_back_delays_nothing(&suite).await;
    outbox::retry_after_is_kept(&suite).await;
    outbox::rejected_credentials_stop_it_until_it_is_resumed(&suite).await;
    outbox::an_overload_is_bounded_and_counted(&suite).await;
    outbox::an_outage_of_an_hour_loses_nothing(&suite).await;
    outbox::a_restart_loses_nothing(&suite).await;
    outbox::a_shutdown_counts_what_is_lost(&suite).await;
    outbox::a_shutdown_keeps_its_deadline(&suite).await;
    log::check();
}

struct Suite {
    backend: Arc<dyn Backend>,
    http: Arc<dyn HttpClient>,
    resource: Resource,
}

/// A backend that accepts everything, but rejects one record of the first request to `refuses_at`.
struct Answers {
    backend: Arc<dyn Backend>,
    refuses_at: Option<String>,
    has_refused: AtomicBool,
}

impl Respond for Answers {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let refuses = self.refuses_at.as_deref() == Some(request.url.path());
        if refuses
            && let Some(answer) = self.backend.refuses_one(request)
            && !self.has_refused.swap(true, Ordering::Relaxed)
        {
            return answer;
        }
        self.backend.success(request)
    }
}

/// A backend whose responses to records are all the same, and unreadable.
struct Unreadable {
    backend: Arc<dyn Backend>,
    body: Vec<u8>,
}

impl Respond for Unreadable {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        if self.backend.is_lookup(request) {
            return self.backend.success(request);
        }
        ResponseTemplate::new(200).set_body_bytes(self.body.clone())
    }
}

/// The result of a batch.
struct Exported {
    is_events: bool,
    len: usize,
    result: Result<ExportReport, ExportError>,
}

/// Returns the HTTP client of the suite, for further tests of an exporter. Its time-out is half a second.
///
/// # Panics
/// Panics if no client can be created.
pub fn client() -> Arc<dyn HttpClient> {
    let options = Options { timeout: Duration::from_millis(500), max_response: 10_000, ..Options::default() };
    Arc::new(Client::new(options).expect("an HTTP client"))
}

impl Suite {
    /// Returns the suite's data, prepared for the backend.
    fn small(&self) -> Data {
        self.prepared(Data::small())
    }

    fn prepared(&self, mut data: Data) -> Data {
        data.events.iter_mut().for_each(|event| self.backend.prepare(Arc::make_mut(event)));
        data
    }

    /// Starts a server that gives this response to every request.
    async fn server(&self, answer: impl Respond + 'static) -> MockServer {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(answer).mount(&server).await;
        server
    }

    /// Starts a server that responds as the backend does.
    async fn good_server(&self, refuses_at: Option<String>) -> MockServer {
        self.server(self.answers(refuses_at)).await
    }

    fn answers(&self, refuses_at: Option<String>) -> Answers {
        Answers { backend: self.backend.clone(), refuses_at, has_refused: AtomicBool::new(false) }
    }

    async fn export(&self, url: &str, data: &Data) -> Vec<Exported> {
        let exporter = self.backend.exporter(url, SECRET);
        let debug = format!("{exporter:?}");
        assert!(!debug.contains(SECRET), "a secret in Debug: {debug}");
        let mut exported = Vec::new();
        for batch in data.batches(exporter.wants(), &self.resource) {
            let result = exporter.export(&batch, &*self.http).await;
            match &result {
                Ok(report) => adds_up(report, batch.len()),
                Err(error) => {
                    let texts = format!("{error} {error:?}");
                    assert!(!texts.contains(SECRET), "a secret in an error: {texts}");
                }
            }
            exported.push(Exported { is_events: !batch.events.is_empty(), len: batch.len(), result });
        }
        assert!(!exported.is_empty(), "the exporter wants something");
        exported
    }

    /// Returns the records that a server received, and checks every request against the backend's contract.
    async fn arrived(&self, server: &MockServer) -> Arrived {
        self.read(&received(server).await)
    }

    fn read<'a>(&self, requests: impl IntoIterator<Item = &'a Request>) -> Arrived {
        let mut arrived = Arrived::default();
        for request in requests {
            assert!(!request.url.as_str().contains(SECRET), "a secret in a URL: {}", request.url);
            self.backend.check(request);
            arrived.extend(self.backend.read(request));
        }
        arrived
    }

    async fn an_empty_batch_makes_no_request(&self) {
        let server = self.good_server(None).await;
        let exporter = self.backend.exporter(&server.uri(), SECRET);
        let report = exporter.export(&ExportBatch::new(START, &self.resource), &*self.http).await;
        assert_eq!(report.expect("nothing goes well"), ExportReport::default());
        assert!(received(&server).await.is_empty(), "an empty batch made a request");
    }

    async fn what_is_sent_arrives_whole(&self) {
        let server = self.good_server(None).await;
        let mut accepted_events = 0;
        for Exported { is_events, len, result } in self.export(&server.uri(), &self.small()).await {
            let report = result.unwrap_or_else(|error| panic!("a good answer: {error}"));
            assert_eq!(report.accepted + report.ignored, len as u64, "all is taken: {report:?}");
            assert!(report.accepted > 0, "something of each kind is sent: {report:?}");
            accepted_events += if is_events { report.accepted } else { 0 };
        }
        let wants = self.backend.exporter(&server.uri(), SECRET).wants();
        let ends = accepted_events - self.accepted_starts();
        self.arrived(&server).await.check(&self.small(), wants, ends, &*self.backend);
    }

    /// Returns how many of the accepted events are starts of spans.
    fn accepted_starts(&self) -> u64 {
        u64::from(self.backend.shows_running_tasks()) * self.small().starts()
    }

    async fn extreme_values_are_no_problem(&self) {
        let server = self.good_server(None).await;
        for Exported { result, .. } in self.export(&server.uri(), &self.prepared(Data::extreme())).await {
            result.unwrap_or_else(|error| panic!("extreme values: {error}"));
        }
        self.arrived(&server).await;
    }

    async fn one_refused_record_is_counted(&self) {
        let server = self.good_server(None).await;
        self.export(&server.uri(), &self.small()).await;
        let mut tried = BTreeSet::new();
        for request in received(&server).await {
            let path = request.url.path().to_owned();
            if self.backend.refuses_one(&request).is_none() || !tried.insert(path.clone()) {
                continue;
            }
            let server = self.good_server(Some(path)).await;
            let exported = self.export(&server.uri(), &self.small()).await;
            let reports = exported.iter().filter_map(|exported| exported.result.as_ref().ok());
            assert_eq!(reports.map(ExportReport::rejected_count).sum::<u64>(), 1, "the rejected record is counted");
        }
    }
}

async fn received(server: &MockServer) -> Vec<Request> {
    server.received_requests().await.expect("requests are recorded")
}

/// Asserts that every record of a batch is accounted for.
fn adds_up(report: &ExportReport, len: usize) {
    let sum = report.accepted + report.ignored + report.rejected_count() + report.retry.len() as u64;
    assert_eq!(sum, len as u64, "the report adds up to the batch: {report:?}");
    assert!(report.retry.is_sorted() && report.retry.iter().all(|index| *index < len), "{report:?}");
    for rejection in &report.rejected {
        assert!(!rejection.reason.contains(SECRET), "a secret in a reason: {rejection:?}");
    }
}
