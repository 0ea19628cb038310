#![no_main]

use agent_sre::trace::{Baggage, TraceContext, Traceparent, Tracestate};
use libfuzzer_sys::fuzz_target;

// The headers of a request, one a line. What is read from them and written again is read as the same, all together and one by one.
fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let headers: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(':')).collect();
    if let Ok(context) = TraceContext::from_headers(headers.iter().copied()) {
        assert_eq!(TraceContext::from_headers(context.to_headers()), Ok(context));
    }
    for (_, value) in &headers {
        if let Ok(parsed) = Traceparent::parse(value) {
            assert_eq!(Traceparent::parse(&parsed.to_text()), Ok(parsed));
        }
    }
    let values = || headers.iter().map(|(_, value)| *value);
    if let Ok(state) = Tracestate::parse(values()) {
        assert_eq!(Tracestate::parse([state.as_str()]), Ok(state));
    }
    let (baggage, _) = Baggage::parse(values());
    assert_eq!(Baggage::parse([&*baggage.to_string()]), (baggage, Vec::new()));
});
