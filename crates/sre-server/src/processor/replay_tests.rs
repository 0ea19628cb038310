//! A service that is killed after any entry of its journal, restores its last snapshot and replays the journal is in the same state as
//! one that was not killed: with every format, jumps of time, settings that come and go, and snapshots that fail.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use agent_sre::ManualClock;
use agent_sre::adapter::{Body, BodyKind};
use proptest::prelude::*;
use regex::{NoExpand, Regex};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::batch::key_of;
use crate::event_checks::EventChecks;
use crate::journal_clock::JournalClock;
use crate::service_time::{Clocks, following, whole_second};
use crate::{Config, ServerLimits};

const START: i64 = 1_795_500_000;
/// As in the pipeline.
const IDLE_SNAPSHOT_INTERVAL: Duration = Duration::from_secs(300);
const PATIENCE: Duration = Duration::from_secs(60);

const SLOS: &str = "
name: answers
target: 0.9
error_budget_policy: {exhaustion_action: circuit_break, min_events: 2}
indicators:
  - {type: task_success_rate, target: 0.9}
  - {type: tool_call_accuracy, target: 0.9}
  - {type: response_latency, target_ms: 500}
  - {type: cost_per_task, target_usd: 0.5}
  - {type: hallucination_rate, target: 0.1}
  - {type: steps_per_task, max_steps: 2}
  - {type: repeated_tool_calls, max_repeats: 1}
---
name: cheap
target: 0.5
good_when: {max_cost_usd: 0.5}
error_budget_policy: {exhaustion_action: throttle, min_events: 1}
calendar: {start: '2026-01-01', period: 1M}
---
name: slices
target: 0.99
good_when: {event: tool_call}
time_slices: {window: 1m, target: 0.5}
";
const LIMITS: &str = "{per_task: 1, per_agent_daily: 3, org_monthly: 20, anomaly_detection: false}";
const BREAKERS: &str = "{failure_threshold: 2, recovery_timeout: 1m, models: {window: {calls: 4, minimum_calls: 2}}, cascade: {open_callers: true}}";

/// What happens before a batch.
#[derive(Clone, Debug)]
enum Gap {
    /// The service runs for this time, in milliseconds.
    Run(u64),
    /// The clock is set, or nobody ran for this time, in seconds.
    Step(i64),
}

#[derive(Clone, Debug)]
struct Record {
    kind: usize,
    agent: u8,
    task: u8,
    /// How far its time is behind the service's, in seconds.
    age: i64,
}

#[derive(Clone, Debug)]
struct Step {
    gap: Gap,
    /// The settings that are read before the batch, by their number.
    settings: Option<usize>,
    /// The number of the format.
    format: usize,
    records: Vec<Record>,
    key: Option<u8>,
    /// A snapshot is tried after the batch.
    is_snapshot_due: bool,
    /// No snapshot can be written before and after the batch.
    do_snapshots_fail: bool,
}

