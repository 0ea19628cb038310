//! A restart in the middle of a run changes no reading.

use proptest::prelude::*;
use sre_core::{AgentEvent, Persist, StateReader, StateWriter, Tally, Timestamp};
use sre_slo::{SliRegistry, SloEngine, parse};

const OBJECTIVES: &str = "
name: everything
target: 0.9
indicators:
  - {type: task_success_rate}
  - {type: tool_call_accuracy}
  - {type: response_latency}
  - {type: time_to_first_token}
  - {type: cost_per_task}
  - {type: hallucination_rate}
  - {type: policy_compliance}
  - {type: delegation_chain_depth}
  - {type: calibration_delta}
  - {type: steps_per_task}
  - {type: repeated_tool_calls}
---
name: cheap
target: 0.8
good_when: {event: task_finished, max_cost_usd: 0.05}
---
name: by-the-slice
target: 0.8
time_slices: {window: 1m, target: 0.9}
";

fn engine(objectives: &str) -> SloEngine {
    let registry = SliRegistry::default();
    SloEngine::new(parse(objectives, "test.yaml", &registry).unwrap(), registry).unwrap().with_max_agents(2)
}

fn event() -> impl Strategy<Value = AgentEvent> {
    let kind = prop::sample::select(vec![
        r#""event":"task_finished","success":true,"duration_ms":812.5,"attributes":{"confidence":0.9}"#,
        r#""event":"task_finished","success":false,"duration_ms":20.25,"cost_usd":"0.25""#,
        r#""event":"llm_call","success":true,"cost_usd":"0.03","first_token_ms":90"#,
        r#""event":"tool_call","tool":"t","arguments_hash":"1","success":true,"correct":true"#,
        r#""event":"tool_call","tool":"t","arguments_hash":"2","success":false,"correct":false"#,
        r#""event":"step_finished","name":"n""#,
        r#""event":"handoff","from":"a","to":"b","depth":3"#,
        r#""event":"policy_check","compliant":false"#,
        r#""event":"evaluation","metric":"hallucination","score":0.9,"confidence":0.5"#,
    ]);
    (kind, 0i64..4 * 86_400, 0usize..3, 0usize..4).prop_map(|(kind, time, agent, task)| {
        let json = format!(r#"{{"time":{},"agent":"a{agent}","task":"{task}",{kind}}}"#, 1_790_000_000 + time);
        AgentEvent::from_json(json.as_bytes()).unwrap()
    })
}

fn saved(save: impl FnOnce(&mut StateWriter)) -> Vec<u8> {
    let mut state = StateWriter::default();
    save(&mut state);
    state.finish().unwrap()
}

proptest! {
    #[test]
    fn a_restart_changes_no_reading(mut events in prop::collection::vec(event(), 1..200), cut in 0usize..200) {
        events.sort_by_key(|event| event.time);
        let (before, after) = events.split_at(cut.min(events.len()));
        let (whole, old, new) = (engine(OBJECTIVES), engine(OBJECTIVES), engine(OBJECTIVES));
        let (mut tally, mut old_tally, mut new_tally) = (Tally::default(), Tally::default(), Tally::default());
        events.iter().for_each(|event| whole.record(event));
        events.iter().for_each(|event| tally.observe(event));
        before.iter().for_each(|event| old.record(event));
        before.iter().for_each(|event| old_tally.observe(event));
        let state = saved(|state| old.save(state));
        new.restore(&mut StateReader::new(&state)).unwrap();
        let state = saved(|state| old_tally.save(state));
        new_tally.restore(&mut StateReader::new(&state)).unwrap();
        after.iter().for_each(|event| new.record(event));
        after.iter().for_each(|event| new_tally.observe(event));
        let now = events.last().map_or(Timestamp::default(), |event| event.time);
        prop_assert_eq!(new.snapshots(now), whole.snapshots(now));
        prop_assert_eq!(new_tally.totals(), tally.totals());
    }

    #[test]
    fn damaged_state_is_an_error_or_harmless(mut state in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..9_000, to in any::<u8>()) {
        let _ = engine(OBJECTIVES).restore(&mut StateReader::new(&state));
        let whole = engine(OBJECTIVES);
        let json = br#"{"event":"task_finished","time":1790000000,"agent":"a","success":true,"duration_ms":5}"#;
        whole.record(&AgentEvent::from_json(json).unwrap());
        state = saved(|state| whole.save(state));
        let at = at % state.len();
        state[at] = to;
        let restored = engine(OBJECTIVES);
        let _ = restored.restore(&mut StateReader::new(&state));
        restored.snapshots(Timestamp::from_secs(1_790_000_000));
    }
}

#[test]
fn a_changed_objective_keeps_the_counts_that_still_apply() {
    let old = engine("name: x\ntarget: 0.9\nindicators: [{type: task_success_rate}, {type: response_latency}]");
    let json = br#"{"event":"task_finished","time":1790000000,"agent":"a","success":true,"duration_ms":5}"#;
    old.record(&AgentEvent::from_json(json).unwrap());
    let state = saved(|state| old.save(state));
    let changed = "
name: x
target: 0.99
window: 7d
indicators: [{type: response_latency, target_ms: 100, window: 6h}, {type: task_success_rate}, {type: cost_per_task}]
---
name: z
target: 0.9
";
    let new = engine(changed);
    new.restore(&mut StateReader::new(&state)).unwrap();
    let snapshots = new.snapshots(Timestamp::from_secs(1_790_000_000));
    let samples: Vec<_> = snapshots[0].indicators.iter().map(|indicator| indicator.samples).collect();
    assert_eq!((snapshots[0].good, &samples[..]), (1, &[0, 1, 0][..]), "a latency over another window begins anew");
    assert_eq!((snapshots[1].name.as_str(), snapshots[1].good), ("z", 0));
}
