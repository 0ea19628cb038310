//! Which traces a tail sampler keeps, with which spans, and within which bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use sre_core::event::{RecordedSpan, SpanFinished, TaskFinished, ToolCall};
use sre_core::{
    AgentEvent, Collect, Event, KeptTrace, MetricValue, Observe, Persist, Span, SpanId, SpanRole, StateReader,
    StateWriter, StoreError, Timestamp, TraceId, TraceLimits, TraceQuery, TraceStore, TraceUpdate, Verdict,
};
use sre_trace::{BrokenHop, TailSampler, TailSamplerOptions, TraceTree};

const START: Timestamp = Timestamp::from_secs(1_790_000_000);

/// Everything that was ever kept.
#[derive(Default)]
struct Everything {
    spans: Mutex<BTreeMap<TraceId, Vec<Span>>>,
    kept: Mutex<BTreeMap<(TraceId, String, String), KeptTrace>>,
    fails: AtomicBool,
}

impl Everything {
    /// Returns the numbers of bad and slow events by trace and objective.
    fn counts(&self) -> BTreeMap<(TraceId, String), (u64, u64)> {
        let kept = self.kept.lock().unwrap();
        kept.values().map(|kept| ((kept.trace_id, kept.slo.clone()), (kept.bad, kept.slow))).collect()
    }

    fn spans(&self) -> BTreeMap<TraceId, BTreeSet<String>> {
        let spans = self.spans.lock().unwrap();
        let texts = |spans: &Vec<Span>| spans.iter().map(|span| serde_json::to_string(span).unwrap()).collect();
        spans.iter().map(|(trace, spans)| (*trace, texts(spans))).collect()
    }
}

impl TraceStore for Everything {
    fn keep(&self, updates: &[TraceUpdate]) -> Result<(), StoreError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::unavailable("test", "unplugged"));
        }
        for TraceUpdate { spans, kept } in updates {
            assert!(!kept.is_empty());
            for span in spans {
                self.spans.lock().unwrap().entry(span.trace_id).or_default().push(span.clone());
            }
            for kept in kept {
                let key = (kept.trace_id, kept.slo.clone(), kept.agent.clone());
                self.kept.lock().unwrap().insert(key, kept.clone());
            }
        }
        Ok(())
    }

    fn spans(&self, trace: TraceId) -> Result<Vec<Span>, StoreError> {
        Ok(self.spans.lock().unwrap().get(&trace).cloned().unwrap_or_default())
    }

    fn query(&self, _: &TraceQuery) -> Result<Vec<KeptTrace>, StoreError> {
        Ok(self.kept.lock().unwrap().values().cloned().collect())
    }
}

fn sampler(options: TailSamplerOptions) -> (TailSampler, Arc<Everything>) {
    let (sampler, store) = (TailSampler::new(options), Arc::new(Everything::default()));
    sampler.set_store(store.clone());
    (sampler, store)
}

fn observe(sampler: &TailSampler, event: &AgentEvent) {
    sampler.observe(event, &mut |_| {});
}

/// Lets seconds pass.
fn wait(sampler: &TailSampler, seconds: u64) {
    (0..seconds).for_each(|_| sampler.evaluate(START, &mut |_| {}));
}

fn event(task: &str, event: impl Into<Event>) -> AgentEvent {
    let mut event = AgentEvent::new(START, "a", event);
    event.task = Some(task.to_owned());
    event
}

/// Observes a task that fails, and marks it as bad.
fn fail(sampler: &TailSampler, task: &str) {
    let failed = event(task, TaskFinished::new(false));
    observe(sampler, &failed);
    sampler.mark(&failed, "answers", "a", Verdict::Bad);
}

fn metric(sampler: &TailSampler, name: &str) -> f64 {
    let mut found = 0.0;
    sampler.metrics(START, &mut |metric| {
        if let (true, MetricValue::Counter(value) | MetricValue::Gauge(value)) = (metric.name == name, &metric.value) {
            found += value;
        }
    });
    found
}

