#![no_main]

use agent_sre::alerts::NotifyConfig;
use agent_sre::cascade::DetectorConfig;
use agent_sre::cost::{Limits, PriceBook};
use libfuzzer_sys::fuzz_target;
use sre_server::Config;

// Every settings file is read by all readers: each finds its own fields, and errors in those of others.
fuzz_target!(|text: &str| {
    let _ = Config::parse(text, "fuzz");
    let _ = Limits::parse(text, "fuzz");
    let _ = DetectorConfig::parse(text, "fuzz");
    let _ = PriceBook::from_yaml(text, "fuzz");
    let _ = PriceBook::from_litellm(text, "fuzz");
    let _ = NotifyConfig::parse(text, "fuzz", &|name| (name == "SET").then(|| "value".to_owned()));
});
