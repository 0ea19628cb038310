use std::time::Duration;

use sre_core::{AgentEvent, ManualClock, Timestamp, Usd};

use super::*;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)))
}

fn feed(sli: &dyn Sli, lines: &[&str]) -> SliReading {
    let mut now = Timestamp::default();
    for line in lines {
        let (head, tail) =
            line.split_once(',').map_or((*line, String::new()), |(head, tail)| (head, format!(",{tail}")));
        let json = format!(r#"{{"event":"{head}","time":1790000000{tail}}}"#);
        let event = AgentEvent::from_json(json.as_bytes()).unwrap();
        now = event.time;
        sli.observe(&event);
    }
    sli.reading(now)
}

#[test]
fn every_indicator_conforms() {
    let indicators: [Box<dyn Sli>; 11] = [
        Box::new(TaskSuccessRate::default()),
        Box::new(ToolCallAccuracy::default()),
        Box::new(ResponseLatency::default()),
        Box::new(CostPerTask::default()),
        Box::new(HallucinationRate::default()),
        Box::new(PolicyCompliance::default()),
        Box::new(DelegationChainDepth::default()),
        Box::new(CalibrationDelta::default()),
        Box::new(TimeToFirstToken::default()),
        Box::new(StepsPerTask::default()),
        Box::new(RepeatedToolCalls::default()),
    ];
    for indicator in &indicators {
        sre_testkit::conformance::sli(&**indicator);
    }
}

#[test]
fn the_defaults_match_the_reference() {
    let defaults: [(Box<dyn Sli>, f64, &str); 11] = [
        (Box::new(TaskSuccessRate::default()), 0.995, "30d"),
        (Box::new(ToolCallAccuracy::default()), 0.999, "7d"),
        (Box::new(ResponseLatency::default()), 5000.0, "1h"),
        (Box::new(CostPerTask::default()), 0.5, "24h"),
        (Box::new(HallucinationRate::default()), 0.05, "24h"),
        (Box::new(PolicyCompliance::default()), 1.0, "24h"),
        (Box::new(DelegationChainDepth::default()), 3.0, "24h"),
        (Box::new(CalibrationDelta::default()), 0.05, "30d"),
        (Box::new(TimeToFirstToken::default()), 2000.0, "1h"),
        (Box::new(StepsPerTask::default()), 20.0, "24h"),
        (Box::new(RepeatedToolCalls::default()), 3.0, "24h"),
    ];
    for (indicator, target, window) in defaults {
        let spec = indicator.spec();
        assert_eq!((spec.target, spec.window.to_string().as_str()), (target, window), "{}", spec.name);
    }
}

#[test]
fn each_indicator_is_recorded_with_its_own_method() {
    let clock = clock();
    let tasks = TaskSuccessRate::default().with_clock(clock.clone());
    tasks.record_task(true);
    tasks.record_task(false);
    assert_eq!(tasks.current_value(), Some(0.5));
    let calls = ToolCallAccuracy::default().with_clock(clock.clone());
    calls.record_call(true);
    assert_eq!(calls.compliance(), Some(1.0));
    let latency = ResponseLatency::default().with_clock(clock.clone());
    latency.record_latency(1200.0);
    latency.record_latency(7000.0);
    assert!((latency.current_value().unwrap() / 7000.0 - 1.0).abs() < 0.01);
    assert_eq!(latency.compliance(), Some(0.5));
    let cost = CostPerTask::default().with_clock(clock.clone());
    cost.record_cost("0.35".parse().unwrap());
    cost.record_cost("0.75".parse().unwrap());
    assert!((cost.current_value().unwrap() - 0.55).abs() < 1e-12);
    let made_up = HallucinationRate::default().with_clock(clock.clone());
    made_up.record_evaluation(true, 0.2);
    made_up.record_evaluation(false, 0.8);
    assert_eq!(made_up.current_value(), Some(0.2));
    let policy = PolicyCompliance::default().with_clock(clock.clone());
    policy.record_check(false);
    assert_eq!(policy.current_value(), Some(0.0));
    let depth = DelegationChainDepth::default().with_clock(clock.clone());
    depth.record_depth(2);
    depth.record_depth(5);
    assert_eq!((depth.current_value(), depth.compliance(), depth.current().maximum), (Some(3.5), Some(0.5), Some(5.0)));
    let calibration = CalibrationDelta::default().with_clock(clock);
    calibration.record_prediction(0.96, true);
    calibration.record_prediction(0.7, false);
    calibration.record_prediction(7.0, false);
    assert!((calibration.current_value().unwrap() - 0.33).abs() < 1e-12, "mean confidence 0.83, mean success 0.5");
    assert_eq!(calibration.compliance(), Some(0.5), "one of two was within 0.05");
}

#[test]
fn each_indicator_observes_only_its_events() {
    let reading = feed(
        &ToolCallAccuracy::default(),
        &[r#"tool_call,"tool":"a","correct":true"#, r#"tool_call,"tool":"a","success":false"#],
    );
    assert_eq!((reading.value, reading.samples), (Some(1.0), 1), "a call of unknown correctness is ignored");
    let reading = feed(
        &HallucinationRate::default(),
        &[
            r#"evaluation,"metric":"hallucination","score":0.9,"confidence":0.5"#,
            r#"evaluation,"metric":"hallucination","passed":true"#,
            r#"evaluation,"metric":"relevance","score":0.1"#,
        ],
    );
    assert!((reading.value.unwrap() - 1.0 / 3.0).abs() < 1e-12);
    let reading = feed(
        &CalibrationDelta::default(),
        &[r#"task_finished,"success":true,"attributes":{"confidence":0.75}"#, r#"task_finished,"success":false"#],
    );
    assert_eq!((reading.value, reading.samples), (Some(0.25), 1));
    let reading = feed(&TimeToFirstToken::default(), &[r#"llm_call,"first_token_ms":250"#, "llm_call"]);
    assert_eq!(reading.samples, 1);
}

#[test]
fn a_task_costs_its_own_cost_or_the_sum_of_its_calls() {
    let lines = [
        r#"llm_call,"task":"1","cost_usd":"0.2""#,
        r#"llm_call,"task":"2","cost_usd":0.4"#,
        r#"llm_call,"task":"1","cost_usd":"0.1""#,
        r#"task_finished,"task":"1","success":true"#,
        r#"task_finished,"task":"2","success":true,"cost_usd":"1""#,
        r#"task_finished,"task":"3","success":true"#,
    ];
    let reading = feed(&CostPerTask::new(Usd::from_nanos(500_000_000)).unwrap(), &lines);
    assert_eq!((reading.samples, reading.maximum, reading.compliance), (2, Some(1.0), Some(0.5)));
    assert!((reading.value.unwrap() - 0.65).abs() < 1e-12);
}

#[test]
fn a_loop_shows_in_the_repeats_of_its_task() {
    let call = |task: u32, arguments: u32| {
        format!(r#"tool_call,"task":"{task}","tool":"search","arguments_hash":"{arguments}""#)
    };
    let mut lines: Vec<String> = [1, 1, 2, 1, 1].map(|arguments| call(1, arguments)).to_vec();
    lines.push(call(2, 1));
    lines.push(r#"tool_call,"task":"2","tool":"search""#.to_owned());
    lines.push(r#"task_finished,"task":"1","success":true"#.to_owned());
    lines.push(r#"task_finished,"task":"2","success":true"#.to_owned());
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let reading = feed(&RepeatedToolCalls::new(2), &lines);
    assert_eq!(
        (reading.samples, reading.maximum, reading.value, reading.compliance),
        (2, Some(3.0), Some(1.5), Some(0.5))
    );
}

#[test]
fn evicted_tasks_are_samples_with_their_calls_so_far() {
    let repeats = RepeatedToolCalls::default();
    let steps = StepsPerTask::default();
    for task in 0..3000 {
        let time = 1_790_000_000;
        for json in [
            format!(r#"{{"event":"tool_call","time":{time},"task":"{task}","tool":"a","arguments_hash":"1"}}"#),
            format!(r#"{{"event":"tool_call","time":{time},"task":"{task}","tool":"a","arguments_hash":"1"}}"#),
            format!(r#"{{"event":"step_finished","time":{time},"task":"{task}","name":"n"}}"#),
        ] {
            let event = AgentEvent::from_json(json.as_bytes()).unwrap();
            repeats.observe(&event);
            steps.observe(&event);
        }
    }
    let now = Timestamp::from_secs(1_790_000_000);
    assert_eq!((repeats.reading(now).samples, repeats.reading(now).value), (3000 - 256, Some(1.0)));
    assert_eq!((steps.reading(now).samples, steps.reading(now).value), (3000 - 512, Some(1.0)));
}

#[test]
fn steps_are_counted_by_task() {
    let lines = [
        r#"step_finished,"task":"1","name":"a""#,
        r#"step_finished,"task":"1","name":"b""#,
        r#"step_finished,"task":"2","name":"a""#,
        r#"task_finished,"task":"1","success":true"#,
        r#"task_finished,"task":"2","success":true"#,
        r#"task_finished,"task":"3","success":true"#,
    ];
    let reading = feed(&StepsPerTask::new(1), &lines);
    assert_eq!((reading.samples, reading.value, reading.maximum), (3, Some(1.0), Some(2.0)));
}

#[test]
fn samples_with_metadata_are_counted_and_kept_and_their_number_is_bounded() {
    let clock = clock();
    let latency = ResponseLatency::default().with_clock(clock.clone());
    latency.record_latency(900.0);
    assert!(latency.values_in_window().is_empty(), "without metadata nothing is kept");
    latency.record_latency_with(1_200.0, [("ticket", "4711")]);
    latency.record_latency_with(f64::NAN, [("ticket", "0")]);
    let kept = latency.values_in_window();
    assert_eq!((kept.len(), kept[0].value, &kept[0].metadata["ticket"]), (1, 1_200.0, &"4711".into()));
    assert_eq!((latency.current().samples, latency.current().dropped), (2, 1));
    clock.advance(Duration::from_secs(3_600));
    assert!(latency.values_in_window().is_empty(), "the window is an hour");

    for number in 0..200_u32 {
        latency.record_latency_with(1.0, [("number", number)]);
    }
    let numbers: Vec<_> = latency.values_in_window().iter().map(|kept| kept.metadata["number"].clone()).collect();
    assert_eq!(numbers, (100..200).map(serde_json::Value::from).collect::<Vec<_>>());
    for number in 0..200_u32 {
        latency.record_latency_with(1.0, [(number.to_string(), "x".repeat(5_000))]);
    }
    let kept = latency.values_in_window();
    let bytes: usize =
        kept.iter().flat_map(|kept| &kept.metadata).map(|(key, text)| key.len() + text.as_str().unwrap().len()).sum();
    assert!((60 * 1024..=64 * 1024).contains(&bytes), "{bytes} bytes");
}

#[test]
fn every_indicator_takes_metadata() {
    let id = || [("id", 7)];
    macro_rules! kept {
        ($($indicator:ident.$record:ident($($argument:expr),+) is $value:expr;)+) => {$(
            let indicator = $indicator::default();
            indicator.$record($($argument,)+ id());
            assert_eq!(indicator.values_in_window()[0].value, $value, stringify!($indicator));
            assert_eq!(indicator.current().samples, 1, stringify!($indicator));
        )+};
    }
    kept! {
        CalibrationDelta.record_prediction_with(0.75, true) is 0.25;
        CostPerTask.record_cost_with(Usd::from_nanos(250_000_000)) is 0.25;
        DelegationChainDepth.record_depth_with(2) is 2.0;
        HallucinationRate.record_evaluation_with(true, 0.5) is 1.0;
        PolicyCompliance.record_check_with(false) is 0.0;
        RepeatedToolCalls.record_repeats_with(4) is 4.0;
        ResponseLatency.record_latency_with(5.0) is 5.0;
        StepsPerTask.record_steps_with(6) is 6.0;
        TaskSuccessRate.record_task_with(true) is 1.0;
        TimeToFirstToken.record_first_token_with(7.0) is 7.0;
        ToolCallAccuracy.record_call_with(true) is 1.0;
    }
}
