//! A service that is killed after any batch, restores its last snapshot and replays the journal is in the same state as one that
//! was not killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use agent_sre::ManualClock;
use agent_sre::adapter::{Body, BodyKind};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::batch::key_of;
use crate::service_time::{Clocks, following};
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
    /// The clock is set, or nobody ran for this time, in seconds. A clock that is set back by more than ten minutes is left out:
    /// the queues of handlers, which are not saved, ignore an incident that begins before its last end.
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
    format: usize,
    records: Vec<Record>,
    key: Option<u8>,
    is_snapshot_due: bool,
}

fn gap() -> impl Strategy<Value = Gap> {
    prop_oneof![
        6 => (0_u64..4_000).prop_map(Gap::Run),
        4 => (4_000_u64..200_000).prop_map(Gap::Run),
        1 => (200_000_u64..1_800_000).prop_map(Gap::Run),
        1 => (-600_i64..90_000).prop_map(Gap::Step),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let age = prop_oneof![6 => Just(0_i64), 2 => 0_i64..100, 1 => Just(3 * 3_600), 1 => -250_i64..0, 1 => Just(-400)];
    (0_usize..9, 0_u8..3, 0_u8..4, age).prop_map(|(kind, agent, task, age)| Record { kind, agent, task, age })
}

fn step() -> impl Strategy<Value = Step> {
    let records = prop::collection::vec(record(), 1..8);
    (gap(), 0_usize..5, records, prop::option::weighted(0.3, 0_u8..3), prop::bool::weighted(0.2))
        .prop_map(|(gap, format, records, key, is_snapshot_due)| Step { gap, format, records, key, is_snapshot_due })
}

impl Record {
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
        let line: fn(&Record, f64) -> Value = match self.format {
            0 | 4 => Record::native,
            1 => Record::langgraph,
            2 => Record::openai_agents,
            _ => Record::span,
        };
        let records: Vec<Value> =
            self.records.iter().map(|record| line(record, (received.as_secs() - record.age) as f64)).collect();
        let (format, body) = if self.format == 3 {
            let request = json!({"resourceSpans": [{"scopeSpans": [{"spans": records}]}]});
            ("otlp", Body::new(BodyKind::Traces, request.to_string()))
        } else {
            let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
            (["sre", "langgraph", "openai-agents", "", "sre"][self.format], Body::new(BodyKind::Lines, lines))
        };
        let key = self.key.map(|key| key_of(&[&[key]]));
        let mut batch = Batch::new(format.parse().unwrap(), body, key);
        batch.received = received;
        batch
    }
}

/// A service without a pipeline.
struct Service {
    processor: Processor,
    _data: TempDir,
}

impl Service {
    fn start(config: &Config) -> Self {
        let data = tempfile::tempdir().unwrap();
        let clocks = Clocks::new(Arc::new(ManualClock::new(Timestamp::from_secs(START))));
        let engines = config.prepare(&clocks).unwrap().start(data.path()).unwrap();
        let shared = Arc::new(Shared::new(engines, clocks, 1_000));
        shared.engines().deliver(&shared.removed_exporters).unwrap();
        let limits = RunLimits { task_timeout: Duration::from_secs(120), max_open_runs: 3, ..RunLimits::default() };
        Self { processor: Processor::new(shared, limits), _data: data }
    }

    fn restore(config: &Config, state: &[u8]) -> Self {
        let mut service = Self::start(config);
        service.processor.restore(state).unwrap();
        flush(&service.processor.shared);
        service
    }

    fn advance_to(&mut self, time: Timestamp) -> bool {
        self.processor.advance(time, flush)
    }

    fn process(&mut self, step: &Step, received: Timestamp) {
        self.advance_to(received);
        let batch = step.batch(received).decode(&self.processor.shared).unwrap();
        self.processor.process(batch);
        flush(&self.processor.shared);
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

fn config(folder: &Path) -> Config {
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    Config {
        slos: vec![write("slos.yaml", SLOS)],
        engine_files: BTreeMap::from([
            ("limits", write("limits.yaml", LIMITS)),
            ("breakers", write("breakers.yaml", BREAKERS)),
            ("prices", write("prices.yaml", "prices: []\n")),
        ]),
        server_limits: ServerLimits::default(),
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_kill_after_any_batch_changes_nothing(
        steps in prop::collection::vec(step(), 1..9),
        continued in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let mut live = Service::start(&config);
        // A service that was killed once, and goes on beside the other.
        let mut other: Option<Service> = None;
        let mut clock = Timestamp::from_secs(START);
        // The number of batches that it covers, its time and the state.
        let mut snapshot = (0, Timestamp::default(), live.save());
        let mut journal: Vec<(&Step, Timestamp)> = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            let target = match step.gap {
                Gap::Run(millis) => clock.saturating_add(Duration::from_millis(millis)),
                Gap::Step(seconds) => {
                    let stepped = Timestamp::from_secs(clock.as_secs() + seconds);
                    following(clock, stepped)
                }
            };
            // Ticks come second by second, and snapshots between them.
            loop {
                clock = match step.gap {
                    Gap::Run(_) if snapshot.1 > Timestamp::default() => {
                        target.min(snapshot.1.saturating_add(IDLE_SNAPSHOT_INTERVAL + Duration::from_secs(1))).max(clock)
                    }
                    _ => target,
                };
                let second = Timestamp::from_secs(clock.as_secs());
                let is_jump = live.advance_to(second);
                if let Some(other) = &mut other {
                    other.advance_to(second);
                }
                let now = live.processor.now();
                if is_jump || now.since(snapshot.1) >= IDLE_SNAPSHOT_INTERVAL {
                    snapshot = (number, now, live.save());
                }
                if clock == target {
                    break;
                }
            }
            journal.push((step, clock));
            live.process(step, clock);
            let expected = live.save();
            if let Some(other) = &mut other {
                other.process(step, clock);
                assert_same(other, &expected, &format!("batch {number} after a kill"));
            }
            let mut killed = Service::restore(&config, &snapshot.2);
            for (step, received) in &journal[snapshot.0..] {
                killed.process(step, *received);
            }
            assert_same(&killed, &expected, &format!("a kill after batch {number}"));
            if continued.index(steps.len()) == number {
                other = Some(killed);
            }
            if step.is_snapshot_due {
                snapshot = (number + 1, live.processor.now(), expected);
            }
        }
    }
}
