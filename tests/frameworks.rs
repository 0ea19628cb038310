//! `docs/frameworks.md` lists what each framework reports, as its recordings show.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agent_sre::{Format, RunLimits};
use sre_core::{AgentEvent, Event};
use sre_testkit::conformance;
use sre_testkit::recordings::{folders, in_folder};

/// A column of the table, and whether an event shows it.
type Column = (&'static str, fn(&AgentEvent) -> bool);

const COLUMNS: [Column; 12] = [
    ("steps", |event| matches!(&event.event, Event::StepFinished(_))),
    ("model", |event| matches!(&event.event, Event::LlmCall(call) if call.model.is_some())),
    ("tokens", |event| matches!(&event.event, Event::LlmCall(call) if call.input_tokens > 0)),
    ("cost", |event| event.event.cost_usd().is_some()),
    ("first token", |event| matches!(&event.event, Event::LlmCall(call) if call.first_token_ms.is_some())),
    ("failed model calls", |event| matches!(&event.event, Event::LlmCall(call) if !call.success)),
    (
        "retries",
        |event| matches!(&event.event, Event::LlmCall(call) if call.attempt.is_some_and(|attempt| attempt > 1)),
    ),
    ("failed tool calls", |event| matches!(&event.event, Event::ToolCall(call) if !call.success)),
    ("arguments", |event| matches!(&event.event, Event::ToolCall(call) if call.arguments_hash.is_some())),
    ("call ids", |event| matches!(&event.event, Event::ToolCall(call) if call.operation_id.is_some())),
    ("handoffs", |event| matches!(&event.event, Event::Handoff(_))),
    ("guardrails", |event| matches!(&event.event, Event::PolicyCheck(_))),
];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns the columns that the recordings of a folder show.
fn shown(folder: &str, format: &str) -> [bool; COLUMNS.len()] {
    let format: Format = format.parse().unwrap();
    let mut shown = [false; COLUMNS.len()];
    for recording in in_folder(&root("recordings").join(folder)) {
        let lines = std::fs::read(&recording.lines).unwrap();
        let records: Vec<Vec<u8>> =
            lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
        for event in conformance::run(&mut *format.adapter(RunLimits::default()), &records) {
            for (shown, (_, shows)) in shown.iter_mut().zip(COLUMNS) {
                *shown |= shows(&event);
            }
        }
    }
    shown
}

/// A cell is `yes` if and only if the recordings show it; any other text is the reason, or the condition.
#[test]
fn the_table_is_what_the_recordings_show() {
    let page = std::fs::read_to_string(root("../docs/frameworks.md")).unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut table = page.lines().filter(|line| line.starts_with('|')).map(cells);
    let header = table.next().unwrap();
    assert_eq!(header[1..], COLUMNS.map(|(name, _)| name.to_owned()));
    let rows: BTreeMap<String, Vec<String>> =
        table.skip(1).map(|mut row| (row.remove(0).trim_matches('`').to_owned(), row)).collect();
    let folders = folders(&root("recordings"));
    assert_eq!(rows.keys().collect::<Vec<_>>(), folders.iter().map(|(folder, _)| folder).collect::<Vec<_>>());
    let mut wrong = Vec::new();
    for (folder, format) in &folders {
        for ((cell, shown), (column, _)) in rows[folder].iter().zip(shown(folder, format)).zip(COLUMNS) {
            if (cell == "yes") != shown {
                wrong.push(format!("{folder}, {column}: found `{cell}`, reported: {shown}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
