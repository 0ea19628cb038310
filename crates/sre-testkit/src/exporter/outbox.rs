//! An exporter with an outbox, a backend with faults, and a spool in a file.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use sre_core::{Collect, ManualClock, Metric, Snapshot, Spool, Timestamp};
use sre_http::{DropReason, Outbox, OutboxLimits, OutboxOptions, OutboxStats};
use sre_store_sqlite::SqliteSpool;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::data::{Data, START};
use super::{Answers, SECRET, Suite, received};

/// The faults in order, one per request; 0 is a lost connection, 200 is no fault.
const FAULTS: [u16; 12] = [500, 0, 200, 429, 413, 413, 503, 200, 0, 500, 429, 503];

/// A backend that answers every request with an error of this status, or as it should while the status is 200.
struct Switchable {
    status: Arc<AtomicU16>,
    answers: Answers,
}

impl Respond for Switchable {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        match self.status.load(Ordering::SeqCst) {
            200 => self.answers.respond(request),
            status => ResponseTemplate::new(status),
        }
    }
}

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

/// Starts a server whose responses change with the status.
async fn switchable_server(suite: &Suite, status: u16) -> (MockServer, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(status));
    let server = suite.server(Switchable { status: status.clone(), answers: suite.answers(None) }).await;
    (server, status)
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

fn with_state(options: OutboxOptions) -> OutboxOptions {
    OutboxOptions { collect: vec![Arc::new(Fixed(Data::small()))], ..options }
}

/// Creates an outbox that sends to the server, with metrics and snapshots.
fn outbox(suite: &Suite, url: &str, options: OutboxOptions) -> Outbox {
    let exporter = suite.backend.exporter(url, SECRET);
    Outbox::without_thread(exporter, suite.http.clone(), with_state(options)).expect("a spool")
}

fn spool(folder: &Path) -> Arc<dyn Spool> {
    Arc::new(SqliteSpool::open(folder.join("spool.db")).expect("a spool in a file"))
}

/// Adds the suite's events. Returns their number, or 0 if the exporter wants none.
fn push(suite: &Suite, outbox: &Outbox) -> u64 {
    let before = outbox.stats().events.received;
    suite.small().events.into_iter().for_each(|event| outbox.push(event));
    outbox.stats().events.received - before
}

/// Asserts that every record is accounted for, and that no counter or error contains a secret.
fn adds_up(outbox: &Outbox) -> OutboxStats {
    let stats = outbox.stats();
    let OutboxStats { events, state, .. } = &stats;
    let waiting = stats.queue_length + stats.spool_length;
    assert_eq!(events.settled() + waiting, events.received + events.restored, "{stats:#?}");
    assert_eq!(state.settled() + stats.state_queue_length, state.received + state.restored, "{stats:#?}");
    assert!(!format!("{stats:?}").contains(SECRET), "a secret in an error: {stats:?}");
    stats
}

/// Asserts that the backend accepted every record, unless it has no equivalent of it.
fn is_complete(outbox: &Outbox) -> OutboxStats {
    let stats = adds_up(outbox);
    let events = &stats.events;
    assert_eq!(events.sent + events.ignored, events.received + events.restored, "no event is lost: {stats:#?}");
    assert_eq!(stats.state_queue_length, 0, "all metrics and snapshots are counted: {stats:#?}");
    stats
}

pub(super) async fn faults_lose_nothing(suite: &Suite) {
    let server = faulty_server(suite).await;
    let clock = Arc::new(ManualClock::new(START));
    let outbox = outbox(suite, &server.uri(), OutboxOptions { clock: clock.clone(), ..Default::default() });
    push(suite, &outbox);
    for _ in 0..50 {
        outbox.flush_due().await;
        clock.advance(Duration::from_secs(600));
    }
    let stats = is_complete(&outbox);
    let wants = suite.backend.exporter(&server.uri(), SECRET).wants();
    assert!(stats.state.sent > 0 || !(wants.metrics || wants.snapshots), "{stats:#?}");
    let requests = received(&server).await;
    assert!(requests.len() > FAULTS.len(), "every fault happened: {}", requests.len());
    let has_arrived = |index: &usize| FAULTS.get(*index).is_none_or(|fault| *fault == 200);
    let arrived = suite.read((0..requests.len()).filter(has_arrived).map(|index| &requests[index]));
    let ends = stats.events.sent - suite.accepted_starts();
    arrived.check(&suite.small(), wants, ends, &*suite.backend);
}

pub(super) async fn a_clock_that_steps_back_delays_nothing(suite: &Suite) {
    let (server, status) = switchable_server(suite, 503).await;
    let clock = Arc::new(ManualClock::new(START));
    let outbox = outbox(suite, &server.uri(), OutboxOptions { clock: clock.clone(), ..Default::default() });
    push(suite, &outbox);
    outbox.flush_due().await;
    clock.set(START.saturating_sub(Duration::from_secs(86_400)));
    push(suite, &outbox);
    status.store(200, Ordering::SeqCst);
    outbox.flush_due().await;
    is_complete(&outbox);
}