#[derive(Clone, Debug)]
enum Step {
    /// An event of a task: whether it ends the task, and the verdicts of the two objectives.
    Event { task: u8, ends: bool, verdicts: [Option<Verdict>; 2] },
    /// Seconds pass.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = || prop::option::weighted(0.2, prop_oneof![Just(Verdict::Bad), Just(Verdict::Slow)]);
    prop_oneof![
        8 => (0_u8..12, prop::bool::weighted(0.2), [verdict(), verdict()])
            .prop_map(|(task, ends, verdicts)| Step::Event { task, ends, verdicts }),
        2 => (1_u64..12).prop_map(Step::Wait),
    ]
}

const SLOS: [&str; 2] = ["one", "two"];

/// Returns the event of a step: the end of a task, or a call of a tool of its own.
fn nth(task: u8, number: usize, ends: bool) -> AgentEvent {
    let task = format!("task {task}");
    if ends { event(&task, TaskFinished::new(true)) } else { event(&task, ToolCall::new(format!("tool {number}"))) }
}

fn run(sampler: &TailSampler, steps: &[Step], first: usize) {
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Event { task, ends, verdicts } => {
                let event = nth(*task, first + number, *ends);
                observe(sampler, &event);
                for (slo, verdict) in SLOS.iter().zip(verdicts) {
                    if let Some(verdict) = verdict {
                        sampler.mark(&event, slo, "a", *verdict);
                    }
                }
            }
            Step::Wait(seconds) => wait(sampler, *seconds),
        }
    }
}

/// A trace while it is held.
#[derive(Default)]
struct Held {
    finished: Option<u64>,
    spans: Vec<String>,
    /// Bad and slow events by objective.
    kept: BTreeMap<usize, (u64, u64)>,
}

fn saved(sampler: &TailSampler) -> Vec<u8> {
    let mut state = StateWriter::default();
    sampler.save(&mut state);
    state.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A trace is kept for the objectives by which an event of it was bad or slow, except beyond the limits of a second, with all its
    /// spans, whether they came before that or after.
    #[test]
    fn bad_and_slow_traces_are_kept_whole_and_no_others(steps in prop::collection::vec(step(), 1..120)) {
        let (sampler, store) = sampler(TailSamplerOptions::default());
        run(&sampler, &steps, 0);
        wait(&sampler, 1);

        // The same by brute force. A task that is used again once its trace is no longer held has another with the same id.
        let (mut now, mut admitted, mut held) = (0, BTreeMap::new(), BTreeMap::<u8, Held>::new());
        let (mut counts, mut spans) = (BTreeMap::new(), BTreeMap::new());
        let mut finish = |task: u8, held: Held| {
            let id = Span::of(&nth(task, 0, true)).unwrap().trace_id;
            for (slo, kept) in &held.kept {
                counts.insert((id, SLOS[*slo].to_owned()), *kept);
            }
            if !held.kept.is_empty() {
                spans.entry(id).or_insert_with(BTreeSet::new).extend(held.spans);
            }
        };
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Wait(seconds) => for _ in 0..*seconds {
                    now += 1;
                    admitted.clear();
                    let is_over = |held: &Held| {
                        let time = if held.kept.is_empty() { 30 } else { 900 };
                        held.finished.is_some_and(|finished| now - finished >= time)
                    };
                    let over: Vec<u8> = held.iter().filter(|(_, held)| is_over(held)).map(|(task, _)| *task).collect();
                    over.iter().for_each(|task| finish(*task, held.remove(task).unwrap()));
                },
                Step::Event { task, ends, verdicts } => {
                    let held = held.entry(*task).or_default();
                    if *ends {
                        held.finished = held.finished.or(Some(now));
                    }
                    held.spans.push(serde_json::to_string(&Span::of(&nth(*task, number, *ends)).unwrap()).unwrap());
                    for (slo, verdict) in verdicts.iter().enumerate() {
                        let Some(verdict) = verdict else { continue };
                        if !held.kept.contains_key(&slo) {
                            let of_objective = admitted.entry(slo).or_insert(0);
                            if *of_objective >= 4 { continue }
                            *of_objective += 1;
                        }
                        let counts = held.kept.entry(slo).or_default();
                        *(if *verdict == Verdict::Bad { &mut counts.0 } else { &mut counts.1 }) += 1;
                    }
                }
            }
        }
        held.into_iter().for_each(|(task, held)| finish(task, held));
        prop_assert_eq!(store.counts(), counts);
        prop_assert_eq!(store.spans(), spans);
    }

    /// A sampler that is killed, restored from its saved state and given what came after keeps the same.
    #[test]
    fn a_restart_changes_nothing(steps in prop::collection::vec(step(), 1..80), at in 0_usize..80) {
        let at = at.min(steps.len());
        let (whole, expected) = sampler(TailSamplerOptions::default());
        run(&whole, &steps[..at], 0);
        let state = saved(&whole);
        run(&whole, &steps[at..], at);
        wait(&whole, 1);

        let restored = TailSampler::new(TailSamplerOptions::default());
        // The store has what was written before the kill.
        restored.set_store(expected.clone());
        let counts = expected.counts();
        let spans = expected.spans();
        restored.restore(&mut StateReader::new(&state)).unwrap();
        prop_assert_eq!(saved(&restored), state);
        run(&restored, &steps[at..], at);
        wait(&restored, 1);
        prop_assert_eq!(saved(&restored), saved(&whole));
        prop_assert_eq!((expected.counts(), expected.spans()), (counts, spans));
    }
}

