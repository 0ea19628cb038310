#![no_main]

use agent_sre::slo::{SliRegistry, SloEngine, diff, from_openslo, parse, resolve, to_openslo, to_yaml};
use libfuzzer_sys::fuzz_target;

// Specs that are valid can be written and read again, and become objectives.
fuzz_target!(|text: &str| {
    let registry = SliRegistry::default();
    let _ = from_openslo(text, "fuzz", &registry);
    let Ok(specs) = parse(text, "fuzz", &registry) else { return };
    let _ = to_openslo(&specs);
    let again = parse(&to_yaml(&specs), "again", &registry).expect("what was written can be read");
    assert!(diff(&specs, &again).is_empty());
    if let Ok(specs) = resolve(specs) {
        let _ = SloEngine::new(specs, registry);
    }
});