fn gap() -> impl Strategy<Value = Gap> {
    prop_oneof![
        6 => (0_u64..4_000).prop_map(Gap::Run),
        4 => (4_000_u64..200_000).prop_map(Gap::Run),
        1 => (200_000_u64..1_800_000).prop_map(Gap::Run),
        2 => (-600_i64..90_000).prop_map(Gap::Step),
        2 => (-90_000_i64..-600).prop_map(Gap::Step),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let age = prop_oneof![6 => Just(0_i64), 2 => 0_i64..100, 1 => Just(3 * 3_600), 1 => -250_i64..0, 1 => Just(-400)];
    (0_usize..9, 0_u8..3, 0_u8..4, age).prop_map(|(kind, agent, task, age)| Record { kind, agent, task, age })
}

fn step() -> impl Strategy<Value = Step> {
    let records = prop::collection::vec(record(), 1..8);
    let settings = prop::option::weighted(0.2, 0..SETTINGS);
    let key = prop::option::weighted(0.3, 0_u8..3);
    (gap(), settings, 0..Format::all().count(), records, key, prop::bool::weighted(0.3), prop::bool::weighted(0.4))
        .prop_map(|(gap, settings, format, records, key, is_snapshot_due, do_snapshots_fail)| Step {
            gap,
            settings,
            format,
            records,
            key,
            is_snapshot_due,
            do_snapshots_fail,
        })
}

impl Record {
    /// Returns the time of the record in Unix seconds.
    fn time(&self, received: Timestamp) -> i64 {
        received.as_secs() - self.age
    }

    fn native(&self, time: f64) -> Value {
        let mut event = match self.kind {
            0 | 1 => json!({"event": "task_started"}),
            2 => json!({"event": "task_finished", "success": true, "duration_ms": 700}),
            3 => json!({"event": "task_finished", "success": false, "cost_usd": "0.75"}),
            4 => json!({"event": "llm_call", "model": "large", "cost_usd": "0.6", "success": self.task > 0}),
            5 | 6 => json!({"event": "tool_call", "tool": "search", "success": self.kind == 5, "arguments_hash": "a"}),
            7 => json!({"event": "handoff", "from": "a0", "to": format!("a{}", self.agent), "depth": 1}),
            _ => json!({"event": "evaluation", "metric": "hallucination", "passed": false}),
        };
        event["time"] = json!(time);
        event["agent"] = json!(format!("a{}", self.agent));
        event["task"] = json!(format!("t{}", self.task));
        event
    }

    fn langgraph(&self, time: f64) -> Value {
        let root = format!("g{}", self.task);
        let (event, is_root) = match self.kind {
            0..=2 => ("on_chain_start", true),
            3 | 4 => ("on_chain_end", true),
            5 => ("on_chain_error", true),
            6 => ("on_tool_start", false),
            7 => ("on_tool_end", false),
            _ => return json!({"event": "raised", "time": time, "error": "E", "message": "m"}),
        };
        let run = if is_root { root.clone() } else { format!("{root}-{}", self.agent) };
        let parents = if is_root { json!([]) } else { json!([root]) };
        json!({"event": event, "time": time, "name": format!("a{}", self.agent), "run_id": run, "parent_ids": parents, "data": {}})
    }

    fn openai_agents(&self, time: f64) -> Value {
        let trace = format!("trace_{}", self.task);
        let span = json!({"type": "function", "name": "search", "input": "{}"});
        match self.kind {
            0..=2 => {
                json!({"event": "trace_start", "time": time, "id": trace, "workflow_name": format!("a{}", self.agent)})
            }
            3..=5 => json!({"event": "trace_end", "time": time, "id": trace}),
            6 | 7 => json!({"event": "span_start", "time": time, "id": format!("s{}", self.agent), "trace_id": trace,
                "started_at": time, "span_data": span}),
            _ => json!({"event": "span_end", "time": time, "id": format!("s{}", self.agent), "trace_id": trace,
                "started_at": time, "ended_at": time, "span_data": span}),
        }
    }

    fn span(&self, time: f64) -> Value {
        let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        let nanos = |seconds: f64| format!("{}000000", (seconds * 1e3) as u64);
        let mut span = json!({
            "traceId": format!("{:032x}", self.task + 1), "spanId": format!("{:016x}", self.kind + 1), "name": "n",
            "startTimeUnixNano": nanos(time - 5.0), "endTimeUnixNano": nanos(time),
        });
        let operation = match self.kind {
            0..=2 => "invoke_agent",
            3..=5 => "execute_tool",
            _ => "chat",
        };
        if self.kind > 0 {
            span["parentSpanId"] = json!(format!("{:016x}", 1));
        }
        span["attributes"] = json!([
            attribute("gen_ai.operation.name", operation),
            attribute("gen_ai.agent.name", &format!("a{}", self.agent)),
            attribute("gen_ai.tool.name", "search"),
        ]);
        span
    }
}

impl Step {
    /// Returns the batch as the journal has it.
    fn batch(&self, received: Timestamp) -> Batch {
        let format = Format::all().nth(self.format).unwrap();
        let lines = |line: fn(&Record, f64) -> Value| -> Vec<Value> {
            self.records.iter().map(|record| line(record, record.time(received) as f64)).collect()
        };
        let text = |records: Vec<Value>| records.iter().map(|record| format!("{record}\n")).collect::<String>();
        let body = match format.as_str() {
            "sre" => Body::new(BodyKind::Lines, text(lines(Record::native))),
            "langgraph" => Body::new(BodyKind::Lines, text(lines(Record::langgraph))),
            "openai-agents" => Body::new(BodyKind::Lines, text(lines(Record::openai_agents))),
            "otlp" => {
                let request = json!({"resourceSpans": [{"scopeSpans": [{"spans": lines(Record::span)}]}]});
                Body::new(BodyKind::Traces, request.to_string())
            }
            _ => Body::new(BodyKind::Lines, self.recorded(format, received)),
        };
        let key = self.key.map(|key| key_of(&[&[key]]));
        let mut batch = Batch::new(format, body, key);
        batch.received = received;
        batch
    }

    /// Returns lines of a recording, from one on that the first record chooses, with the times of the records.
    fn recorded(&self, format: Format, received: Timestamp) -> String {
        let recording = &RECORDINGS[format.as_str()];
        let first = (4 * self.records[0].kind + usize::from(self.records[0].task)) * recording.len() / 36;
        let lines = recording.iter().cycle().skip(first);
        let times = self.records.iter().flat_map(|record| [record.time(received); LINES_OF_RECORD]);
        times
            .zip(lines)
            .map(|(time, line)| RECORDED_TIME.replace_all(line, NoExpand(&time.to_string())) + "\n")
            .collect()
    }
}

/// The number of recorded lines for each record of a step.
const LINES_OF_RECORD: usize = 8;

/// The lines of a recording of each format that is recorded as lines.
static RECORDINGS: LazyLock<BTreeMap<&str, Vec<String>>> = LazyLock::new(|| {
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings");
    let read = |format: Format| {
        let text = std::fs::read_to_string(recordings.join(format.as_str()).join("task_failure.jsonl")).ok()?;
        Some((format.as_str(), text.lines().map(str::to_owned).collect()))
    };
    Format::all().filter_map(read).collect()
});

/// A time in a recording, in Unix seconds.
static RECORDED_TIME: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b17954\d{5}(\.\d+)?\b").unwrap());

/// A service without a pipeline.
struct Service {
    processor: Processor,
    data: TempDir,
}

impl Service {
    fn start(config: &Config) -> Self {
        let data = tempfile::tempdir().unwrap();
        let clocks = Clocks::new(Arc::new(ManualClock::new(Timestamp::from_secs(START))));
        let checks = Arc::new(EventChecks::new(clocks.engines.clone(), 1_000));
        let engines = config.prepare(&clocks).unwrap().start(data.path(), checks.clone()).unwrap();
        let shared = Arc::new(Shared::new(engines, clocks, checks));
        shared.engines().deliver(&shared.removed_exporters).unwrap();
        Self { processor: Processor::new(shared), data }
    }

    fn restore(config: &Config, state: &[u8]) -> Self {
        let mut service = Self::start(config);
        service.processor.restore(state).unwrap();
        flush(&service.processor.shared);
        service
    }

    /// Replaces the engines by those of other settings, as the pipeline does.
    fn reload(&self, config: &Config) {
        let shared = &self.processor.shared;
        let engines = config.prepare(&shared.clocks).unwrap().start(self.data.path(), shared.checks.clone()).unwrap();
        shared.engines().runtime.hand_over_to(&engines.runtime).unwrap();
        drop(shared.replace(engines));
        shared.engines().deliver(&shared.removed_exporters).unwrap();
        flush(shared);
    }

    fn advance_to(&mut self, time: Timestamp) {
        self.processor.advance(time, flush);
    }

    fn process(&mut self, step: &Step, received: Timestamp) {
        self.advance_to(received);
        let batch = step.batch(received).decode(&self.processor.shared).unwrap();
        self.processor.process(batch);
        flush(&self.processor.shared);
    }

    fn replay(&mut self, entry: &Entry<'_>) {
        match entry {
            Entry::Time(time) => self.advance_to(*time),
            Entry::Batch(step, received) => self.process(step, *received),
        }
    }

    fn save(&self) -> Vec<u8> {
        self.processor.save().unwrap()
    }
}

/// Waits for the reactions of handlers to signals, which come from threads of their own.
fn flush(shared: &Shared) {
    assert!(shared.engines().runtime.flush(PATIENCE));
}

/// Returns the saved state by section, to say which one differs.
fn sections(state: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut reader = StateReader::new(state);
    let _version: u32 = reader.take().unwrap();
    let mut sections = BTreeMap::new();
    for section in reader.sections() {
        let (name, section) = section.unwrap();
        let parts: Vec<_> = section.sections().map_while(Result::ok).collect();
        sections.insert(name.to_owned(), bytes_of(section));
        for (number, (part, mut content)) in parts.into_iter().enumerate() {
            sections.insert(format!("{name}/{number}/{part}"), bytes_of(content));
            while part == "objectives" && !content.is_empty() {
                let (slo, agent): (String, String) = content.take().unwrap();
                for section in content.section().unwrap().1.sections() {
                    let (part, content) = section.unwrap();
                    sections.insert(format!("{slo}/{agent}/{part}"), bytes_of(content));
                }
            }
        }
    }
    sections
}

fn bytes_of(mut section: StateReader<'_>) -> Vec<u8> {
    std::iter::from_fn(|| section.take().ok()).collect()
}

fn assert_same(found: &Service, expected: &[u8], place: &str) {
    let found = found.save();
    if found != expected {
        let (found, expected) = (sections(&found), sections(expected));
        let differ: Vec<&String> = expected.keys().filter(|name| found.get(*name) != expected.get(*name)).collect();
        let show = |name: &&String| format!("{name}: {:?} instead of {:?}", found.get(*name), expected[*name]);
        let differ: Vec<String> = differ.iter().filter(|name| name.contains('/')).map(show).collect();
        panic!("{place}: the state differs in {differ:#?}");
    }
}

/// The number of settings.
const SETTINGS: usize = 4;

/// Returns settings: all, without limits, with fewer objectives and other breakers, or none.
fn config(folder: &Path, number: usize) -> Config {
    let write = |name: &str, text: &str| {
        let path = folder.join(format!("{number}-{name}"));
        std::fs::write(&path, text).unwrap();
        path
    };
    let slos = if number == 2 { SLOS.split("---").next().unwrap() } else { SLOS };
    let breakers = if number == 2 { "{failure_threshold: 3}" } else { BREAKERS };
    Config {
        slos: if number < 3 { vec![write("slos.yaml", slos)] } else { Vec::new() },
        engine_files: [
            [0, 2].contains(&number).then(|| ("limits", write("limits.yaml", LIMITS))),
            (number < 3).then(|| ("breakers", write("breakers.yaml", breakers))),
            Some(("prices", write("prices.yaml", "prices: []\n"))),
        ]
        .into_iter()
        .flatten()
        .collect(),
        server_limits: ServerLimits {
            task_timeout: Duration::from_secs(120),
            max_open_runs: 3,
            ..ServerLimits::default()
        },
        ..Config::default()
    }
}

/// An entry of the journal.
#[derive(Clone, Copy, Debug)]
enum Entry<'a> {
    Time(Timestamp),
    Batch(&'a Step, Timestamp),
}

struct Snapshot {
    /// The number of entries that it covers.
    covered: usize,
    time: Timestamp,
    state: Vec<u8>,
}

/// A service with a journal, and another one that was killed once and goes on beside it.
struct Run<'a> {
    configs: &'a [Config],
    settings: usize,
    live: Service,
    killed_once: Option<Service>,
    clock: JournalClock,
    journal: Vec<Entry<'a>>,
    snapshot: Snapshot,
}

