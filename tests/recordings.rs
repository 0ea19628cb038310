//! Every recording of every adapter comes out as its ground truth says, and every adapter conforms.

use std::path::{Path, PathBuf};

use sre_adapter_langgraph::LangGraphAdapter;
use sre_adapter_openai_agents::OpenAiAgentsAdapter;
use sre_core::Adapter;
use sre_testkit::conformance;
use sre_testkit::recordings::{Recording, in_folder};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(name)
}

fn lines(recording: &Recording) -> Vec<Vec<u8>> {
    let text = std::fs::read(&recording.lines).unwrap();
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

/// The ground truth, the conformance suite, and the recording interleaved with another run of itself.
fn check(name: &str, make: &mut dyn FnMut() -> Box<dyn Adapter>) {
    for recording in in_folder(&folder(name)) {
        let records = lines(&recording);
        let events = conformance::run(&mut *make(), &records);
        recording.expected.assert_matches(&events, &format!("{name}/{}", recording.name));
        conformance::adapter(make, &records);
    }
}

#[test]
fn langgraph() {
    check("langgraph", &mut || Box::new(LangGraphAdapter::default()));
}

#[test]
fn openai_agents() {
    check("openai-agents", &mut || Box::new(OpenAiAgentsAdapter::default()));
}
