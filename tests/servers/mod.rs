//! The recorded run that is exported to real servers of backends.

mod faults;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sre_adapter_langgraph::LangGraphAdapter;
use sre_core::event::{Evaluation, PolicyCheck};
use sre_core::{Adapter, AgentEvent, Event, Exporter, HttpClient, ManualClock, RetryPolicy, SloSnapshot, Timestamp};
use sre_http::{Client, Options, Outbox, OutboxOptions, OutboxStats};
use sre_slo::{Slo, TaskSuccessRate};

use self::faults::FaultyClient;

fn client() -> Arc<dyn HttpClient> {
    Arc::new(Client::new(Options { timeout: Duration::from_secs(60), ..Options::default() }).unwrap())
}

/// When the parts of the run are sent.
pub(crate) const TIMES: [Timestamp; 3] =
    [Timestamp::from_secs(1_795_402_940), Timestamp::from_secs(1_795_403_000), Timestamp::from_secs(1_795_403_060)];

/// Returns the first event alone, an evaluation of a trace of which nothing is known yet; what follows up to the middle of a task;
/// and the rest.
pub(crate) fn parts(events: &[AgentEvent]) -> [&[AgentEvent]; 3] {
    let (first, others) = events.split_at(1);
    let (before, after) = others.split_at(others.len() / 2);
    assert!(!matches!(before.last().unwrap().event, Event::TaskFinished(_)));
    [first, before, after]
}

/// Runs of LangGraph, recorded, with prices and with verdicts: an evaluation of each model call, a policy check of each task,
/// and an evaluation of the first task before anything else has happened in it.
pub(crate) fn recorded() -> Vec<AgentEvent> {
    let mut events = Vec::new();
    for name in ["task_failure", "tool_failure_recovered"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("recordings/langgraph/{name}.jsonl"));
        let mut adapter = LangGraphAdapter::default();
        for line in std::fs::read(path).unwrap().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            adapter.ingest(line, &mut |event| events.push(event)).unwrap();
        }
        adapter.finish(&mut |event| events.push(event));
    }
    let mut with_verdicts = vec![verdict(&events[0], Evaluation::new("relevance", None, Some(0.25)))];
    for mut event in events {
        if let Event::LlmCall(call) = &mut event.event {
            call.cost_usd = Some("0.0125".parse().unwrap());
            let mut judged = Evaluation::new("tone", Some(false), Some(0.75));
            judged.confidence = Some(0.5);
            let mut evaluation = verdict(&event, judged);
            evaluation.parent_span_id = event.span_id;
            with_verdicts.extend([event, evaluation]);
            continue;
        }
        if let Event::TaskFinished(_) = event.event {
            with_verdicts.push(verdict(&event, PolicyCheck::new("pii", true)));
        }
        with_verdicts.push(event);
    }
    with_verdicts
}

/// Returns a verdict on the task of an event.
fn verdict(event: &AgentEvent, verdict: impl Into<Event>) -> AgentEvent {
    let mut of_task = AgentEvent::new(event.time, event.agent.clone(), verdict);
    (of_task.task, of_task.trace_id) = (event.task.clone(), event.trace_id);
    of_task
}

/// Sends events, and the state of an objective after them.
pub(crate) struct Export {
    clock: Arc<ManualClock>,
    slo: Arc<Slo>,
    outbox: Outbox,
}

/// The delay before each retry.
const RETRY: Duration = Duration::from_millis(100);
/// Maximum number of retries of what is sent at a time.
const RETRIES: u32 = 200;

impl Export {
    pub(crate) fn new(exporter: Arc<dyn Exporter>) -> Self {
        Self::through(client(), exporter)
    }

    fn through(http: Arc<dyn HttpClient>, exporter: Arc<dyn Exporter>) -> Self {
        let clock = Arc::new(ManualClock::default());
        let slo = Slo::new("answers", vec![Box::new(TaskSuccessRate::new(0.9).unwrap())]).unwrap();
        let slo = Arc::new(slo.for_agent("support-agent").with_description("Nine of ten tasks succeed."));
        let retry = RetryPolicy { first: RETRY, longest: RETRY, ..RetryPolicy::default() };
        let (collect, outbox_clock) = (vec![slo.clone() as _], clock.clone());
        let options = OutboxOptions { collect, clock: outbox_clock, retry, ..OutboxOptions::default() };
        Self { clock, slo, outbox: Outbox::without_thread(exporter, http, options).unwrap() }
    }

    /// Sends the parts of the run, each with the state after it, through a client whose first requests to each address fail for each
    /// part. All must be accepted.
    pub(crate) async fn through_faults(exporter: Arc<dyn Exporter>, events: &[AgentEvent]) -> [SloSnapshot; 3] {
        let faults = Arc::new(FaultyClient::new(client()));
        let export = Self::through(faults.clone(), exporter);
        let mut states = Vec::new();
        for (part, at) in parts(events).into_iter().zip(TIMES) {
            faults.fail_again();
            export.push(part, at);
            let mut stats = export.flush(at).await;
            assert!(stats.failures > 0, "{stats:#?}");
            for _ in 0..RETRIES {
                if stats.queue_length + stats.state_queue_length == 0 {
                    break;
                }
                export.clock.advance(RETRY);
                export.outbox.send_due().await;
                stats = export.outbox.stats();
            }
            assert_all_sent(&stats);
            states.push(export.slo.snapshot_at(at));
        }
        states.try_into().unwrap()
    }

    /// Sends events and the state at a time, which must all be accepted.
    pub(crate) async fn send(&self, events: &[AgentEvent], at: Timestamp) -> SloSnapshot {
        self.push(events, at);
        assert_all_sent(&self.flush(at).await);
        self.slo.snapshot_at(at)
    }

    /// Sends events and the state at a time, while the server is unavailable.
    pub(crate) async fn send_in_vain(&self, events: &[AgentEvent], at: Timestamp) -> SloSnapshot {
        let before = self.outbox.stats();
        self.push(events, at);
        let stats = self.flush(at).await;
        assert_eq!((stats.queue_length, stats.state_queue_length), (events.len() as u64, 1), "all wait: {stats:#?}");
        assert_eq!(stats.events.settled(), before.events.settled(), "{stats:#?}");
        self.slo.snapshot_at(at)
    }

    /// Records events at a time.
    fn push(&self, events: &[AgentEvent], at: Timestamp) {
        self.clock.set(at);
        for event in events {
            self.slo.observe(event);
            self.outbox.push(Arc::new(event.clone()));
        }
    }

    /// Tries to send everything at a time.
    async fn flush(&self, at: Timestamp) -> OutboxStats {
        self.clock.set(at);
        self.outbox.flush_due().await;
        self.outbox.stats()
    }
}

fn assert_all_sent(stats: &OutboxStats) {
    for counts in [&stats.events, &stats.state] {
        assert_eq!(counts.sent + counts.ignored, counts.received, "{stats:#?}");
    }
}
