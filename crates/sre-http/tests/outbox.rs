//! The outbox with exporters that are slow, panic, or lose the network, with and without a thread.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sre_core::{
    AgentEvent, Collect, ExportBatch, ExportError, ExportReport, Exporter, HttpClient, ManualClock, MemorySpool,
    Metric, NoHttp, Snapshot, Spool, Timestamp, Wants,
};
use sre_http::{DropReason, Outbox, OutboxLimits, OutboxOptions};

/// Stores what it receives, or fails as configured.
#[derive(Debug, Default)]
struct Backend {
    taken: Mutex<Vec<String>>,
    metrics: Mutex<Vec<Metric<'static>>>,
    /// 0 accepts everything, 1 hangs, 2 panics; anything else is the status of an error.
    fault: AtomicU32,
}

#[async_trait]
impl Exporter for Backend {
    fn name(&self) -> &str {
        "backend"
    }

    fn wants(&self) -> Wants {
        Wants::ALL
    }

    async fn export(&self, batch: &ExportBatch<'_>, _http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        match self.fault.load(Ordering::Relaxed) {
            0 => {}
            1 => std::future::pending().await,
            2 => panic!("a bug"),
            status => {
                let (exporter, message) = (self.name().to_owned(), "not now".to_owned());
                return Err(ExportError::Rejected { exporter, status: status as u16, message, retry_after: None });
            }
        }
        self.taken.lock().unwrap().extend(batch.events.iter().map(|event| event.agent.clone()));
        self.metrics.lock().unwrap().extend_from_slice(batch.metrics);
        Ok(ExportReport::accepted(batch.len()))
    }
}

struct Source;

impl Collect for Source {
    fn metrics(&self, now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        emit(Metric::gauge("app.time", now.as_secs() as f64));
    }
}

struct Broken;

impl Collect for Broken {
    fn snapshots(&self, _now: Timestamp) -> Vec<Snapshot> {
        panic!("a bug")
    }
}

fn event(number: usize) -> Arc<AgentEvent> {
    Arc::new(AgentEvent::new(Timestamp::from_secs(1), number.to_string(), sre_core::event::Heartbeat::default()))
}

fn push(outbox: &Outbox, numbers: std::ops::Range<usize>) {
    numbers.for_each(|number| outbox.push(event(number)));
}