pub(super) async fn retry_after_is_kept(suite: &Suite) {
    let seconds = ResponseTemplate::new(429).insert_header("retry-after", "120");
    // Of a server whose clock is years apart.
    let date = ResponseTemplate::new(429)
        .insert_header("date", "Wed, 21 Oct 2015 07:26:00 GMT")
        .insert_header("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT");
    for busy in [Some(seconds), suite.backend.is_http().then_some(date)].into_iter().flatten() {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(busy).up_to_n_times(1).mount(&server).await;
        Mock::given(any()).respond_with(suite.answers(None)).mount(&server).await;
        let clock = Arc::new(ManualClock::new(START));
        let outbox = outbox(suite, &server.uri(), OutboxOptions { clock: clock.clone(), ..Default::default() });
        push(suite, &outbox);
        outbox.flush_due().await;
        clock.advance(Duration::from_secs(119));
        outbox.flush_due().await;
        assert_eq!(received(&server).await.len(), 1, "nothing is sent before the time that the backend requests");
        clock.advance(Duration::from_secs(1));
        outbox.flush_due().await;
        is_complete(&outbox);
    }
}

pub(super) async fn rejected_credentials_stop_it_until_it_is_resumed(suite: &Suite) {
    for rejection in [401, 403] {
        let (server, status) = switchable_server(suite, rejection).await;
        let clock = Arc::new(ManualClock::new(START));
        let outbox = outbox(suite, &server.uri(), OutboxOptions { clock: clock.clone(), ..Default::default() });
        push(suite, &outbox);
        for _ in 0..5 {
            outbox.flush_due().await;
            clock.advance(Duration::from_secs(600));
        }
        let stats = adds_up(&outbox);
        assert_eq!(received(&server).await.len(), 1, "it asks once");
        assert_eq!((stats.is_halted, stats.failures), (true, 1), "{stats:?}");
        assert!(stats.last_error.contains(&rejection.to_string()), "{stats:?}");
        status.store(200, Ordering::SeqCst);
        outbox.flush_due().await;
        assert_eq!(received(&server).await.len(), 1, "not before it is resumed");
        outbox.resume();
        outbox.flush_due().await;
        let stats = is_complete(&outbox);
        assert_eq!((stats.is_halted, &*stats.last_error), (false, ""), "{stats:?}");
    }
}

/// Ten times as many events as the queue holds, while the backend takes none.
pub(super) async fn an_overload_is_bounded_and_counted(suite: &Suite) {
    let events = suite.small().events.len();
    let by_count = OutboxLimits { queue_events: 4 * events, ..OutboxLimits::default() };
    let by_bytes = OutboxLimits { queue_bytes: 10_000, ..OutboxLimits::default() };
    for (limits, has_spool) in [(by_count, false), (by_bytes, false), (by_count, true), (by_bytes, true)] {
        let limits = OutboxLimits { batch_events: events, batch_bytes: 2_000, spool_bytes: 20_000, ..limits };
        let folder = tempfile::tempdir().expect("a folder");
        let spool = has_spool.then(|| spool(folder.path()));
        let (server, status) = switchable_server(suite, 503).await;
        let clock = Arc::new(ManualClock::new(START));
        let outbox =
            outbox(suite, &server.uri(), OutboxOptions { limits, spool, clock: clock.clone(), ..Default::default() });
        let mut offered = 0;
        for _ in 0..10 {
            for _ in 0..4 {
                offered += push(suite, &outbox);
            }
            outbox.send_due().await;
            clock.advance(Duration::from_secs(1));
            let stats = adds_up(&outbox);
            // Besides the queue, one batch is in flight, and one write exceeds the limit of the spool.
            assert!(stats.queue_length <= (limits.queue_events + limits.batch_events) as u64, "{stats:?}");
            assert!(stats.queue_bytes <= (limits.queue_bytes + limits.batch_bytes + 1_000) as u64, "{stats:?}");
            assert!(stats.spool_bytes <= limits.spool_bytes + 2 * limits.queue_bytes.min(40_000) as u64, "{stats:?}");
        }
        status.store(200, Ordering::SeqCst);
        for _ in 0..20 {
            clock.advance(Duration::from_secs(600));
            outbox.flush_due().await;
        }
        let stats = adds_up(&outbox);
        let events = &stats.events;
        let dropped = events.dropped.get(&DropReason::QueueFull).copied().unwrap_or_default();
        assert_eq!((events.received, events.sent + events.ignored + dropped), (offered, offered), "{stats:#?}");
        assert!(dropped > 0 || offered == 0, "the queue was full: {stats:?}");
        assert_eq!((stats.queue_length, stats.spool_length), (0, 0), "{stats:?}");
    }
}