impl<'a> Run<'a> {
    fn start(configs: &'a [Config]) -> Self {
        let live = Service::start(&configs[0]);
        let snapshot = Snapshot { covered: 0, time: Timestamp::default(), state: live.save() };
        let clock = JournalClock::new(ServiceTime::default());
        Self { configs, settings: 0, live, killed_once: None, clock, journal: Vec::new(), snapshot }
    }

    fn take_snapshot(&mut self) {
        let (time, state) = (self.live.processor.now(), self.live.save());
        self.snapshot = Snapshot { covered: self.journal.len(), time, state };
    }

    fn reload(&mut self, settings: usize) {
        // Without it, the reload is refused.
        self.take_snapshot();
        self.settings = settings;
        self.services().for_each(|service| service.reload(&self.configs[settings]));
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        std::iter::once(&self.live).chain(&self.killed_once)
    }

    /// Advances to a time, as the writer of the journal does.
    fn advance_to(&mut self, time: Timestamp) {
        let second = whole_second(time);
        let missing = self.clock.missing_before(second);
        self.journal.extend(missing.iter().map(|time| Entry::Time(*time)));
        self.clock.tick(time);
        if !missing.is_empty() {
            self.clock.note_journaled();
        }
        std::iter::once(&mut self.live).chain(&mut self.killed_once).for_each(|service| service.advance_to(second));
        if !missing.is_empty() {
            self.assert_killed_is_same();
        }
    }

