//! Recorded runs of real frameworks, with their ground truth.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sre_core::event::{PolicyCheck, ToolCall};
use sre_core::{AgentEvent, Event, Tally};

pub use crate::replay::Replay;
use crate::wire::Wire;

/// The ground truth of a recording: its `NAME.expected.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the totals")]
pub struct Expected {
    pub tasks: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub tool_calls: u64,
    pub tool_errors: u64,
    pub llm_calls: Option<u64>,
    pub llm_errors: Option<u64>,
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub handoffs: Option<u64>,
    pub guardrail_trips: Option<u64>,
    pub most_repeats_in_a_task: Option<u64>,
    pub first_token_at_least_ms: Option<Vec<f64>>,
    pub llm_attempts: Option<u64>,
    pub incomplete: Option<u64>,
}

/// A recording in a framework's folder.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The recording's name, without ending.
    pub name: String,
    /// The file with one event per line.
    pub lines: PathBuf,
    /// The raw bodies of requests, if they were recorded.
    pub bodies: Vec<PathBuf>,
    /// Its ground truth.
    pub expected: Expected,
}

/// Sets what a framework does not report; see its crate and `docs/frameworks.md`.
fn set_unreported(expected: &mut Expected, folder: &Path, recording: &str) {
    // Filters of Semantic Kernel see no model calls; only the usage of the last one is known. Haystack's spans have no usage.
    if folder.ends_with("semantic-kernel") || folder.ends_with("otlp-haystack") {
        (expected.input_tokens, expected.output_tokens) = (None, None);
    }
    // The span of a streamed call that fails has no status.
    if folder.ends_with("otlp-pydantic-ai") && recording == "streamed_failure" {
        expected.llm_errors = None;
    }
    // The root span of a run that raises is lost.
    if folder.ends_with("otlp-smolagents") && recording == "task_failure" {
        expected.incomplete = Some(expected.failed);
    }
    // Only these have the requests of a client that sends one again.
    if recording != "client_retry" || !["otlp-claude-agent-sdk", "otlp-strands"].iter().any(|one| folder.ends_with(one))
    {
        expected.llm_attempts = None;
    }
}

/// Returns the records of a recording. If the format has no ids of runs, each has one, as where runs overlap.
///
/// # Panics
/// Panics if the recording cannot be read.
pub fn with_run_ids(format: &str, recording: &Recording) -> Vec<Vec<u8>> {
    let wire = Wire::of(format);
    let records = wire.with_run_ids(wire.runs(&recording.lines).concat(), &recording.name);
    records.iter().map(|record| record.to_string().into_bytes()).collect()
}

/// Returns the folders in a folder of recordings, each with the name of the format of what is in it.
///
/// # Panics
/// Panics if the folder cannot be read.
pub fn folders(of: &Path) -> Vec<(String, &'static str)> {
    let entries = std::fs::read_dir(of).unwrap_or_else(|error| panic!("{}: {error}", of.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a readable folder").file_name().into_string().expect("a name in UTF-8"))
        .collect();
    names.sort();
    let format = |name: &str| match name {
        name if name.starts_with("otlp-") => "otlp",
        name => String::leak(name.to_owned()),
    };
    names.into_iter().map(|name| (name.clone(), format(&name))).collect()
}

/// Returns the recordings in a folder, by name. What the framework does not report is not expected.
///
/// # Panics
/// Panics if the folder or a file in it cannot be read.
pub fn in_folder(folder: &Path) -> Vec<Recording> {
    let mut recordings = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a readable folder").path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".expected.json")) else {
            continue;
        };
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let mut expected: Expected = serde_json::from_str(&text).expect("a ground truth");
        set_unreported(&mut expected, folder, name);
        let bodies = (0..).map(|part| folder.join(format!("{name}.{part}.bin"))).take_while(|body| body.exists());
        recordings.push(Recording {
            name: name.to_owned(),
            lines: folder.join(format!("{name}.jsonl")),
            bodies: bodies.collect(),
            expected,
        });
    }
    assert!(!recordings.is_empty(), "{} holds no recording", folder.display());
    recordings.sort_by(|a, b| a.name.cmp(&b.name));
    recordings
}

