#![no_main]

use agent_sre::cascade::DetectorConfig;
use agent_sre::cost::{Limits, PriceBook};
use agent_sre::slo::{SliRegistry, parse};
use agent_sre::trace::TailSamplerOptions;
use agent_sre::{EngineSettings, Format, RunLimits, Runtime, StateReader};
use libfuzzer_sys::fuzz_target;

// Damaged state is an error, for every adapter and every engine.
fuzz_target!(|data: &[u8]| {
    for format in Format::all() {
        let _ = format.adapter(RunLimits::default()).restore(&mut StateReader::new(data));
    }
    let slos =
        "name: answers\nindicators: [{type: response_latency, target_ms: 500}, {type: task_success_rate, target: 0.9}]";
    let settings = EngineSettings {
        slos: parse(slos, "fuzz", &SliRegistry::default()).expect("valid"),
        prices: Some(PriceBook::default()),
        limits: Some(Limits::default()),
        breakers: Some(DetectorConfig::default()),
        traces: Some(TailSamplerOptions::default()),
        ..EngineSettings::default()
    };
    let runtime = Runtime::builder().engines(&settings).expect("valid").build().expect("valid");
    for section in StateReader::new(data).sections() {
        let Ok((name, mut state)) = section else { break };
        let _ = runtime.restore(name, &mut state);
    }
});
