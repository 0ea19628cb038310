//! Adapters in a runtime: two formats of this build and one of the user's own, with expiry, restarts and reloads.
#![cfg(feature = "langgraph")]

use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use agent_sre::adapter::{
    Adapter, AdapterError, AdapterStats, Body, BodyKind, IngestLimits, IngestReport, OpenRun, RunTracker,
};
use agent_sre::{
    AgentEvent, AgentTotals, Collect, Format, IngestError, MetricValue, Observe, RunLimits, Runtime, RuntimeBuilder,
    RuntimeError, Signal, StateError, StateReader, StateWriter, Timestamp,
};
use serde_json::json;

const START: i64 = 1_790_000_000;
const LIMITS: RunLimits =
    RunLimits { task_timeout: Duration::from_secs(60), max_open_runs: 100, max_open_bytes: 1 << 20 };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(START + seconds)
}

/// The limits of a live service at that second.
fn live(second: i64) -> IngestLimits {
    IngestLimits::live(at(second), Duration::from_secs(300))
}

/// A user's own format: lines such as `1790000000 start job-1`.
struct Jobs(RunTracker<()>);

impl Jobs {
    fn boxed() -> Box<dyn Adapter> {
        Box::new(Self(RunTracker::new(LIMITS)))
    }
}

impl Adapter for Jobs {
    fn ingest_record(
        &mut self,
        record: &[u8],
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<IngestReport, AdapterError> {
        let line = String::from_utf8_lossy(record);
        assert_ne!(line, "panic", "the adapter's mistake");
        let [time, event, job] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(AdapterError::Malformed(format!("found `{line}`, expected a time, an event and a job")));
        };
        let time = Timestamp::from_unix_seconds(time.parse().unwrap()).unwrap();
        limits.check([time])?;
        if self.0.advance(time, limits) {
            self.expire(time, emit);
        }
        if event == "start" {
            let run = OpenRun::native("jobs", job, time, ());
            emit(run.started(None));
            assert!(self.0.open(job, run).is_none());
        } else if let Some(run) = self.0.end(job) {
            emit(run.finished(time, None));
        }
        Ok(IngestReport::accepted())
    }

    fn expire(&mut self, now: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        self.0.expire(now).into_iter().for_each(|(deadline, run)| emit(run.incomplete(deadline)));
    }

    fn finish(&mut self, emit: &mut dyn FnMut(AgentEvent)) {
        self.0.drain().into_iter().for_each(|(end, run)| emit(run.incomplete(end)));
    }

    fn save(&self, state: &mut StateWriter) {
        self.0.save(state);
    }

    fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.0.restore(state)
    }

    fn stats(&self) -> AdapterStats {
        self.0.stats()
    }
}

/// Keeps the events that reach the engines.
#[derive(Default)]
struct Seen(Mutex<Vec<AgentEvent>>);

impl Seen {
    fn json(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|event| json!(event).to_string()).collect()
    }

    /// Returns the task and the second of each end, and whether the task succeeded.
    fn ends(&self) -> Vec<(String, i64, bool)> {
        let end = |event: &AgentEvent| {
            let task = event.native_id.clone().or_else(|| event.task.clone()).unwrap();
            Some((task, event.time.as_secs() - START, event.event.outcome()?))
        };
        self.0.lock().unwrap().iter().filter_map(end).collect()
    }
}

impl Observe for Seen {
    fn observe(&self, event: &AgentEvent, _signals: &mut dyn FnMut(Signal)) {
        self.0.lock().unwrap().push(event.clone());
    }
}

fn builder(seen: &Arc<Seen>) -> RuntimeBuilder {
    Runtime::builder()
        .formats(LIMITS)
        .adapter("jobs", Jobs::boxed())
        .engine(Arc::new(AgentTotals::new(10)))
        .observe(seen.clone())
}

fn native(event: &str, second: i64, task: &str) -> String {
    json!({"event": event, "time": START + second, "agent": "support", "task": task, "success": true}).to_string()
}

