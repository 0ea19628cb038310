#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use agent_sre::alerts::Matcher;
use agent_sre::slo::SloTarget;
use agent_sre::{FailOn, Severity, SpanId, Status, Timestamp, TraceId, Usd, Window};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    round_trip::<Usd>(text);
    round_trip::<Window>(text);
    round_trip::<Timestamp>(text);
    round_trip::<TraceId>(text);
    round_trip::<SpanId>(text);
    round_trip::<Severity>(text);
    round_trip::<Status>(text);
    round_trip::<FailOn>(text);
    let _ = text.parse::<SloTarget>();
    let _ = text.parse::<Matcher>();
});

/// What is read from a text and written again is read as the same value.
fn round_trip<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().expect("what was written can be read"), value);
    }
}
