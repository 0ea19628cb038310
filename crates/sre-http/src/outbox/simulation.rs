//! An outbox's machine in a simulated environment, for any order of pushes, answers, kills and failures of the spool.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sre_core::{
    AgentEvent, ExportError, ExportReport, HttpError, MemorySpool, Metric, RetryPolicy, Spool, SpoolSize,
    SpooledRecord, StoreError, Timestamp,
};

use super::machine::Machine;
use super::options::OutboxLimits;
use super::record::StateBatch;
use super::spool_queue::SpoolResult;
use super::state_spool::state_queue;
use super::step::{Outgoing, Step};

const START: Timestamp = Timestamp::from_secs(1_790_000_000);
pub(super) const QUEUE: &str = "test";

/// A machine, its environment, and the records that the backend accepted.
pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) spool: Option<FlakySpool>,
    pub(super) now: Timestamp,
    pub(super) sent: Option<Outgoing>,
    pub(super) pushed: u64,
    pub(super) accepted: Vec<u64>,
    /// Events that were only in memory when the process was killed.
    pub(super) killed: BTreeSet<u64>,
    /// Records that earlier processes dropped or the backend rejected.
    pub(super) given_up: u64,
}

#[derive(Default)]
pub(super) struct FlakySpool {
    spool: MemorySpool,
    fails: AtomicBool,
}

impl FlakySpool {
    fn check(&self) -> Result<(), StoreError> {
        if self.fails.load(Ordering::Relaxed) { Err(broken()) } else { Ok(()) }
    }
}

fn broken() -> StoreError {
    StoreError::unavailable("test", "is broken")
}

impl Spool for FlakySpool {
    fn append(&self, queue: &str, records: &[&[u8]]) -> Result<u64, StoreError> {
        self.check().and_then(|()| self.spool.append(queue, records))
    }

    fn peek(&self, queue: &str, limit: usize, bytes: usize) -> Result<Vec<SpooledRecord>, StoreError> {
        self.check().and_then(|()| self.spool.peek(queue, limit, bytes))
    }

    fn remove(&self, queue: &str, up_to: u64) -> Result<(), StoreError> {
        self.check().and_then(|()| self.spool.remove(queue, up_to))
    }

    fn size(&self, queue: &str) -> Result<SpoolSize, StoreError> {
        self.spool.size(queue)
    }

    fn queues(&self) -> Result<Vec<String>, StoreError> {
        self.spool.queues()
    }
}

/// At least the size of an event in these tests.
pub(super) const EVENT_BYTES: usize = size_of::<AgentEvent>() + 40;

pub(super) const LIMITS: OutboxLimits = OutboxLimits {
    queue_events: 20,
    queue_bytes: 50 * EVENT_BYTES,
    queue_state: 12,
    spool_bytes: 20_000,
    max_age: Duration::from_secs(600),
    batch_events: 4,
    batch_bytes: 12 * EVENT_BYTES,
    max_delay: Duration::from_secs(1),
    interval: Duration::from_secs(60),
};

/// Limits under which neither state nor age interferes.
pub(super) const PATIENT: OutboxLimits =
    OutboxLimits { interval: Duration::from_secs(86_400), max_age: Duration::from_secs(86_400), ..LIMITS };

fn machine(limits: OutboxLimits, spool: Option<&FlakySpool>, now: Timestamp) -> Machine {
    let spooled = spool.map(|spool| spool.size(QUEUE).unwrap());
    let retry = RetryPolicy { attempts: 5, ..RetryPolicy::default() };
    Machine::new(limits, retry, true, spooled, now)
}

fn error(status: u16) -> ExportError {
    let message = "too old".to_owned();
    ExportError::Rejected { exporter: QUEUE.to_owned(), status, message, retry_after: None }
}

fn id(event: &AgentEvent) -> u64 {
    event.agent.parse().unwrap()
}

impl World {
    pub(super) fn new(limits: OutboxLimits, has_spool: bool) -> Self {
        let spool = has_spool.then(FlakySpool::default);
        let machine = machine(limits, spool.as_ref(), START);
        let (accepted, killed) = (Vec::new(), BTreeSet::new());
        Self { machine, spool, now: START, sent: None, pushed: 0, accepted, killed, given_up: 0 }
    }