impl Expected {
    /// Returns the ground truth of the recording played several times.
    pub(crate) fn times(&self, times: u64) -> Self {
        let many = |count: Option<u64>| count.map(|count| count * times);
        Self {
            tasks: self.tasks * times,
            succeeded: self.succeeded * times,
            failed: self.failed * times,
            tool_calls: self.tool_calls * times,
            tool_errors: self.tool_errors * times,
            llm_calls: many(self.llm_calls),
            llm_errors: many(self.llm_errors),
            input_tokens: many(self.input_tokens),
            output_tokens: many(self.output_tokens),
            handoffs: many(self.handoffs),
            guardrail_trips: many(self.guardrail_trips),
            llm_attempts: many(self.llm_attempts),
            incomplete: many(self.incomplete),
            // Of one task, whose calls are those of each time.
            most_repeats_in_a_task: None,
            first_token_at_least_ms: None,
        }
    }

    /// Compares the events of the recording with its ground truth.
    ///
    /// # Panics
    /// Panics if they differ.
    pub fn assert_matches(&self, events: &[AgentEvent], name: &str) {
        let mut tally = Tally::default();
        events.iter().for_each(|event| tally.observe(event));
        let found = tally.totals();
        assert_eq!(
            [found.tasks, found.succeeded, found.failed, found.tool_calls, found.tool_errors],
            [self.tasks, self.succeeded, self.failed, self.tool_calls, self.tool_errors],
            "{name}: tasks, succeeded, failed, tool calls, tool errors"
        );
        assert_eq!(found.incomplete, self.incomplete.unwrap_or(0), "{name}: incomplete tasks");
        let seen = |wanted: Option<u64>, found: u64, what: &str| {
            assert!(wanted.is_none_or(|wanted| wanted == found), "{name}: {what}: found {found}, expected {wanted:?}");
        };
        seen(self.llm_calls, found.llm_calls, "model calls");
        seen(self.llm_errors, found.llm_errors, "failed model calls");
        seen(self.input_tokens, found.input_tokens, "input tokens");
        seen(self.output_tokens, found.output_tokens, "output tokens");
        let count =
            |matches: &dyn Fn(&Event) -> bool| events.iter().filter(|event| matches(&event.event)).count() as u64;
        if self.handoffs.is_some() {
            seen(self.handoffs, count(&|event| matches!(event, Event::Handoff(_))), "hand-offs");
        }
        let tripped = count(&|event| matches!(event, Event::PolicyCheck(PolicyCheck { compliant: false, .. })));
        seen(self.guardrail_trips, tripped, "guardrail trips");
        seen(self.llm_attempts, attempts(events), "attempts of model calls");
        seen(self.most_repeats_in_a_task, most_repeats(events), "most repeats in a task");
        self.assert_first_tokens(events, name);
    }

    /// Checks that no first token is reported before the server sent it, if the framework reports first tokens.
    fn assert_first_tokens(&self, events: &[AgentEvent], name: &str) {
        let Some(at_least) = &self.first_token_at_least_ms else { return };
        let mut found: Vec<f64> = events
            .iter()
            .filter_map(|event| match &event.event {
                Event::LlmCall(call) => call.first_token_ms,
                _ => None,
            })
            .collect();
        found.sort_by(f64::total_cmp);
        // A task with several calls has one sample per call; the delays of its calls are not recorded.
        if found.len() == at_least.len() {
            for (found, at_least) in found.iter().zip(at_least) {
                assert!(found >= at_least, "{name}: first token after {found} ms, expected at least {at_least}");
            }
        }
    }
}

/// Counts the attempts of model calls: of those with one operation, the last has their number.
fn attempts(events: &[AgentEvent]) -> u64 {
    let mut of_operations: HashMap<&str, u32> = HashMap::new();
    let mut others = 0;
    for event in events {
        let Event::LlmCall(call) = &event.event else { continue };
        match (&call.operation_id, call.attempt) {
            (Some(operation), Some(attempt)) => {
                let last = of_operations.entry(operation).or_default();
                *last = attempt.max(*last);
            }
            _ => others += 1,
        }
    }
    others + of_operations.into_values().map(u64::from).sum::<u64>()
}

/// Counts repeated calls one by one.
fn most_repeats(events: &[AgentEvent]) -> u64 {
    let mut calls: HashMap<(Cow<'_, str>, &str, &str), u64> = HashMap::new();
    for event in events {
        if let Event::ToolCall(ToolCall { tool, arguments_hash: Some(arguments), .. }) = &event.event {
            *calls.entry((event.task_key(), tool, arguments)).or_default() += 1;
        }
    }
    let mut by_task: HashMap<Cow<'_, str>, u64> = HashMap::new();
    for ((task, _, _), count) in calls {
        *by_task.entry(task).or_default() += count - 1;
    }
    by_task.into_values().max().unwrap_or(0)
}