#[test]
fn late_spans_of_a_kept_trace_are_added_for_a_quarter_of_an_hour() {
    let (sampler, store) = sampler(TailSamplerOptions::default());
    fail(&sampler, "t");
    wait(&sampler, 1);
    observe(&sampler, &event("t", ToolCall::new("late")));
    wait(&sampler, 600);
    observe(&sampler, &event("t", ToolCall::new("later")));
    wait(&sampler, 300);
    observe(&sampler, &event("t", ToolCall::new("too late")));
    wait(&sampler, 1);
    let spans = store.spans.lock().unwrap();
    let names: Vec<&str> = spans.values().flatten().map(|span| &*span.name).collect();
    assert_eq!(names, ["invoke_agent a", "execute_tool late", "execute_tool later"]);
}

/// A peer that began a trace of its own has spans of the same call.
#[test]
fn the_other_side_of_a_call_is_kept_with_it() {
    let trace = |name: &str| TraceId::derived(&[name]);
    let side = |of: &str, role, call: &str| {
        let mut event = event(of, SpanFinished::new(5.0, None));
        let mut span = RecordedSpan::new("SendMessage");
        (span.role, span.call_id) = (role, Some(call.to_owned()));
        span.parent_span_id = (role == SpanRole::Client).then(|| SpanId::derived(&["task", of]));
        (event.trace_id, event.span_id) = (Some(trace(of)), Some(SpanId::derived(&[of, call])));
        event.span = Some(Box::new(span));
        event
    };
    let failed = |of: &str| {
        let mut event = event(of, TaskFinished::new(false));
        (event.trace_id, event.span_id) = (Some(trace(of)), Some(SpanId::derived(&["task", of])));
        event
    };
    let (sampler, store) = sampler(TailSamplerOptions::default());
    observe(&sampler, &side("writer", SpanRole::Server, "m-1"));
    observe(&sampler, &side("editor", SpanRole::Server, "m-2"));
    observe(&sampler, &side("planner", SpanRole::Client, "m-1"));
    observe(&sampler, &failed("planner"));
    sampler.mark(&failed("planner"), "answers", "a", Verdict::Bad);
    wait(&sampler, 1);
    let restored = TailSampler::default();
    restored.set_store(store.clone());
    restored.restore(&mut StateReader::new(&saved(&sampler))).unwrap();
    observe(&restored, &failed("writer"));
    wait(&restored, 1);
    assert_eq!(store.counts().into_keys().collect::<Vec<_>>(), [(trace("planner"), "answers".to_owned())]);
    let count = |of: &str| store.spans().get(&trace(of)).map_or(0, BTreeSet::len);
    assert_eq!(["planner", "writer", "editor"].map(count), [2, 2, 0]);
    let trees = TraceTree::build(store.spans.lock().unwrap().values().flatten().cloned());
    let planner = trees.iter().find(|tree| tree.trace_id == trace("planner")).unwrap();
    let [BrokenHop::DroppedContext { receiver, .. }] = &*planner.broken_hops else { panic!("{planner:?}") };
    assert_eq!(receiver.trace_id, trace("writer"));
}