pub(super) async fn an_outage_of_an_hour_loses_nothing(suite: &Suite) {
    let folder = tempfile::tempdir().expect("a folder");
    let events = suite.small().events.len();
    // Memory holds the events of two minutes.
    let limits = OutboxLimits { queue_events: 2 * events, ..OutboxLimits::default() };
    let (server, status) = switchable_server(suite, 503).await;
    let clock = Arc::new(ManualClock::new(START));
    let options =
        OutboxOptions { limits, spool: Some(spool(folder.path())), clock: clock.clone(), ..Default::default() };
    let outbox = outbox(suite, &server.uri(), options);
    for _ in 0..60 {
        push(suite, &outbox);
        outbox.send_due().await;
        clock.advance(Duration::from_secs(60));
    }
    let stats = adds_up(&outbox);
    assert_eq!((stats.events.settled(), stats.events.received), (0, 60 * push(suite, &outbox)), "all of it waits");
    let takes_any = suite.backend.exporter(&server.uri(), SECRET).state_max_age().is_none();
    assert!(stats.state.settled() == 0 || !takes_any, "all metrics and snapshots wait: {stats:#?}");
    let readings = stats.state.received;
    status.store(200, Ordering::SeqCst);
    for _ in 0..3 {
        clock.advance(Duration::from_secs(600));
        outbox.flush_due().await;
    }
    let stats = is_complete(&outbox);
    let state = &stats.state;
    let superseded = state.dropped.get(&DropReason::Superseded).copied().unwrap_or_default();
    assert_eq!(state.sent + state.ignored + superseded, state.received, "{stats:#?}");
    assert!(superseded == 0 || (!takes_any && superseded < readings), "each reading of the hour is sent: {stats:#?}");
}

/// With a restart in the usual way, and without: the process is killed, so that only the spool is left.
pub(super) async fn a_restart_loses_nothing(suite: &Suite) {
    for is_killed in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::new(START));
        let options =
            || OutboxOptions { spool: Some(spool(folder.path())), clock: clock.clone(), ..Default::default() };
        let bad = suite.server(ResponseTemplate::new(503)).await;
        let first = outbox(suite, &bad.uri(), options());
        let pushed = push(suite, &first);
        // The first attempt, and another reading.
        for _ in 0..2 {
            first.flush_due().await;
            clock.advance(Duration::from_secs(60));
        }
        if is_killed {
            adds_up(&first);
            std::mem::forget(first);
        } else {
            assert_eq!(first.shutdown(Duration::ZERO), 0);
            adds_up(&first);
            drop(first);
        }
        let good = suite.good_server(None).await;
        let second = outbox(suite, &good.uri(), options());
        second.flush_due().await;
        let stats = is_complete(&second);
        assert_eq!((stats.events.restored, stats.spool_length), (pushed, 0), "{stats:?}");
        let state = &stats.state;
        assert_eq!(state.restored, 2 * state.received, "both readings: {stats:#?}");
        assert_eq!(state.sent + state.ignored, state.restored + state.received, "no reading is lost: {stats:#?}");
        let wants = suite.backend.exporter(&good.uri(), SECRET).wants();
        let ends = stats.events.sent - suite.accepted_starts();
        // Each of them once.
        suite.arrived(&good).await.check(&suite.small(), wants, ends, &*suite.backend);
    }
}

pub(super) async fn a_shutdown_counts_what_is_lost(suite: &Suite) {
    let bad = suite.server(ResponseTemplate::new(503)).await;
    let outbox = outbox(suite, &bad.uri(), OutboxOptions::default());
    let pushed = push(suite, &outbox);
    outbox.flush_due().await;
    assert_eq!(outbox.shutdown(Duration::ZERO), pushed, "what is not sent is lost, and counted");
    adds_up(&outbox);
}

/// The backend does not answer, and the queue is full.
pub(super) async fn a_shutdown_keeps_its_deadline(suite: &Suite) {
    let hanging = suite.server(ResponseTemplate::new(200).set_delay(Duration::from_secs(600))).await;
    let limits = OutboxLimits { queue_events: suite.small().events.len(), ..OutboxLimits::default() };
    let options = with_state(OutboxOptions { limits, ..Default::default() });
    let exporter = suite.backend.exporter(&hanging.uri(), SECRET);
    let outbox = Outbox::start(exporter, suite.http.clone(), options).expect("an outbox");
    for _ in 0..3 {
        push(suite, &outbox);
    }
    let outbox = Arc::new(outbox);
    let stopping = outbox.clone();
    let begun = Instant::now();
    let lost = tokio::task::spawn_blocking(move || stopping.shutdown(Duration::from_millis(100))).await;
    // Far more than the deadline, for slow machines, and far less than the backend's delay.
    assert!(begun.elapsed() < Duration::from_secs(60), "the shutdown took {:?}", begun.elapsed());
    let stats = adds_up(&outbox);
    let events = &stats.events;
    assert_eq!(events.settled(), events.received, "all is counted: {stats:#?}");
    let dropped = events.dropped.get(&DropReason::Shutdown).copied().unwrap_or_default();
    assert_eq!(lost.expect("a shutdown"), dropped, "{stats:#?}");
}
