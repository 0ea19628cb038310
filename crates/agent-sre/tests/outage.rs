//! The output of the example is the one in the documentation.

#[path = "../examples/outage.rs"]
#[allow(dead_code, reason = "its `main`")]
mod outage;

#[test]
fn the_timeline_is_the_documentations() {
    let mut printed = Vec::new();
    outage::run(&mut printed).unwrap();
    let printed = String::from_utf8(printed).unwrap();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guards.md")).unwrap();
    assert!(page.contains(&printed), "{printed}");
}
