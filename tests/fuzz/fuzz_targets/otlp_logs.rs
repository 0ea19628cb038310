#![no_main]

use agent_sre::adapter::BodyKind;

// Metrics, whose data points are only counted, are nested in the same way.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sre_fuzz::otlp(BodyKind::Logs, data);
    let _ = agent_sre::otel::data_points(data);
});