#[test]
fn the_work_of_a_second_is_bounded_if_every_task_fails() {
    let (sampler, store) = sampler(TailSamplerOptions::default());
    for number in 0..10_000 {
        fail(&sampler, &format!("t{number}"));
    }
    wait(&sampler, 1);
    assert_eq!(store.counts().len(), 4);
    for number in 0..10_000 {
        let failed = event(&format!("u{number}"), TaskFinished::new(false));
        observe(&sampler, &failed);
        sampler.mark(&failed, "answers", &format!("agent {number}"), Verdict::Bad);
    }
    wait(&sampler, 1);
    assert_eq!(store.counts().len(), 4 + 64);
    assert_eq!(metric(&sampler, "sre.traces.kept") as u32, 68);
    assert_eq!(metric(&sampler, "sre.traces.skipped") as u32, 20_000 - 68);
}

#[test]
fn memory_is_bounded_and_traces_that_have_finished_give_way_first() {
    let (sampler, store) = sampler(TailSamplerOptions { max_open_bytes: 100_000, ..Default::default() });
    let marked = event("long", ToolCall::new("begin"));
    observe(&sampler, &marked);
    for number in 0..5_000 {
        observe(&sampler, &event(&format!("t{number}"), TaskFinished::new(true)));
        assert!(metric(&sampler, "sre.traces.open.size") <= 100_000.0);
    }
    assert_eq!(metric(&sampler, "sre.traces.evicted") as u32, 0, "all of these had finished");
    sampler.mark(&marked, "answers", "a", Verdict::Bad);
    // A flood of tasks that do not finish. What is kept is stored before it gives way.
    for number in 0..5_000 {
        observe(&sampler, &event(&format!("u{number}"), ToolCall::new("begin")));
    }
    assert!(metric(&sampler, "sre.traces.evicted") > 4_000.0);
    assert_eq!(store.counts().len(), 1);
    assert_eq!(store.spans().values().next().unwrap().len(), 1);
}

#[test]
fn a_trace_has_1000_spans_at_most_and_its_root_is_one_of_them() {
    let (sampler, store) = sampler(TailSamplerOptions::default());
    for number in 0..3_000 {
        observe(&sampler, &event("t", ToolCall::new(format!("tool {number}"))));
    }
    fail(&sampler, "t");
    wait(&sampler, 1);
    let spans = store.spans.lock().unwrap();
    let spans = spans.values().next().unwrap();
    assert_eq!((spans.len(), spans.last().unwrap().name.as_str()), (1_000, "invoke_agent a"));
    assert_eq!(metric(&sampler, "sre.traces.dropped_spans") as u32, 2_001);
}

#[test]
fn texts_of_errors_are_kept_only_if_they_are_asked_for() {
    for texts in [false, true] {
        let (sampler, store) = sampler(TailSamplerOptions { texts, ..Default::default() });
        let mut call = ToolCall::new("search");
        call.success = false;
        call.error = Some("no access with key 5ec3e7".into());
        let call = event("t", call);
        observe(&sampler, &call);
        sampler.mark(&call, "answers", "a", Verdict::Bad);
        wait(&sampler, 1);
        let spans = store.spans.lock().unwrap();
        let error = spans.values().next().unwrap()[0].error.as_deref();
        assert_eq!(error, Some(if texts { "no access with key 5ec3e7" } else { "failed" }));
    }
}

#[test]
fn nothing_is_kept_of_a_kind_whose_limit_is_zero() {
    let limits = TraceLimits { slow_per_objective: 0, ..Default::default() };
    let (sampler, store) = sampler(TailSamplerOptions { limits, ..Default::default() });
    let slow = event("t", TaskFinished::new(true));
    observe(&sampler, &slow);
    sampler.mark(&slow, "answers", "a", Verdict::Slow);
    wait(&sampler, 1);
    assert!(store.counts().is_empty());
}

#[test]
fn a_write_that_fails_is_tried_again() {
    let (sampler, store) = sampler(TailSamplerOptions::default());
    store.fails.store(true, Ordering::Relaxed);
    fail(&sampler, "t");
    wait(&sampler, 1);
    store.fails.store(false, Ordering::Relaxed);
    wait(&sampler, 1);
    assert_eq!((store.counts().len(), store.spans().len()), (1, 1));
    assert_eq!(metric(&sampler, "sre.traces.write_failures") as u32, 1);
}