fn langgraph(event: &str, second: i64, run: &str) -> String {
    json!({"event": event, "time": START + second, "name": "planner", "run_id": run, "parent_ids": [], "data": {}})
        .to_string()
}

fn job(event: &str, second: i64, job: &str) -> String {
    format!("{} {event} {job}", START + second)
}

fn body(lines: &[String]) -> Body {
    Body::new(BodyKind::Lines, lines.join("\n"))
}

fn counts(report: &IngestReport) -> (u64, u64) {
    (report.accepted, report.rejected)
}

/// What arrives at the tenth second, by adapter.
fn first() -> [(&'static str, Vec<String>); 3] {
    [
        ("sre", vec![native("task_started", 1, "1"), native("task_started", 2, "2"), native("task_finished", 3, "1")]),
        ("langgraph", vec![langgraph("on_chain_start", 4, "graph"), "{".to_owned()]),
        ("jobs", vec![job("start", 5, "job-1"), job("start", 6, "job-2"), job("end", 7, "job-1")]),
    ]
}

fn open_runs(runtime: &Runtime) -> Vec<(&str, usize)> {
    let open = runtime.adapter_stats().map(|(name, stats)| (name, stats.open_runs));
    open.filter(|(_, open)| *open > 0).collect()
}

fn save(runtime: &Runtime) -> Vec<u8> {
    let mut state = StateWriter::default();
    runtime.save(&mut state);
    state.finish().unwrap()
}

fn restore(runtime: &Runtime, state: &[u8]) -> Vec<String> {
    let restored = |section: Result<(&str, StateReader<'_>), StateError>| {
        let (name, mut state) = section.unwrap();
        (!runtime.restore(name, &mut state).unwrap()).then(|| name.to_owned())
    };
    StateReader::new(state).sections().filter_map(restored).collect()
}

#[test]
fn runs_of_three_adapters_survive_a_restart_and_time_out() {
    let seen = Arc::new(Seen::default());
    let before = builder(&seen).build().unwrap();
    for (adapter, lines) in first() {
        let report = before.ingest_body(adapter, body(&lines), &live(10)).unwrap();
        let is_cut = lines.last().unwrap() == "{";
        assert_eq!(counts(&report), (lines.len() as u64 - u64::from(is_cut), u64::from(is_cut)), "{adapter}");
        assert_eq!(report.errors.first().map(|error| error.line), is_cut.then_some(2), "{adapter}");
    }
    assert_eq!(open_runs(&before), [("sre", 1), ("langgraph", 1), ("jobs", 1)]);
    let state = save(&before);
    drop(before);

    let after = builder(&seen).build().unwrap();
    assert_eq!(restore(&after, &state), Vec::<String>::new());
    assert_eq!(open_runs(&after), [("sre", 1), ("langgraph", 1), ("jobs", 1)]);
    let end = langgraph("on_chain_end", 20, "graph");
    let report = after.ingest_record("langgraph", end.as_bytes(), &live(20)).unwrap();
    assert_eq!(counts(&report), (1, 0));
    // A minute after they have arrived at the tenth second.
    after.evaluate_engines(at(71));
    after.evaluate(at(70));
    assert_eq!(open_runs(&after), [("sre", 1), ("jobs", 1)]);
    after.evaluate(at(71));
    assert_eq!(open_runs(&after), []);
    let ends = seen.ends();
    let ends: Vec<(&str, i64, bool)> =
        ends.iter().map(|(task, second, success)| (&**task, *second, *success)).collect();
    // Those without an end have failed a minute after their start.
    let expected = [("1", 3, true), ("job-1", 7, true), ("graph", 20, true), ("2", 62, false), ("job-2", 66, false)];
    assert_eq!(ends, expected);
    let totals = after.get::<AgentTotals>().unwrap().totals();
    assert_eq!((totals.tasks, totals.succeeded, totals.incomplete), (5, 3, 2));
}

#[test]
fn the_events_are_those_of_the_adapters_alone() {
    let (together, alone) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    let runtime = builder(&together).build().unwrap();
    let format = |name: &str| name.parse::<Format>().unwrap().adapter(LIMITS);
    let mut adapters = [("sre", format("sre")), ("langgraph", format("langgraph")), ("jobs", Jobs::boxed())];
    let mut keep = |event| alone.observe(&event, &mut |_| {});
    for ((name, lines), (of, adapter)) in first().iter().zip(&mut adapters) {
        assert_eq!(name, of);
        let report = runtime.ingest_body(name, body(lines), &IngestLimits::default()).unwrap();
        assert_eq!(report, adapter.ingest_body(body(lines), &IngestLimits::default(), &mut keep).unwrap());
    }
    runtime.finish();
    adapters.iter_mut().for_each(|(_, adapter)| adapter.finish(&mut keep));
    assert_eq!(together.json(), alone.json());
    assert_eq!(together.ends().len(), 5);
    assert_eq!(open_runs(&runtime), []);
}

#[test]
fn a_stage_knows_the_adapter_of_an_event_also_when_its_run_times_out() {
    let (seen, sources) = (Arc::new(Seen::default()), Arc::new(Mutex::new(Vec::new())));
    let all = sources.clone();
    let stage = move |adapter: &str, event: &mut AgentEvent| {
        all.lock().unwrap().push(adapter.to_owned());
        event.agent = format!("{} of {adapter}", event.agent);
        adapter != "langgraph"
    };
    let runtime = builder(&seen).adapter_stage(stage).build().unwrap();
    for (adapter, lines) in first() {
        runtime.ingest_body(adapter, body(&lines), &live(10)).unwrap();
    }
    runtime.evaluate(at(71));
    runtime.record(AgentEvent::from_json(native("heartbeat", 80, "3").as_bytes()).unwrap());
    let mut expected = vec!["sre"; 3];
    expected.extend(["langgraph", "jobs", "jobs", "jobs", "sre", "langgraph", "jobs"]);
    assert_eq!(*sources.lock().unwrap(), expected);
    let agents: Vec<String> = seen.0.lock().unwrap().iter().map(|event| event.agent.clone()).collect();
    assert_eq!(agents.iter().filter(|agent| *agent == "support of sre").count(), 4);
    assert_eq!(agents.iter().filter(|agent| *agent == "jobs of jobs").count(), 4);
    assert_eq!((agents.len(), &*agents[8]), (9, "support"), "an event of no adapter");
    assert_eq!(metric(&runtime, "sre.stage.dropped_events", &[]), Some(2.0));
}

fn metric(runtime: &Runtime, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut found = None;
    runtime.metrics(at(0), &mut |metric| {
        let is_labelled = metric.labels.iter().map(|(name, value)| (&**name, &**value)).eq(labels.iter().copied());
        if metric.name == name && is_labelled {
            found = match metric.value {
                MetricValue::Gauge(value) | MetricValue::Counter(value) => Some(value),
                _ => None,
            };
        }
    });
    found
}

#[test]
fn metrics_are_those_of_each_adapter() {
    let runtime = builder(&Arc::default()).build().unwrap();
    let lines = [job("start", 1, "job-1"), job("end", 2, "job-2"), job("end", 3, "job-3")];
    runtime.ingest_body("jobs", body(&lines), &IngestLimits::default()).unwrap();
    let of = |name, adapter| metric(&runtime, name, &[("adapter", adapter)]);
    assert_eq!(of("sre.adapter.open_runs", "jobs"), Some(1.0));
    assert_eq!(of("sre.adapter.unmatched_records", "jobs"), Some(2.0));
    assert_eq!(of("sre.adapter.open_runs", "sre"), Some(0.0));
}

#[test]
fn a_runtime_that_is_replaced_hands_over_its_open_runs() {
    let (seen, later) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    let (old, new) = (builder(&seen).build().unwrap(), builder(&later).build().unwrap());
    for (adapter, lines) in first() {
        old.ingest_body(adapter, body(&lines), &live(10)).unwrap();
    }
    old.hand_over_to(&new).unwrap();
    assert_eq!((open_runs(&old), open_runs(&new)), (vec![], vec![("sre", 1), ("langgraph", 1), ("jobs", 1)]));
    [&old, &new].iter().for_each(|runtime| runtime.finish());
    assert_eq!((seen.ends().len(), later.ends().len()), (2, 3));
    let totals = new.get::<AgentTotals>().unwrap().totals();
    assert_eq!((totals.tasks, totals.incomplete), (5, 3));
}

#[test]
fn an_adapter_that_panics_stops_no_other() {
    std::panic::set_hook(Box::new(|_| {}));
    let seen = Arc::new(Seen::default());
    let runtime = builder(&seen).build().unwrap();
    let lines = [job("start", 1, "job-1"), "panic".to_owned(), job("start", 2, "job-2")];
    let error = runtime.ingest_body("jobs", body(&lines), &live(10)).unwrap_err();
    assert_eq!(error.to_string(), "the adapter `jobs` panicked; please report this bug");
    assert_eq!((runtime.panics(), seen.json().len()), (1, 1));
    runtime.ingest_body("jobs", body(&[job("end", 3, "job-1")]), &live(10)).unwrap();
    runtime.ingest_body("sre", body(&first()[0].1), &live(10)).unwrap();
    assert_eq!(seen.ends().len(), 2);
}

#[test]
fn names_are_checked() {
    let runtime = Runtime::builder().adapter("jobs", Jobs::boxed()).adapter("more", Jobs::boxed()).build().unwrap();
    let error = runtime.ingest_record("job", b"", &IngestLimits::default()).unwrap_err();
    assert_eq!(error.to_string(), "found the adapter `job`, expected one of jobs, more");
    let error = Runtime::builder().build().unwrap().ingest_record("job", b"", &IngestLimits::default()).unwrap_err();
    assert!(matches!(error, IngestError::UnknownAdapter { .. }));
    assert_eq!(error.to_string(), "found the adapter `job`, expected none, because the runtime has no adapter");
    let twice = Runtime::builder().formats(LIMITS).adapter("sre", Jobs::boxed()).build().unwrap_err();
    assert!(matches!(twice, RuntimeError::DuplicateName(name) if name == "adapter sre"));
}

#[test]
fn the_runs_of_an_adapter_that_is_gone_are_skipped() {
    let before = Runtime::builder().adapter("gone", Jobs::boxed()).adapter("jobs", Jobs::boxed()).build().unwrap();
    for adapter in ["gone", "jobs"] {
        before.ingest_body(adapter, body(&[job("start", 1, "job-1")]), &live(10)).unwrap();
    }
    let after = Runtime::builder().adapter("jobs", Jobs::boxed()).build().unwrap();
    assert_eq!(restore(&after, &save(&before)), ["adapters"]);
    assert_eq!(open_runs(&after), [("jobs", 1)]);
}

/// Reads the counters and metrics of the runtime at every event.
#[derive(Default)]
struct Reader {
    runtime: OnceLock<Weak<Runtime>>,
    read: Mutex<Vec<Option<f64>>>,
}

impl Observe for Reader {
    fn observe(&self, _event: &AgentEvent, _signals: &mut dyn FnMut(Signal)) {
        let runtime = self.runtime.get().unwrap().upgrade().unwrap();
        assert!(open_runs(&runtime).is_empty());
        self.read.lock().unwrap().push(metric(&runtime, "sre.adapter.open_runs", &[("adapter", "jobs")]));
    }
}

#[test]
fn counters_can_be_read_while_an_adapter_reads() {
    let reader = Arc::new(Reader::default());
    let runtime = Arc::new(Runtime::builder().adapter("jobs", Jobs::boxed()).observe(reader.clone()).build().unwrap());
    reader.runtime.set(Arc::downgrade(&runtime)).unwrap();
    let lines = [job("start", 1, "job-1"), job("start", 2, "job-2")];
    runtime.ingest_body("jobs", body(&lines), &live(10)).unwrap();
    assert_eq!(*reader.read.lock().unwrap(), [Some(0.0), Some(0.0)], "those before the body");
    assert_eq!(open_runs(&runtime), [("jobs", 2)]);
}
