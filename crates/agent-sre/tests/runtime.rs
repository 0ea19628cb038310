//! A runtime connects its parts and loses no signal, however its handlers behave.
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_sre::event::{HttpRequest, TaskFinished};
use agent_sre::{
    AgentEvent, Collect, EngineSettings, Event, MemorySpool, Metric, Observe, Persist, Phase, Redaction, Replacement,
    Runtime, RuntimeError, Severity, Signal, SignalHandler, StateError, StateReader, StateWriter, Timestamp,
};

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

/// An engine with `count` incidents, which all fire or are all resolved.
struct Objectives {
    count: usize,
    is_failing: AtomicBool,
}

impl Objectives {
    fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { count, is_failing: AtomicBool::new(false) })
    }

    fn signal(&self, number: usize) -> Signal {
        let key = format!("slo/{number}");
        match self.is_failing.load(Ordering::SeqCst) {
            true => Signal::firing("test", key, Severity::Critical, NOW),
            false => Signal::resolved("test", key, NOW),
        }
    }
}

impl Observe for Objectives {
    fn observe(&self, event: &AgentEvent, signals: &mut dyn FnMut(Signal)) {
        self.is_failing.store(event.agent == "failing", Ordering::SeqCst);
        (0..self.count).for_each(|number| signals(self.signal(number)));
    }

    fn reassert(&self, signals: &mut dyn FnMut(Signal)) {
        (0..self.count).for_each(|number| signals(self.signal(number)));
    }
}

impl Collect for Objectives {
    fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        emit(Metric::gauge("test.objectives", self.count as f64));
    }
}

impl Persist for Objectives {
    fn name(&self) -> Cow<'_, str> {
        "objectives".into()
    }

    fn save(&self, state: &mut StateWriter) {
        state.put(&self.is_failing.load(Ordering::SeqCst));
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.is_failing.store(state.take()?, Ordering::SeqCst);
        Ok(())
    }
}

fn event(agent: &str) -> AgentEvent {
    AgentEvent::new(NOW, agent, agent_sre::event::Heartbeat::default())
}

/// Records the phases of signals, by key.
#[derive(Default)]
struct Receiver(Mutex<BTreeMap<String, Vec<Phase>>>);

impl SignalHandler for Receiver {
    fn handle(&self, signals: &[Signal], _emit: &mut dyn FnMut(Signal)) {
        let mut seen = self.0.lock().unwrap();
        for signal in signals {
            seen.entry(signal.key.clone()).or_default().push(signal.phase);
        }
    }
}