    fn process(&mut self, step: &'a Step) {
        let entry = Entry::Batch(step, self.clock.now());
        self.journal.push(entry);
        self.clock.note_batch();
        std::iter::once(&mut self.live).chain(&mut self.killed_once).for_each(|service| service.replay(&entry));
    }

    /// Returns a service that was killed now and has replayed the journal, which is in the same state.
    fn assert_killed_is_same(&self) -> Service {
        let expected = self.live.save();
        let place = format!("after {} entries, {:?}", self.journal.len(), self.journal.last());
        if let Some(killed_once) = &self.killed_once {
            assert_same(killed_once, &expected, &format!("killed earlier, {place}"));
        }
        let mut killed = Service::restore(&self.configs[self.settings], &self.snapshot.state);
        self.journal[self.snapshot.covered..].iter().for_each(|entry| killed.replay(entry));
        assert_same(&killed, &expected, &format!("killed {place}"));
        killed
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_kill_after_any_entry_changes_nothing(
        steps in prop::collection::vec(step(), 1..9),
        continued in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let configs: Vec<Config> = (0..SETTINGS).map(|number| config(folder.path(), number)).collect();
        let mut run = Run::start(&configs);
        let mut clock = Timestamp::from_secs(START);
        for (number, step) in steps.iter().enumerate() {
            let target = match step.gap {
                Gap::Run(millis) => clock.saturating_add(Duration::from_millis(millis)),
                Gap::Step(seconds) => following(clock, Timestamp::from_secs(clock.as_secs() + seconds)),
            };
            // Time passes without a jump while the service runs.
            loop {
                clock = match step.gap {
                    Gap::Run(_) => target.min(clock.saturating_add(Duration::from_secs(100))),
                    Gap::Step(_) => target,
                };
                run.advance_to(clock);
                let age = run.live.processor.now().since(run.snapshot.time);
                if age >= IDLE_SNAPSHOT_INTERVAL && !step.do_snapshots_fail {
                    run.take_snapshot();
                }
                if clock == target {
                    break;
                }
            }
            if let Some(settings) = step.settings.filter(|_| !step.do_snapshots_fail) {
                run.reload(settings);
                run.assert_killed_is_same();
            }
            run.process(step);
            let killed = run.assert_killed_is_same();
            if continued.index(steps.len()) == number {
                run.killed_once = Some(killed);
            }
            if step.is_snapshot_due && !step.do_snapshots_fail {
                run.take_snapshot();
            }
        }
    }
}

/// Engines restore their state by the time, and observe the events of the runs that adapters restore.
#[test]
fn the_sections_of_the_state_keep_their_names_and_order() {
    let folder = tempfile::tempdir().unwrap();
    let state = Service::start(&config(folder.path(), 0)).save();
    let mut state = StateReader::new(&state);
    assert_eq!(state.take::<u32>().unwrap(), 2);
    let sections: Vec<_> = state.sections().map(Result::unwrap).collect();
    let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    assert_eq!((&names[..4], names.last()), (&["time", "keys", "history", "adapters"][..], Some(&"signals")));
    let adapters: Vec<&str> = sections[3].1.sections().map(|section| section.unwrap().0).collect();
    let formats: Vec<&str> = Format::all().map(Format::as_str).collect();
    assert_eq!(adapters, formats);
}
