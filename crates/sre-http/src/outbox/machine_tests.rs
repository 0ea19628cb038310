use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sre_core::{HttpError, MemorySpool, Metric, Spool, SpooledRecord, StoreError};

use super::super::spool_queue::SpoolResult;
use super::super::state_spool::state_queue;
use super::*;

const START: Timestamp = Timestamp::from_secs(1_790_000_000);
const QUEUE: &str = "test";

/// A machine, its environment, and the records that the backend accepted.
struct World {
    machine: Machine,
    spool: Option<FlakySpool>,
    now: Timestamp,
    sent: Option<Outgoing>,
    pushed: u64,
    accepted: Vec<u64>,
    /// Events that were only in memory when the process was killed.
    killed: BTreeSet<u64>,
    /// Records that earlier processes dropped or the backend rejected.
    given_up: u64,
}

#[derive(Default)]
struct FlakySpool {
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
const EVENT_BYTES: usize = size_of::<AgentEvent>() + 40;

const LIMITS: OutboxLimits = OutboxLimits {
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
const PATIENT: OutboxLimits =
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
    fn new(limits: OutboxLimits, has_spool: bool) -> Self {
        let spool = has_spool.then(FlakySpool::default);
        let machine = machine(limits, spool.as_ref(), START);
        let (accepted, killed) = (Vec::new(), BTreeSet::new());
        Self { machine, spool, now: START, sent: None, pushed: 0, accepted, killed, given_up: 0 }
    }

    fn push(&mut self, count: u64) {
        for _ in 0..count {
            let event = AgentEvent::new(self.now, self.pushed.to_string(), sre_core::event::Heartbeat::default());
            self.machine.push(Arc::new(event), self.now);
            self.pushed += 1;
        }
    }

    /// Performs all steps that are due.
    fn work(&mut self) {
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
    fn answer(&mut self, answer: &Answer) -> bool {
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

    fn kill(&mut self) {
        let in_memory = self.machine.not_in_spool(true);
        self.killed.extend(in_memory.iter().map(|record| id(&record.event)));
        self.given_up += self.lost();
        self.sent = None;
        self.machine = machine(self.machine.limits, self.spool.as_ref(), self.now);
    }

    /// The number of records that this process dropped or the backend rejected.
    fn lost(&self) -> u64 {
        let events = &self.machine.stats.events;
        events.settled() - events.sent
    }

    /// Runs until nothing is left.
    fn finish(&mut self) {
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
    fn check(&self) {
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
enum Answer {
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

/// Runs until nothing more is sent. Returns the sizes of the batches of events.
fn send_all(world: &mut World, answer: impl Fn(usize) -> Answer) -> Vec<usize> {
    let mut sizes = Vec::new();
    loop {
        world.work();
        let Some(sent) = &world.sent else { return sizes };
        let size = match sent {
            Outgoing::Events(events) => events.len(),
            Outgoing::State(state) => state.len(),
        };
        sizes.push(size);
        world.answer(&answer(size));
    }
}

#[test]
fn a_batch_is_sent_when_it_is_full_or_its_first_event_has_waited_long_enough() {
    let mut world = World::new(LIMITS, false);
    world.push(9);
    assert_eq!(send_all(&mut world, |_| Answer::Success), [4, 4]);
    world.now = world.now.saturating_add(LIMITS.max_delay);
    assert_eq!(send_all(&mut world, |_| Answer::Success), [1]);
    let mut world = World::new(OutboxLimits { batch_bytes: 2 * EVENT_BYTES, ..LIMITS }, false);
    world.push(5);
    assert_eq!(send_all(&mut world, |_| Answer::Success), [2, 2], "by bytes");
}

#[test]
fn an_answer_of_413_halves_a_batch_down_to_the_one_event_that_is_dropped() {
    let mut world = World::new(LIMITS, false);
    world.push(4);
    let sizes = send_all(&mut world, |size| if size > 1 { Answer::Status(413) } else { Answer::Success });
    assert_eq!(sizes, [4, 2, 1, 1, 2, 1, 1]);
    assert_eq!(world.accepted, [0, 1, 2, 3]);
    world.push(4);
    send_all(&mut world, |_| Answer::Status(413));
    assert_eq!(world.machine.stats.events.dropped[&DropReason::TooLarge], 4);
}

#[test]
fn retries_wait_longer_each_time_and_not_less_than_the_backend_asks() {
    let mut world = World::new(PATIENT, false);
    world.push(4);
    let mut waits = Vec::new();
    for _ in 0..4 {
        world.work();
        world.answer(&Answer::Status(503));
        let Step::Wait(Some(wait)) = world.machine.step(world.now) else { panic!("it waits") };
        waits.push(wait.as_millis());
        world.now = world.now.saturating_add(wait);
    }
    assert_eq!(waits, [750, 1_500, 3_000, 6_000], "three quarters of the doubling wait");
    world.work();
    world.sent = None;
    let asked = ExportError::Rejected {
        exporter: QUEUE.to_owned(),
        status: 429,
        message: String::new(),
        retry_after: Some(Duration::from_secs(50)),
    };
    world.machine.settle(Err(asked), world.now, 0.5);
    assert!(matches!(world.machine.step(world.now), Step::Wait(Some(wait)) if wait == Duration::from_secs(50)));
    assert_eq!(world.machine.stats.retries, 5);
}

#[test]
fn a_batch_that_the_backend_cannot_digest_is_given_up_and_one_that_it_never_saw_is_not() {
    let mut world = World::new(PATIENT, false);
    world.push(5);
    for (status, dropped) in [(503, 0), (500, 4)] {
        for _ in 0..5 {
            world.work();
            assert!(world.answer(&Answer::Status(status)));
            world.now = world.now.saturating_add(Duration::from_secs(300));
        }
        let given_up = world.machine.stats.events.dropped.get(&DropReason::RetriesExhausted);
        assert_eq!(given_up.copied().unwrap_or_default(), dropped, "{status}");
    }
}

#[test]
fn a_batch_that_the_backend_rejects_counts_as_rejected_with_its_reason() {
    let mut world = World::new(LIMITS, false);
    world.push(4);
    assert_eq!(send_all(&mut world, |_| Answer::Status(400)), [4]);
    world.push(4);
    assert_eq!(send_all(&mut world, |_| Answer::Invalid), [4]);
    world.now = world.now.saturating_add(LIMITS.interval);
    assert_eq!(send_all(&mut world, |_| Answer::Status(422)), [3]);
    let OutboxStats { events, state, .. } = world.machine.stats();
    assert_eq!(
        (events.rejected["test answered 400: too old"], &events.dropped),
        (4, &[(DropReason::Invalid, 4)].into())
    );
    assert_eq!((state.rejected["test answered 422: too old"], state.dropped.len()), (3, 0));
}

#[test]
fn metrics_that_the_backend_may_take_later_are_sent_again_without_the_others() {
    let mut world = World::new(LIMITS, false);
    world.now = world.now.saturating_add(LIMITS.interval);
    world.work();
    world.answer(&Answer::Partial(vec![2, 0, 2]));
    world.now = world.now.saturating_add(Duration::from_secs(5));
    assert_eq!(send_all(&mut world, |_| Answer::Success), [2], "the other is not sent again");
    let stats = world.machine.stats();
    assert_eq!((stats.state.sent, stats.state.dropped.len(), stats.retries), (3, 0, 1));
    world.now = world.now.saturating_add(LIMITS.interval);
    let mut attempts = 0;
    while world.machine.stats.state.dropped.is_empty() {
        world.work();
        attempts += u32::from(world.answer(&Answer::Partial(vec![2])));
        world.now = world.now.saturating_add(Duration::from_secs(5));
    }
    assert_eq!((attempts, world.machine.stats.state.dropped[&DropReason::RetriesExhausted]), (5, 3));
}

#[test]
fn rejected_credentials_pause_it_until_it_is_resumed() {
    let mut world = World::new(LIMITS, false);
    world.push(4);
    assert_eq!(send_all(&mut world, |_| Answer::Status(401)), [4]);
    world.now = world.now.saturating_add(Duration::from_secs(300));
    assert_eq!(send_all(&mut world, |_| Answer::Success), [] as [usize; 0]);
    assert!(world.machine.stats().is_halted);
    world.machine.resume();
    assert_eq!(send_all(&mut world, |_| Answer::Success)[..], [3, 4], "metrics and events");
    assert_eq!(world.machine.stats.last_error, "");
}

#[test]
fn a_backend_that_is_away_costs_nothing_where_there_is_a_spool() {
    let mut world =
        World::new(OutboxLimits { spool_bytes: 1 << 20, max_age: Duration::from_secs(7_200), ..LIMITS }, true);
    for _ in 0..600 {
        world.push(5);
        world.work();
        world.answer(&Answer::Status(503));
        world.work();
        world.now = world.now.saturating_add(Duration::from_secs(6));
    }
    world.kill();
    world.finish();
    assert_eq!(world.accepted, (0..3_000).collect::<Vec<u64>>(), "after an hour and a restart, in order");
}

#[test]
fn what_is_too_old_is_dropped_from_memory_and_from_the_spool() {
    for has_spool in [false, true] {
        let mut world = World::new(LIMITS, has_spool);
        world.push(9);
        world.work();
        world.answer(&Answer::Status(503));
        world.work();
        world.now = world.now.saturating_add(LIMITS.max_age + Duration::from_secs(1));
        world.push(1);
        world.finish();
        assert_eq!(world.accepted, [9]);
        assert_eq!(world.machine.stats.events.dropped[&DropReason::Expired], 9);
    }
}

#[test]
fn metrics_of_an_outage_are_sent_after_it_and_fewer_of_them_if_it_is_long() {
    for (minutes, received, superseded) in [(4, 12, 0), (5, 15, 6), (60, 36, 24)] {
        let mut world = World::new(LIMITS, false);
        for _ in 0..minutes {
            world.now = world.now.saturating_add(LIMITS.interval);
            world.work();
            world.answer(&Answer::Status(503));
            world.check();
        }
        world.machine.resume();
        send_all(&mut world, |_| Answer::Success);
        let state = &world.machine.stats.state;
        let dropped = state.dropped.get(&DropReason::Superseded).copied().unwrap_or_default();
        assert_eq!((state.received, dropped, state.sent), (received, superseded, received - superseded));
        // Afterwards, at the configured interval again.
        for more in 1..=3 {
            world.now = world.now.saturating_add(LIMITS.interval);
            send_all(&mut world, |_| Answer::Success);
            assert_eq!(world.machine.stats.state.received, received + 3 * more);
        }
    }
}

#[test]
fn metrics_of_an_outage_survive_a_kill_if_there_is_a_spool() {
    for minutes in [1, 4, 60] {
        let mut world = World::new(LIMITS, true);
        for _ in 0..minutes {
            world.now = world.now.saturating_add(LIMITS.interval);
            world.work();
            world.answer(&Answer::Status(503));
            world.work();
            world.check();
            let spooled = world.spool.as_ref().unwrap().size(&state_queue(QUEUE)).unwrap().records;
            assert_eq!(spooled, world.machine.stats().state_queue_length, "the spool has what memory has");
        }
        let times = |world: &World| world.machine.states.iter().map(|reading| reading.state.at).collect::<Vec<_>>();
        let waiting = times(&world);
        world.kill();
        world.work();
        assert_eq!(times(&world), waiting);
        assert!(matches!(&world.sent, Some(Outgoing::State(state)) if state.at == waiting[0]));
        let restored = world.machine.stats.state.restored;
        assert_eq!(restored, 3 * waiting.len() as u64);
        world.answer(&Answer::Success);
        world.finish();
        let state = &world.machine.stats.state;
        assert_eq!((state.sent, state.received), (restored + 3, 3), "with the reading of the flush");
    }
}

#[test]
fn a_copy_of_metrics_in_the_spool_is_kept_until_no_part_of_them_is_left() {
    let mut world = World::new(LIMITS, true);
    world.now = world.now.saturating_add(LIMITS.interval);
    world.work();
    world.answer(&Answer::Status(503));
    world.work();
    world.machine.resume();
    world.work();
    world.answer(&Answer::Partial(vec![0, 2, 0]));
    world.kill();
    world.work();
    assert_eq!(world.machine.stats.state.restored, 3, "the accepted ones are sent again");
    world.answer(&Answer::Success);
    world.finish();
}

#[test]
fn a_damaged_metric_in_the_spool_is_counted_and_the_others_are_sent() {
    let mut world = World::new(LIMITS, true);
    let spool = world.spool.as_ref().unwrap();
    let metric = br#"{"collected_at":1790000000,"at":1789999999,"record":{"metric":{"name":"m","help":"","unit":"none","labels":[],"value":{"gauge":"NaN"}}}}"#;
    spool.append(&state_queue(QUEUE), &[b"{", metric, b""]).unwrap();
    world.work();
    let Some(Outgoing::State(state)) = &world.sent else { panic!("{:?}", world.sent) };
    assert_eq!((state.at, state.metrics.len()), (Timestamp::from_secs(1_789_999_999), 1));
    world.answer(&Answer::Success);
    world.finish();
    let state = &world.machine.stats.state;
    assert_eq!((state.restored, state.dropped[&DropReason::Unreadable]), (3, 2));
}

#[test]
fn metrics_that_are_too_large_together_are_sent_apart() {
    let mut world = World::new(LIMITS, false);
    world.now = world.now.saturating_add(LIMITS.interval);
    let sizes = send_all(&mut world, |size| if size > 1 { Answer::Status(413) } else { Answer::Success });
    assert_eq!((sizes, world.machine.stats.state.sent), (vec![3, 1, 2, 1, 1], 3));
}

#[test]
fn metrics_are_collected_while_the_backend_takes_none() {
    let mut world = World::new(OutboxLimits { queue_state: 1_000, ..LIMITS }, false);
    world.now = world.now.saturating_add(LIMITS.interval);
    world.work();
    let refused = ExportError::Rejected {
        exporter: QUEUE.to_owned(),
        status: 429,
        message: "busy".to_owned(),
        retry_after: Some(Duration::from_secs(600)),
    };
    world.sent = None;
    world.machine.settle(Err(refused), world.now, 0.5);
    for _ in 0..9 {
        world.now = world.now.saturating_add(LIMITS.interval);
        world.work();
        assert!(world.sent.is_none(), "it waits as long as the backend asks");
    }
    world.now = world.now.saturating_add(LIMITS.interval);
    send_all(&mut world, |_| Answer::Success);
    assert_eq!((world.machine.stats.state.received, world.machine.stats.state.sent), (33, 33));
}

/// As where a backend takes events at one address and metrics at another.
#[test]
fn metrics_that_cannot_be_sent_hold_up_no_event() {
    let mut world = World::new(LIMITS, false);
    for round in 1..=5 {
        world.push(4);
        world.now = world.now.saturating_add(LIMITS.interval);
        for _ in 0..4 {
            world.work();
            let is_state = matches!(world.sent, Some(Outgoing::State(_)));
            world.answer(if is_state { &Answer::Status(503) } else { &Answer::Success });
            world.now = world.now.saturating_add(Duration::from_secs(10));
        }
        assert_eq!(world.accepted.len(), 4 * round, "{:?}", world.machine.stats);
    }
    assert_eq!(world.machine.stats.state.sent, 0);
}

#[test]
fn a_full_queue_drops_what_comes_last() {
    let mut world = World::new(LIMITS, false);
    world.push(25);
    assert_eq!(world.machine.stats.events.dropped[&DropReason::QueueFull], 5);
    world.finish();
    assert_eq!(world.accepted, (0..20).collect::<Vec<u64>>());
}