#[test]
fn ten_thousand_incidents_in_one_tick_reach_a_slow_handler_and_one_that_panics() {
    const COUNT: usize = 10_000;
    std::panic::set_hook(Box::new(|_| {}));
    let engine = Objectives::new(COUNT);
    let (slow, panicking) = (Arc::new(Receiver::default()), Arc::new(Receiver::default()));
    let (open, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let (to_slow, to_panicking) = (slow.clone(), panicking.clone());
    let calls = AtomicU64::new(0);
    struct Slow<F>(F);
    impl<F: Fn(&[Signal]) + Send + Sync> SignalHandler for Slow<F> {
        fn handle(&self, signals: &[Signal], _emit: &mut dyn FnMut(Signal)) {
            self.0(signals);
        }
    }
    let runtime = Runtime::builder()
        .engine(engine)
        .handle(
            "slow",
            Arc::new(Slow(move |signals: &[Signal]| {
                let _ = gate.lock().unwrap().recv();
                to_slow.handle(signals, &mut |_| {});
            })),
        )
        .handle(
            "panicking",
            Arc::new(Slow(move |signals: &[Signal]| {
                // Once in three calls, before it has done anything.
                assert!(!calls.fetch_add(1, Ordering::SeqCst).is_multiple_of(3), "a handler's mistake");
                to_panicking.handle(signals, &mut |_| {});
            })),
        )
        .build()
        .unwrap();
    runtime.record(event("failing"));
    runtime.record(event("recovered"));
    drop(open);
    runtime.shutdown();
    for receiver in [slow, panicking] {
        let seen = receiver.0.lock().unwrap();
        assert_eq!(seen.len(), COUNT);
        assert!(seen.values().all(|phases| phases[..] == [Phase::Firing, Phase::Resolved]), "one begin, one end");
    }
}

#[test]
fn after_a_restart_what_still_fires_is_asserted_again() {
    let engine = Objectives::new(2);
    engine.is_failing.store(true, Ordering::SeqCst);
    let mut state = StateWriter::default();
    Runtime::builder().engine(engine).build().unwrap().save(&mut state);
    let state = state.finish().unwrap();

    let (engine, receiver) = (Objectives::new(2), Arc::new(Receiver::default()));
    let runtime = Runtime::builder().engine(engine).handle("receiver", receiver.clone()).build().unwrap();
    for section in StateReader::new(&state).sections() {
        let (name, mut part) = section.unwrap();
        assert!(runtime.restore(name, &mut part).unwrap());
    }
    for second in [0, 30, 59, 60, 130] {
        runtime.evaluate(Timestamp::from_secs(NOW.as_secs() + second));
        assert!(runtime.flush(Duration::from_secs(60)));
    }
    runtime.shutdown();
    let seen = receiver.0.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(
        seen.values().all(|phases| phases[..] == [Phase::Firing; 3]),
        "at 0, 60 and 130 s: a handler may have lost it"
    );
}

#[test]
fn one_offs_of_one_time_have_keys_of_their_own() {
    let seen = Arc::new(Receiver::default());
    let runtime = Runtime::builder().handle("receiver", seen.clone()).build().unwrap();
    for second in [0, 0, 0, 1] {
        runtime.signal(Signal::one_off("test", "unusual", Severity::Warning, Timestamp::from_secs(second)));
    }
    runtime.shutdown();
    let seen = seen.0.lock().unwrap();
    let keys: Vec<&str> = seen.keys().map(String::as_str).collect();
    let (first, second) = ("unusual/1970-01-01T00:00:00Z", "unusual/1970-01-01T00:00:01Z");
    assert_eq!(keys, [first, &format!("{first}/2"), &format!("{first}/3"), second]);
}

#[test]
fn a_runtime_that_is_replaced_hands_over_what_it_has_not_handled() {
    let (open, gate) = std::sync::mpsc::channel();
    let (before, after) = (Arc::new(Receiver::default()), Arc::new(Receiver::default()));
    let gated = Arc::new(Gated(Mutex::new(gate), before.clone()));
    let old = Runtime::builder().handle("receiver", gated).build().unwrap();
    let at = Timestamp::from_secs;
    old.signal(Signal::firing("test", "a", Severity::Critical, at(1)));
    // The handler waits with it at the gate, and the others behind it.
    while old.handler_stats()[0].queued > 0 {
        std::thread::yield_now();
    }
    old.signal(Signal::resolved("test", "a", at(2)));
    old.signal(Signal::one_off("test", "b", Severity::Info, at(3)));
    let (reopen, closed) = std::sync::mpsc::channel();
    let gated = Arc::new(Gated(Mutex::new(closed), after.clone()));
    let new = Runtime::builder().handle("receiver", gated).build().unwrap();
    old.hand_over_to(&new).unwrap();
    // A kill now loses nothing: the state of the new runtime has all of them.
    let mut state = StateWriter::default();
    new.save(&mut state);
    let saved = String::from_utf8_lossy(&state.finish().unwrap()).into_owned();
    assert!(["\"firing\"", "\"resolved\"", "\"one_off\""].iter().all(|phase| saved.contains(phase)), "{saved}");
    drop((open, reopen));
    old.shutdown();
    new.shutdown();
    let phases = |receiver: &Receiver, key: &str| receiver.0.lock().unwrap().get(key).cloned().unwrap_or_default();
    assert_eq!(phases(&before, "a"), [Phase::Firing], "was being handled");
    assert_eq!(phases(&after, "a"), [Phase::Firing, Phase::Resolved]);
    assert_eq!(phases(&after, "b/1970-01-01T00:00:03Z"), [Phase::OneOff]);
}

/// A closed gate in front of a receiver: it handles nothing until the gate's other end is dropped.
struct Gated(Mutex<std::sync::mpsc::Receiver<()>>, Arc<Receiver>);

impl SignalHandler for Gated {
    fn handle(&self, signals: &[Signal], emit: &mut dyn FnMut(Signal)) {
        let _ = self.0.lock().unwrap().recv();
        self.1.handle(signals, emit);
    }
}

#[test]
fn signals_that_were_not_handled_survive_a_restart() {
    let (open, gate) = channel::<()>();
    let handler = Arc::new(Gated(Mutex::new(gate), Arc::default()));
    let runtime = Runtime::builder().engine(Objectives::new(3)).handle("receiver", handler).build().unwrap();
    runtime.record(event("failing"));
    runtime.record(event("recovered"));
    (0..2).for_each(|second| {
        runtime.signal(Signal::one_off("test", "one", Severity::Info, Timestamp::from_secs(second)));
    });
    let mut state = StateWriter::default();
    runtime.save(&mut state);
    let state = state.finish().unwrap();
    drop(open);

    // The engine itself would only re-send that its incidents are over.
    let receiver = Arc::new(Receiver::default());
    let runtime = Runtime::builder().engine(Objectives::new(3)).handle("receiver", receiver.clone()).build().unwrap();
    for section in StateReader::new(&state).sections() {
        let (name, mut part) = section.unwrap();
        assert!(runtime.restore(name, &mut part).unwrap());
    }
    runtime.evaluate(NOW);
    runtime.shutdown();
    let seen = receiver.0.lock().unwrap();
    let expected = BTreeMap::from([
        ("slo/0".to_owned(), vec![Phase::Firing, Phase::Resolved]),
        ("slo/1".to_owned(), vec![Phase::Firing, Phase::Resolved]),
        ("slo/2".to_owned(), vec![Phase::Firing, Phase::Resolved]),
        ("one/1970-01-01T00:00:00Z".to_owned(), vec![Phase::OneOff]),
        ("one/1970-01-01T00:00:01Z".to_owned(), vec![Phase::OneOff]),
    ]);
    assert_eq!(*seen, expected);
}

#[cfg(feature = "cost")]
#[test]
fn what_a_restart_itself_raises_comes_after_the_signals_that_were_not_handled() {
    use agent_sre::cost::{CostGuard, Limits};
    use agent_sre::{ManualClock, Usd};

    let runtime = |limit: i64, handler: Arc<dyn SignalHandler>| {
        let settings = EngineSettings {
            clock: Arc::new(ManualClock::new(NOW)),
            limits: Some(Limits { per_agent_daily: Usd::from_nanos(limit), ..Limits::default() }),
            ..EngineSettings::default()
        };
        Runtime::builder().engines(&settings).unwrap().handle("receiver", handler).build().unwrap()
    };
    let (open, gate) = channel::<()>();
    let before = runtime(1_000_000_000, Arc::new(Gated(Mutex::new(gate), Arc::default())));
    before.get::<CostGuard>().unwrap().record_cost("a", "t", Usd::from_nanos(990_000_000), &[]).unwrap();
    let mut state = StateWriter::default();
    before.save(&mut state);
    drop(open);

    // The agent is within the new limit, which the restart notices.
    let receiver = Arc::new(Receiver::default());
    let after = runtime(100_000_000_000, receiver.clone());
    for section in StateReader::new(&state.finish().unwrap()).sections() {
        let (name, mut part) = section.unwrap();
        assert!(after.restore(name, &mut part).unwrap());
        assert!(after.flush(Duration::from_secs(60)), "a handler may be faster than the restart");
    }
    after.evaluate(NOW);
    after.shutdown();
    let phases = receiver.0.lock().unwrap()["cost/agent a/status"].clone();
    assert_eq!((phases[0], phases.last()), (Phase::Firing, Some(&Phase::Resolved)));
}

#[test]
fn handlers_that_answer_each_other_come_to_an_end() {
    struct Answers(AtomicU64);
    impl SignalHandler for Answers {
        fn handle(&self, signals: &[Signal], emit: &mut dyn FnMut(Signal)) {
            for signal in signals {
                self.0.fetch_add(1, Ordering::SeqCst);
                emit(Signal::one_off("answer", "answer", Severity::Info, signal.time));
            }
        }
    }
    let answers = [(); 2].map(|()| Arc::new(Answers(AtomicU64::new(0))));
    let [first, second] = answers.clone();
    let runtime = Runtime::builder().handle("first", first).handle("second", second).build().unwrap();
    runtime.signal(Signal::one_off("test", "question", Severity::Info, NOW));
    assert!(runtime.flush(std::time::Duration::from_secs(60)));
    let dropped: u64 = runtime.handler_stats().iter().map(|stats| stats.dropped).sum();
    runtime.shutdown();
    // The question, and sixteen answers to each handler's first one.
    assert_eq!(answers.map(|handler| handler.0.load(Ordering::SeqCst)), [17, 17]);
    assert_eq!(dropped, 2, "the seventeenth answers");
}

/// Freezes deploys while anything fires, and raises a signal for it.
struct Freeze;

impl SignalHandler for Freeze {
    fn handle(&self, signals: &[Signal], emit: &mut dyn FnMut(Signal)) {
        for signal in signals.iter().filter(|signal| signal.source == "test") {
            emit(match signal.phase {
                Phase::Firing => Signal::firing("freeze", "freeze", Severity::Warning, signal.time),
                _ => Signal::resolved("freeze", "freeze", signal.time),
            });
        }
    }
}

#[test]
fn a_handler_may_raise_signals_which_every_other_handler_gets() {
    let (receiver, raised) = (Arc::new(Receiver::default()), Arc::new(AtomicU64::new(0)));
    let runtime = Runtime::builder().engine(Objectives::new(1)).handle("receiver", receiver.clone());
    let own = raised.clone();
    struct Counting(Freeze, Arc<AtomicU64>);
    impl SignalHandler for Counting {
        fn handle(&self, signals: &[Signal], emit: &mut dyn FnMut(Signal)) {
            let own = signals.iter().filter(|signal| signal.source == "freeze").count();
            self.1.fetch_add(own as u64, Ordering::SeqCst);
            self.0.handle(signals, emit);
        }
    }
    let runtime = runtime.handle("freeze", Arc::new(Counting(Freeze, own))).build().unwrap();
    runtime.record(event("failing"));
    runtime.record(event("recovered"));
    runtime.shutdown();
    assert_eq!(receiver.0.lock().unwrap()["freeze"], [Phase::Firing, Phase::Resolved]);
    assert_eq!(raised.load(Ordering::SeqCst), 0, "no handler is given what it raised itself");
}

#[test]
fn one_offs_beyond_what_memory_holds_wait_in_the_spool() {
    let (open, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let handled = Arc::new(Mutex::new(Vec::new()));
    let seen = handled.clone();
    let handler = move |signal: &Signal| {
        let _ = gate.lock().unwrap().recv();
        seen.lock().unwrap().push(signal.time.as_secs());
    };
    let spool = Arc::new(MemorySpool::default());
    let runtime = Runtime::builder().handle("gated", Arc::new(handler)).spool(spool).build().unwrap();
    for number in 0..25_000 {
        runtime.signal(Signal::one_off("test", "one", Severity::Info, Timestamp::from_secs(number)));
    }
    assert!(runtime.handler_stats()[0].spooled > 10_000, "{:?}", runtime.handler_stats());
    drop(open);
    runtime.shutdown();
    assert!(handled.lock().unwrap().iter().copied().eq(0..25_000), "all of them, in order");
}

#[test]
fn stages_change_and_drop_events_and_a_panicking_engine_harms_no_other() {
    struct Broken;
    impl Observe for Broken {
        fn observe(&self, _: &AgentEvent, _: &mut dyn FnMut(Signal)) {
            panic!("an engine's mistake");
        }
    }
    std::panic::set_hook(Box::new(|_| {}));
    let receiver = Arc::new(Receiver::default());
    let runtime = Runtime::builder()
        .observe(Arc::new(Broken))
        .engine(Objectives::new(1))
        .stage(Arc::new(|event: &mut AgentEvent| event.agent != "dropped"))
        .stage(Arc::new(|event: &mut AgentEvent| {
            event.agent = "failing".into();
            true
        }))
        .handle("receiver", receiver.clone())
        .build()
        .unwrap();
    runtime.record(event("dropped"));
    runtime.record(event("renamed"));
    let mut values = BTreeMap::new();
    runtime.metrics(NOW, &mut |metric| {
        values.insert(metric.prometheus_name(), metric.value);
    });
    let counter = |value| agent_sre::MetricValue::Counter(value);
    assert_eq!(values["sre_events_total"], counter(1.0));
    assert_eq!(values["sre_stage_dropped_events_total"], counter(1.0));
    assert_eq!(values["sre_panics_total"], counter(1.0));
    assert_eq!(values["test_objectives"], agent_sre::MetricValue::Gauge(1.0));
    assert_eq!(runtime.get::<Objectives>().unwrap().count, 1);
    runtime.shutdown();
    assert_eq!(receiver.0.lock().unwrap()["slo/0"], [Phase::Firing]);
}

#[test]
fn two_parts_of_one_name_are_refused() {
    let twice = Runtime::builder().engine(Objectives::new(1)).engine(Objectives::new(2)).build();
    assert!(matches!(twice, Err(RuntimeError::DuplicateName(name)) if name == "objectives"));
}

#[cfg(feature = "http")]
#[test]
fn an_exporter_is_given_events_and_what_everything_says_of_itself() {
    use std::time::Duration;

    use agent_sre::http::OutboxOptions;
    use agent_sre::{ExportBatch, ExportError, ExportReport, Exporter, HttpClient, NoHttp, Wants};

    #[derive(Debug, Default)]
    struct Memory(Mutex<(Vec<String>, Vec<String>)>);

    #[async_trait::async_trait]
    impl Exporter for Memory {
        fn name(&self) -> &str {
            "memory"
        }

        fn wants(&self) -> Wants {
            Wants::EVENTS.and_metrics()
        }

        async fn export(&self, batch: &ExportBatch<'_>, _http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
            let (agents, metrics) = &mut *self.0.lock().unwrap();
            agents.extend(batch.events.iter().map(|event| event.agent.clone()));
            metrics.extend(batch.metrics.iter().map(|metric| metric.name.to_string()));
            Ok(ExportReport::accepted(batch.len()))
        }
    }

    let memory = Arc::new(Memory::default());
    let options = OutboxOptions { shutdown_timeout: Duration::from_secs(60), ..OutboxOptions::default() };
    let runtime = Runtime::builder().engine(Objectives::new(1)).handle("receiver", Arc::new(Receiver::default()));
    let runtime = runtime.export(memory.clone(), Arc::new(NoHttp), options).build().unwrap();
    ["failing", "recovered"].into_iter().for_each(|agent| runtime.record(event(agent)));
    let mut names = Vec::new();
    runtime.metrics(NOW, &mut |metric| names.push(metric.name.to_string()));
    assert!(names.iter().any(|name| name == "sre.exporter.queue_length"), "{names:?}");
    runtime.shutdown();
    let (agents, metrics) = &*memory.0.lock().unwrap();
    assert_eq!(agents[..], ["failing", "recovered"]);
    for metric in ["test.objectives", "sre.events", "sre.panics", "sre.signal_handler.handled"] {
        assert!(metrics.iter().any(|name| name == metric), "{metric} in {metrics:?}");
    }
}

/// Counts how often the signals of its incidents are re-sent.
#[derive(Default)]
struct Reasserted(AtomicUsize);

impl Observe for Reasserted {
    fn observe(&self, _event: &AgentEvent, _signals: &mut dyn FnMut(Signal)) {}

    fn reassert(&self, _signals: &mut dyn FnMut(Signal)) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn what_fires_is_asserted_again_every_minute_and_not_sooner() {
    let part = Arc::new(Reasserted::default());
    let runtime = Runtime::builder().observe(part.clone()).build().unwrap();
    let mut asserted = Vec::new();
    for second in 0..=180 {
        let before = part.0.load(Ordering::SeqCst);
        runtime.evaluate(Timestamp::from_secs(1_790_000_000 + second));
        if part.0.load(Ordering::SeqCst) > before {
            asserted.push(second);
        }
    }
    assert_eq!(asserted, [0, 60, 120, 180]);
    runtime.evaluate(Timestamp::from_secs(1_790_000_000 - 7_200));
    assert_eq!(part.0.load(Ordering::SeqCst), 5, "after the clock was set back");
}

/// Keeps the events that reach the engines.
#[derive(Default)]
struct Seen(Mutex<Vec<AgentEvent>>);

impl Observe for Seen {
    fn observe(&self, event: &AgentEvent, _signals: &mut dyn FnMut(Signal)) {
        self.0.lock().unwrap().push(event.clone());
    }
}

#[test]
fn what_is_redacted_reaches_no_engine() {
    const SECRET: &str = "ann@example.com";
    let seen = |replacement| {
        let settings = EngineSettings {
            redaction: Some(Redaction {
                attributes: vec!["user".into(), "prompt.*".into()],
                texts: true,
                replacement,
                ..Redaction::default()
            }),
            ..EngineSettings::default()
        };
        let seen = Arc::new(Seen::default());
        let runtime = Runtime::builder().engines(&settings).unwrap().observe(seen.clone()).build().unwrap();
        let mut task = TaskFinished::new(false);
        task.error = Some(format!("no such user: {SECRET}"));
        let mut request = HttpRequest::new(format!("https://crm.example/?user={SECRET}"));
        request.error = Some(SECRET.to_owned());
        for event in [Event::from(task), request.into()] {
            let mut event = AgentEvent::new(NOW, "support", event);
            for key in ["user", "prompt.0", "prompt.1.content"] {
                event.attributes.insert(key.to_owned(), SECRET.into());
            }
            event.attributes.insert("team".to_owned(), "sales".into());
            event.attributes.insert("users".to_owned(), 7.into());
            runtime.record(event);
        }
        drop(runtime);
        Arc::into_inner(seen).unwrap().0.into_inner().unwrap()
    };
    for replacement in [Replacement::Remove, Replacement::Hash] {
        let events = seen(replacement);
        let json = serde_json::to_string(&events).unwrap();
        assert!(!json.contains("ann") && json.contains("redacted"), "{json}");
        let keys: Vec<&String> = events[0].attributes.keys().collect();
        match replacement {
            Replacement::Remove => assert_eq!(keys, ["team", "users"]),
            _ => {
                assert_eq!(keys, ["prompt.0", "prompt.1.content", "team", "user", "users"]);
                let of_user = &events[0].attributes["user"];
                assert_eq!(of_user, "redacted-0ab5d234f231e38c90bceb2c52543c0a");
                assert_eq!((of_user, of_user), (&events[0].attributes["prompt.0"], &events[1].attributes["user"]));
            }
        }
        assert!(matches!(&events[0].event, Event::TaskFinished(task) if !task.success), "the verdict stays");
    }
}
