use std::io;
use std::sync::Arc;
use std::time::Duration;

use sre_core::{Collect, ManualClock, MemorySpool, Metric, Snapshot, Spool, Timestamp};
use sre_http::{Outbox, OutboxOptions};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::data::{Data, START};
use super::{SECRET, Suite, received};

/// The faults in order, one per request; 0 is a lost connection, 200 is no fault.
const FAULTS: [u16; 12] = [500, 0, 200, 429, 413, 413, 503, 200, 0, 500, 429, 503];

/// Starts a server that responds with the faults in turn, and then as the backend does.
async fn faulty_server(suite: &Suite) -> MockServer {
    let server = MockServer::start().await;
    for fault in FAULTS {
        let mock = match fault {
            0 => Mock::given(any()).respond_with_err(|_: &Request| io::Error::from(io::ErrorKind::ConnectionReset)),
            200 => Mock::given(any()).respond_with(suite.answers(None)),
            status => Mock::given(any()).respond_with(ResponseTemplate::new(status)),
        };
        mock.up_to_n_times(1).mount(&server).await;
    }
    Mock::given(any()).respond_with(suite.answers(None)).mount(&server).await;
    server
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
fn outbox(suite: &Suite, url: &str, options: OutboxOptions) -> Outbox {
    let options = OutboxOptions { collect: vec![Arc::new(Fixed(Data::small()))], ..options };
    Outbox::without_thread(suite.backend.exporter(url, SECRET), suite.http.clone(), options).expect("a spool in memory")
}

fn push(suite: &Suite, outbox: &Outbox) {
    suite.small().events.into_iter().for_each(|event| outbox.push(event));
}

pub(super) async fn faults_lose_nothing(suite: &Suite) {
    let server = faulty_server(suite).await;
    let clock = Arc::new(ManualClock::new(START));
    let outbox = outbox(suite, &server.uri(), OutboxOptions { clock: clock.clone(), ..Default::default() });
    push(suite, &outbox);
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
    let wants = suite.backend.exporter(&server.uri(), SECRET).wants();
    assert!(stats.state.sent > 0 || !(wants.metrics || wants.snapshots), "{stats:#?}");
    let requests = received(&server).await;
    assert!(requests.len() > FAULTS.len(), "every fault happened: {}", requests.len());
    let has_arrived = |place: &usize| FAULTS.get(*place).is_none_or(|fault| *fault == 200);
    let arrived = suite.read((0..requests.len()).filter(has_arrived).map(|place| &requests[place]));
    let ends = stats.events.sent - suite.accepted_starts();
    arrived.check(&suite.small(), wants, ends, &*suite.backend);
}

pub(super) async fn a_restart_loses_nothing(suite: &Suite) {
    let spool: Arc<dyn Spool> = Arc::new(MemorySpool::default());
    let options = || OutboxOptions { spool: Some(spool.clone()), ..Default::default() };
    let bad = suite.server(ResponseTemplate::new(503)).await;
    let first = outbox(suite, &bad.uri(), options());
    push(suite, &first);
    first.flush_due().await;
    let received = first.stats().events.received;
    assert_eq!(first.shutdown(Duration::ZERO), 0);
    let good = suite.good_server(None).await;
    let second = outbox(suite, &good.uri(), options());
    second.flush_due().await;
    let events = second.stats().events;
    assert_eq!((events.restored, events.sent + events.ignored), (received, received), "{events:?}");
}

pub(super) async fn a_shutdown_counts_what_is_lost(suite: &Suite) {
    let bad = suite.server(ResponseTemplate::new(503)).await;
    let outbox = outbox(suite, &bad.uri(), OutboxOptions::default());
    push(suite, &outbox);
    outbox.flush_due().await;
    let received = outbox.stats().events.received;
    assert_eq!(outbox.shutdown(Duration::ZERO), received, "what is not sent is lost, and counted");
}
