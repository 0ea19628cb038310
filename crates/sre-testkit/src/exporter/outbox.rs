use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sre_core::{Collect, HttpClient, HttpError, ManualClock, MemorySpool, Metric, Snapshot, Spool, Timestamp};
use sre_http::{Outbox, OutboxOptions};
use wiremock::ResponseTemplate;

use super::data::{Data, START};
use super::{SECRET, Suite};

/// An HTTP client that returns the faults in turn, one per request, and then works normally.
struct Faulty {
    inner: Arc<dyn HttpClient>,
    next: AtomicUsize,
}

/// The faults in order; 0 is a lost connection, 200 is no fault.
const FAULTS: [u16; 12] = [500, 0, 200, 429, 413, 413, 503, 200, 0, 500, 429, 503];

#[async_trait]
impl HttpClient for Faulty {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        match FAULTS.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            Some(0) => Err(HttpError::Unreachable { host: "backend".to_owned(), reason: "reset".to_owned() }),
            None | Some(200) => self.inner.send(request).await,
            Some(status) => {
                let mut answer = http::Response::new(Bytes::new());
                *answer.status_mut() = http::StatusCode::from_u16(*status).expect("a status");
                Ok(answer)
            }
        }
    }
}

/// Metrics and snapshots that never change.
struct Fixed(Data);

impl Collect for Fixed {
    fn snapshots(&self, _now: Timestamp) -> Vec<Snapshot> {
        self.0.snapshots.clone()
    }

    fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        self.0.metrics.iter().cloned().for_each(emit);
    }
}

/// Creates an outbox that sends to the server, with metrics and snapshots.
fn outbox(suite: &Suite, url: &str, http: Arc<dyn HttpClient>, options: OutboxOptions) -> Outbox {
    let options = OutboxOptions { collect: vec![Arc::new(Fixed(Data::small()))], ..options };
    Outbox::driven(suite.backend.exporter(url, SECRET), http, options).expect("a spool in memory")
}

fn push(outbox: &Outbox) {
    Data::small().events.into_iter().for_each(|event| outbox.push(event));
}

pub(super) async fn faults_lose_nothing(suite: &Suite) {
    let server = suite.good_server(None).await;
    let clock = Arc::new(ManualClock::new(START));
    let http = Arc::new(Faulty { inner: suite.http.clone(), next: AtomicUsize::new(0) });
    let outbox = outbox(suite, &server.uri(), http, OutboxOptions { clock: clock.clone(), ..Default::default() });
    push(&outbox);
    // The clock is also set back.
    clock.set(START.saturating_sub(Duration::from_secs(30)));
    for _ in 0..50 {
        outbox.flush_due().await;
        clock.advance(Duration::from_secs(600));
    }
    let stats = outbox.stats();
    for counts in [&stats.events, &stats.state] {
        assert_eq!(counts.settled(), counts.received, "everything is counted: {stats:#?}");
    }
    assert_eq!(stats.events.sent + stats.events.ignored, stats.events.received, "no event is lost: {stats:#?}");
    assert!(stats.state.sent > 0, "{stats:#?}");
    let arrived = suite.arrived(&server).await;
    let wants = suite.backend.exporter(&server.uri(), SECRET).wants();
    arrived.check(&Data::small(), wants, stats.events.sent, suite.backend.precision());
}

pub(super) async fn a_restart_loses_nothing(suite: &Suite) {
    let spool: Arc<dyn Spool> = Arc::new(MemorySpool::default());
    let options = || OutboxOptions { spool: Some(spool.clone()), ..Default::default() };
    let bad = suite.server(ResponseTemplate::new(503)).await;
    let first = outbox(suite, &bad.uri(), suite.http.clone(), options());
    push(&first);
    first.flush_due().await;
    let received = first.stats().events.received;
    assert_eq!(first.shutdown(Duration::ZERO), 0);
    let good = suite.good_server(None).await;
    let second = outbox(suite, &good.uri(), suite.http.clone(), options());
    second.flush_due().await;
    let events = second.stats().events;
    assert_eq!((events.restored, events.sent + events.ignored), (received, received), "{events:?}");
}

pub(super) async fn a_shutdown_counts_what_is_lost(suite: &Suite) {
    let bad = suite.server(ResponseTemplate::new(503)).await;
    let outbox = outbox(suite, &bad.uri(), suite.http.clone(), OutboxOptions::default());
    push(&outbox);
    outbox.flush_due().await;
    let received = outbox.stats().events.received;
    assert_eq!(outbox.shutdown(Duration::ZERO), received, "what is not sent is lost, and counted");
}