    pub(super) fn push(&mut self, count: u64) {
        for _ in 0..count {
            let event = AgentEvent::new(self.now, self.pushed.to_string(), sre_core::event::Heartbeat::default());
            self.machine.push(Arc::new(event), self.now);
            self.pushed += 1;
        }
    }

    /// Performs all steps that are due.
    pub(super) fn work(&mut self) {
        for _ in 0..1_000 {
            let step = self.machine.step(self.now);
            let spool = self.spool.as_ref();
            match spool.and_then(|spool| SpoolResult::of(&step, spool, QUEUE, &self.machine.limits)) {
                Some(result) => self.machine.spooled(result, self.now),
                None => match step {
                    Step::Collect => {
                        let metrics = (0..3).map(|value| Metric::gauge("m", f64::from(value))).collect();
                        self.machine.collected(self.now, StateBatch { at: self.now, metrics, snapshots: Vec::new() });
                    }
                    Step::Send(outgoing) => {
                        assert!(self.sent.is_none(), "one batch at a time");
                        self.sent = Some(outgoing);
                    }
                    _ => return,
                },
            }
        }
        panic!("the machine never waits");
    }

    /// Answers the batch in flight, if any.
    pub(super) fn answer(&mut self, answer: &Answer) -> bool {
        let Some(sent) = self.sent.take() else { return false };
        let answer = match (answer, &sent) {
            (Answer::Status(status), _) => Err(error(*status)),
            (Answer::Unreachable, _) => Err(HttpError::TimedOut { host: "test".to_owned(), seconds: 10.0 }.into()),
            (Answer::Invalid, _) => Err(ExportError::invalid(QUEUE, "a bug")),
            (Answer::Partial(fates), Outgoing::State(state)) => {
                let mut report = ExportReport::default();
                for (index, fate) in (0..state.len()).zip(fates.iter().cycle()) {
                    match fate {
                        0 => report.accepted += 1,
                        1 => report = report.with_rejected(1, "bad"),
                        2 => report.retry.push(index),
                        3 => report.ignored += 1,
                        _ => {}
                    }
                }
                Ok(report)
            }
            (Answer::Partial(fates), Outgoing::Events(events)) => {
                let mut report = ExportReport::default();
                for (index, (event, fate)) in events.iter().zip(fates.iter().cycle()).enumerate() {
                    match fate {
                        0 => {
                            self.accepted.push(id(event));
                            report.accepted += 1;
                        }
                        1 => report = report.with_rejected(1, "bad"),
                        2 => report.retry.push(index),
                        3 => report.ignored += 1,
                        _ => {}
                    }
                }
                Ok(report)
            }
            (Answer::Success, Outgoing::Events(events)) => {
                self.accepted.extend(events.iter().map(|event| id(event)));
                Ok(ExportReport::accepted(events.len()))
            }
            (Answer::Success, Outgoing::State(state)) => Ok(ExportReport::accepted(state.len())),
        };
        self.machine.settle(answer, self.now, 0.5);
        true
    }

    pub(super) fn kill(&mut self) {
        let in_memory = self.machine.not_in_spool(true);
        self.killed.extend(in_memory.iter().map(|record| id(&record.event)));
        self.given_up += self.lost();
        self.sent = None;
        self.machine = machine(self.machine.limits, self.spool.as_ref(), self.now);
    }

    /// The number of records that this process dropped or the backend rejected.
    pub(super) fn lost(&self) -> u64 {
        let events = &self.machine.stats.events;
        events.settled() - events.sent
    }

    /// Runs until nothing is left.
    pub(super) fn finish(&mut self) {
        if let Some(spool) = &self.spool {
            spool.fails.store(false, Ordering::Relaxed);
        }
        self.machine.resume();
        self.machine.flush();
        for _ in 0..1_000 {
            self.work();
            if !self.answer(&Answer::Success) {
                if self.machine.is_idle() {
                    break;
                }
                self.now = self.now.saturating_add(Duration::from_secs(1));
            }
            self.check();
        }
        assert!(self.machine.is_idle(), "{:?}", self.machine);
        if let Some(spool) = &self.spool {
            self.now = self.now.saturating_add(Duration::from_secs(10));
            self.machine.end_flush();
            // Settled records are removed from the spool.
            for _ in 0..10 {
                if let Some(result) = SpoolResult::of(&self.machine.step(self.now), spool, QUEUE, &self.machine.limits)
                {
                    self.machine.spooled(result, self.now);
                }
            }
            assert_eq!(spool.size(QUEUE).unwrap(), SpoolSize::default());
            assert_eq!(spool.size(&state_queue(QUEUE)).unwrap(), SpoolSize::default());
        }
    }

