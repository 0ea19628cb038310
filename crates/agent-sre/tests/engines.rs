//! The settings of engines: their defaults, and the files that replace these.
#![cfg(all(feature = "cascade", feature = "cost"))]

use std::path::Path;

use agent_sre::cost::PriceBook;
use agent_sre::{EngineSettings, settings_files};

#[test]
fn breakers_are_quiet_and_prices_public_until_a_file_says_otherwise() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/guards");
    let mut settings = EngineSettings::every_engine();
    assert_eq!((&settings.quiet_sources[..], settings.prices_as_of), (&["cascade"][..], Some(PriceBook::PUBLIC_AS_OF)));
    let mut load = |name, file| {
        let known = settings_files().find(|known| known.name == name).unwrap();
        known.load(&examples.join(file), &mut settings).unwrap();
        (settings.quiet_sources.len(), settings.prices_as_of.is_some())
    };
    assert_eq!(load("limits", "limits.yaml"), (1, true));
    assert_eq!(load("breakers", "breakers.yaml"), (0, true));
    assert_eq!(load("prices", "prices.json"), (0, false));
}