fn numbers(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

fn start(backend: &Arc<Backend>, options: OutboxOptions) -> Outbox {
    Outbox::start(backend.clone(), Arc::new(NoHttp), options).unwrap()
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_flush_sends_everything_in_order_and_the_last_metrics_too() {
    let backend = Arc::new(Backend::default());
    let collect: Vec<Arc<dyn Collect>> = vec![Arc::new(Broken), Arc::new(Source)];
    let outbox = start(&backend, OutboxOptions { collect, ..Default::default() });
    push(&outbox, 0..2_000);
    assert!(outbox.flush(LONG));
    assert_eq!(*backend.taken.lock().unwrap(), numbers(0..2_000));
    assert_eq!(backend.metrics.lock().unwrap().len(), 1, "of the source that does not panic");
    assert_eq!((outbox.stats().events.sent, outbox.stats().state.sent), (2_000, 1));
    assert_eq!(outbox.shutdown(LONG), 0);
}

#[test]
fn an_exporter_that_hangs_stops_no_push_and_no_shutdown_and_a_spool_keeps_what_is_left() {
    for has_spool in [false, true] {
        let backend = Arc::new(Backend::default());
        backend.fault.store(1, Ordering::Relaxed);
        let spool = has_spool.then(|| Arc::new(MemorySpool::default()));
        let options =
            || OutboxOptions { spool: spool.clone().map(|spool| spool as Arc<dyn Spool>), ..Default::default() };
        let outbox = start(&backend, options());
        push(&outbox, 0..1_000);
        assert!(!outbox.flush(Duration::from_millis(50)));
        let lost = outbox.shutdown(Duration::ZERO);
        backend.fault.store(0, Ordering::Relaxed);
        let again = start(&backend, options());
        assert!(again.flush(LONG));
        if has_spool {
            assert_eq!((lost, again.stats().events.restored), (0, 1_000));
            assert_eq!(*backend.taken.lock().unwrap(), numbers(0..1_000));
        } else {
            assert_eq!(lost, 1_000);
        }
    }
}

#[test]
fn refused_credentials_end_a_flush_at_once_and_resume_sends_what_waited() {
    let backend = Arc::new(Backend::default());
    backend.fault.store(401, Ordering::Relaxed);
    let outbox = start(&backend, OutboxOptions::default());
    push(&outbox, 0..3);
    assert!(!outbox.flush(LONG));
    assert!(outbox.stats().is_halted);
    assert_eq!(outbox.stats().last_error, "backend answered 401: not now");
    backend.fault.store(0, Ordering::Relaxed);
    outbox.resume();
    assert!(outbox.flush(LONG));
    assert_eq!(*backend.taken.lock().unwrap(), numbers(0..3));
}

#[tokio::test]
async fn time_alone_decides_when_there_is_no_thread() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
    let backend = Arc::new(Backend::default());
    let limits = OutboxLimits { max_delay: Duration::from_secs(2), ..Default::default() };
    let options = OutboxOptions { clock: clock.clone(), limits, random: Arc::new(|| 1.0), ..Default::default() };
    let outbox = Outbox::without_thread(backend.clone(), Arc::new(NoHttp), options).unwrap();
    push(&outbox, 0..1);
    outbox.send_due().await;
    assert!(backend.taken.lock().unwrap().is_empty(), "it waits for others");
    backend.fault.store(503, Ordering::Relaxed);
    clock.advance(Duration::from_secs(2));
    outbox.send_due().await;
    assert_eq!((outbox.stats().failures, outbox.stats().retries), (1, 1));
    backend.fault.store(0, Ordering::Relaxed);
    outbox.send_due().await;
    assert!(backend.taken.lock().unwrap().is_empty(), "a second has to pass");
    clock.advance(Duration::from_secs(1));
    outbox.send_due().await;
    assert_eq!(*backend.taken.lock().unwrap(), numbers(0..1));
}

#[tokio::test]
async fn a_panic_drops_the_batch_and_a_call_that_is_cancelled_does_not() {
    let backend = Arc::new(Backend::default());
    let outbox = Outbox::without_thread(backend.clone(), Arc::new(NoHttp), OutboxOptions::default()).unwrap();
    push(&outbox, 0..3);
    backend.fault.store(2, Ordering::Relaxed);
    outbox.flush_due().await;
    assert_eq!(outbox.stats().events.dropped[&DropReason::Invalid], 3);
    assert_eq!(outbox.stats().last_error, "backend: the exporter panicked: a bug");
    push(&outbox, 3..4);
    backend.fault.store(1, Ordering::Relaxed);
    assert!(tokio::time::timeout(Duration::from_millis(10), outbox.flush_due()).await.is_err());
    backend.fault.store(0, Ordering::Relaxed);
    outbox.flush_due().await;
    assert_eq!(*backend.taken.lock().unwrap(), numbers(3..4));
}

#[test]
fn metrics_count_every_record_by_outcome() {
    let backend = Arc::new(Backend::default());
    let limits = OutboxLimits { queue_events: 4, ..Default::default() };
    let outbox =
        Outbox::without_thread(backend, Arc::new(NoHttp), OutboxOptions { limits, ..Default::default() }).unwrap();
    push(&outbox, 0..5);
    let mut lines = Vec::new();
    outbox.metrics(Timestamp::default(), &mut |metric| {
        assert_eq!(metric.labels[0], ("exporter".into(), "backend".into()));
        let labels: Vec<&str> = metric.labels[1..].iter().map(|(_, value)| &**value).collect();
        lines.push(format!("{} {} {:?}", metric.prometheus_name(), labels.join(" "), metric.value));
    });
    for line in [
        "sre_exporter_received_total event Counter(5.0)",
        "sre_exporter_dropped_total event queue_full Counter(1.0)",
        "sre_exporter_queue_length  Gauge(4.0)",
        "sre_exporter_halted  Gauge(0.0)",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line} in {lines:#?}");
    }
    assert!(!format!("{outbox:?}").is_empty());
    assert_eq!(outbox.shutdown(Duration::ZERO), 4);
}

/// Wants events only.
#[derive(Debug)]
struct EventsOnly(Backend);

#[async_trait]
impl Exporter for EventsOnly {
    fn name(&self) -> &str {
        "events-only"
    }

    fn wants(&self) -> Wants {
        Wants::EVENTS
    }

    async fn export(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        self.0.export(batch, http).await
    }
}

/// Counts how often it is asked.
#[derive(Default)]
struct Asked(AtomicU32);

impl Collect for Asked {
    fn snapshots(&self, _now: Timestamp) -> Vec<Snapshot> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Vec::new()
    }

    fn metrics(&self, _now: Timestamp, _emit: &mut dyn FnMut(Metric<'_>)) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn what_an_exporter_does_not_want_is_not_collected() {
    let (source, clock) = (Arc::new(Asked::default()), Arc::new(ManualClock::new(Timestamp::from_secs(1))));
    let options = OutboxOptions { collect: vec![source.clone()], clock: clock.clone(), ..Default::default() };
    let outbox = Outbox::without_thread(Arc::new(EventsOnly(Backend::default())), Arc::new(NoHttp), options).unwrap();
    for _ in 0..3 {
        push(&outbox, 0..2);
        clock.advance(Duration::from_secs(120));
        outbox.flush_due().await;
    }
    assert_eq!((outbox.stats().events.sent, source.0.load(Ordering::Relaxed)), (6, 0));
}