    /// Asserts that every record is accounted for.
    pub(super) fn check(&self) {
        let stats = self.machine.stats();
        let events = &stats.events;
        assert_eq!(
            events.settled() + stats.queue_length + stats.spool_length,
            events.received + events.restored,
            "{stats:?}"
        );
        let state = &stats.state;
        assert_eq!(state.settled() + stats.state_queue_length, state.received + state.restored, "{stats:?}");
        assert!(stats.state_queue_length <= self.machine.limits.queue_state as u64, "{stats:?}");
        assert!(self.machine.memory.len() <= self.machine.limits.queue_events);
        assert!(self.machine.memory_bytes <= self.machine.limits.queue_bytes);
        assert!(stats.spool_bytes <= self.machine.limits.spool_bytes + self.machine.limits.queue_bytes as u64 * 2);
    }
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Success,
    Status(u16),
    Unreachable,
    Invalid,
    /// The outcome of each record: accepted, rejected, to be retried, ignored, not reported.
    Partial(Vec<u8>),
}

#[derive(Clone, Debug)]
enum Act {
    Push(u64),
    Advance(u64),
    SetBack(u64),
    Answer(Answer),
    Flush,
    Resume,
    SpoolFails(bool),
    Kill,
}

const STATUSES: &[u16] = &[301, 400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504];

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let answer = prop_oneof![
        4 => Just(Answer::Success),
        5 => prop::sample::select(STATUSES).prop_map(Answer::Status),
        1 => Just(Answer::Unreachable),
        1 => Just(Answer::Invalid),
        1 => prop::collection::vec(0u8..5, 1..4).prop_map(Answer::Partial),
    ];
    let act = prop_oneof![
        6 => (1u64..9).prop_map(Act::Push),
        5 => (1u64..5_000).prop_map(Act::Advance),
        1 => (60_000u64..400_000).prop_map(Act::Advance),
        1 => (1u64..100_000).prop_map(Act::SetBack),
        8 => answer.prop_map(Act::Answer),
        1 => Just(Act::Flush),
        1 => Just(Act::Resume),
        1 => any::<bool>().prop_map(Act::SpoolFails),
        1 => Just(Act::Kill),
    ];
    prop::collection::vec(act, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn sent_rejected_and_dropped_add_up_to_what_was_received_and_no_event_is_sent_twice(acts in acts(), has_spool: bool) {
        let mut world = World::new(LIMITS, has_spool);
        world.machine.state_max_age = Some(Duration::from_secs(300));
        let mut is_plain = true;
        let mut was_killed = false;
        for act in &acts {
            match act {
                Act::Push(count) => world.push(*count),
                Act::Advance(ms) => world.now = world.now.saturating_add(Duration::from_millis(*ms)),
                Act::SetBack(ms) => world.now = world.now.saturating_sub(Duration::from_millis(*ms)),
                Act::Answer(answer) => {
                    is_plain &= !matches!(answer, Answer::Partial(_));
                    world.answer(answer);
                }
                Act::Flush => world.machine.flush(),
                Act::Resume => world.machine.resume(),
                Act::SpoolFails(fails) => {
                    is_plain = false;
                    world.spool.iter().for_each(|spool| spool.fails.store(*fails, Ordering::Relaxed));
                }
                Act::Kill => {
                    was_killed = true;
                    world.kill();
                }
            }
            world.work();
            world.check();
        }
        world.finish();
        let stats = world.machine.stats();
        prop_assert_eq!(stats.events.settled(), stats.events.received + stats.events.restored);
        prop_assert_eq!(stats.state.settled(), stats.state.received + stats.state.restored);
        let once: BTreeSet<u64> = world.accepted.iter().copied().collect();
        let missing = (0..world.pushed).filter(|id| !once.contains(id) && !world.killed.contains(id)).count() as u64;
        let lost = world.given_up + world.lost();
        if was_killed {
            prop_assert!(missing <= lost, "{missing} events are missing, {lost} were counted");
        } else {
            prop_assert_eq!(once.len(), world.accepted.len(), "none is taken twice");
            prop_assert_eq!(missing, lost);
            if is_plain {
                prop_assert!(world.accepted.is_sorted(), "{:?}", world.accepted);
            }
        }
    }
}
