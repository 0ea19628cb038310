use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sre_core::adapter::{
    Adapter, AdapterError, AdapterSnapshot, AdapterStats, IngestLimits, IngestReport, OpenRun, Recorder, RunLimits,
    RunTracker,
};
use sre_core::event::{LlmCall, StepFinished, StringLimiter, ToolCall};
use sre_core::{AgentEvent, Event, StateError, StateReader, StateWriter, Timestamp, arguments_hash};

use crate::manual::GraphRun;
use crate::raised::{Raised, Settled};
use crate::wire::{self, Line, ModelEnd, ToolEnd, ToolInput};

/// Reads the lines of `astream_events(version="v2")`, and creates the same events for manual recording.
#[derive(Debug)]
pub struct LangGraphAdapter {
    runs: RunTracker<Graph>,
    raised: Raised,
    recorder: Recorder,
}

/// The open calls and nodes of a graph's run. In order, so that a restart does not change the order of events.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Graph {
    calls: BTreeMap<String, Call>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Call {
    kind: CallKind,
    name: String,
    /// The node or call around it; `None` if that is the run itself.
    parent: Option<String>,
    started: Timestamp,
    first_token: Option<Timestamp>,
    arguments_hash: Option<String>,
    /// The id that the model assigned to the tool call.
    tool_call_id: Option<String>,
    model: Option<String>,
    provider: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum CallKind {
    Model,
    Tool,
    Node,
}

/// Maximum number of open calls and nodes in one run; further ones are counted as unmatched.
const MAX_OPEN_CALLS: usize = 4_096;

impl LangGraphAdapter {
    /// Creates an adapter with the given limits. Events recorded manually go to `recorder`.
    pub fn new(limits: RunLimits, recorder: Recorder) -> Self {
        Self { runs: RunTracker::new(limits), raised: Raised::default(), recorder }
    }

    /// Starts a run of a graph. Its events are recorded through the returned handle.
    pub fn on_graph_start(&self, graph: &str) -> GraphRun {
        GraphRun { run: self.recorder.start(graph), nodes: BTreeMap::default() }
    }

    /// Returns the totals of the manually recorded runs.
    pub fn snapshot(&self) -> AdapterSnapshot {
        self.recorder.snapshot()
    }

    /// Resets the totals.
    pub fn clear(&self) {
        self.recorder.clear();
    }

    fn start_root(&mut self, run_id: &str, line: &Line<'_>, emit: &mut dyn FnMut(AgentEvent)) {
        let agent = line.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
        let run = OpenRun::native(agent, run_id, line.time, Graph::default());
        emit(run.started(line.name.clone()));
        if let Some((at, displaced)) = self.runs.open(run_id, run) {
            self.raised.rule_out(&displaced.task);
            close_incomplete(&displaced, at, emit);
        }
    }

    fn raised(&mut self, line: Line<'_>, emit: &mut dyn FnMut(AgentEvent)) {
        let mut error = match (line.error, line.message) {
            (Some(error), Some(message)) => format!("{error}: {message}"),
            (error, message) => error.or(message).unwrap_or_else(|| "raised".to_owned()),
        };
        StringLimiter::default().text(&mut error);
        if let Some(run) = line.run_id.as_deref().and_then(|run_id| self.runs.close(run_id)) {
            self.raised.rule_out(&run.task);
            return close(&run, line.time, Some(error), emit);
        }
        let candidates: BTreeSet<String> = self.runs.iter().map(|(key, _)| key.to_owned()).collect();
        if candidates.is_empty() {
            self.runs.counts.unmatched += 1;
        } else {
            self.runs.counts.unmatched += self.raised.add(line.time, error, candidates);
            self.settle_raised(false, emit);
        }
    }

    fn settle_raised(&mut self, at_end: bool, emit: &mut dyn FnMut(AgentEvent)) {
        loop {
            let runs = &self.runs;
            let oldest_call = |candidates: &BTreeSet<String>| {
                let started = |run: &OpenRun<Graph>| run.state.calls.values().map(|call| call.started).min();
                let open = runs.iter().filter(|(key, _)| candidates.contains(*key));
                open.min_by_key(|(_, run)| started(run).unwrap_or(run.started)).map(|(key, _)| key.to_owned())
            };
            let Some(Settled { time, error, run }) = self.raised.settle(at_end, &oldest_call) else { return };
            match run.and_then(|run| self.runs.close(&run)) {
                Some(run) => close(&run, time, Some(error), emit),
                None => self.runs.counts.unmatched += 1,
            }
        }
    }

    fn in_run(
        &mut self,
        root: &str,
        run_id: &str,
        line: &Line<'_>,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError> {
        let Some(run) = self.runs.get_mut(root) else {
            self.runs.counts.unmatched += 1;
            return Ok(());
        };
        let kind = match &*line.event {
            "on_chat_model_start" | "on_llm_start" => Some(CallKind::Model),
            "on_tool_start" => Some(CallKind::Tool),
            "on_chain_start" if line.is_node() => Some(CallKind::Node),
            _ => None,
        };
        if let Some(kind) = kind {
            match run.state.open(run_id, kind, line) {
                Some(grown) => self.grow(root, grown, emit),
                None => self.runs.counts.unmatched += 1,
            }
            return Ok(());
        }
        match &*line.event {
            "on_chat_model_stream" | "on_llm_stream" => {
                if let Some(call) = run.state.calls.get_mut(run_id) {
                    call.first_token.get_or_insert(line.time);
                }
            }
            "on_chat_model_end" | "on_llm_end" | "on_tool_end" | "on_chain_end" => {
                if let Some(mut call) = run.state.calls.remove(run_id) {
                    let bytes = call.bytes(run_id);
                    let error = call.read_tool_message(line);
                    let event = call.event(run, run_id, line, error);
                    if let Err(invalid) = event.event.check() {
                        run.state.calls.insert(run_id.to_owned(), call);
                        return Err(invalid.into());
                    }
                    emit(event);
                    self.grow(root, -bytes, emit);
                }
            }
            "on_chat_model_error" | "on_llm_error" | "on_tool_error" | "on_chain_error" => {
                if let Some(mut call) = run.state.calls.remove(run_id) {
                    let bytes = call.bytes(run_id);
                    let data: wire::ErrorData<'_> = wire::read(line.data);
                    let error = data.text();
                    call.tool_call_id = data.tool_call_id;
                    emit(call.event(run, run_id, line, Some(error)));
                    self.grow(root, -bytes, emit);
                }
            }
            name if name.starts_with("on_") => {}
            _ => self.runs.counts.unknown += 1,
        }
        Ok(())
    }

    /// Records that the open calls of a run take more memory, or less, and closes the oldest runs if all take too much.
    fn grow(&mut self, root: &str, bytes: isize, emit: &mut dyn FnMut(AgentEvent)) {
        for (at, displaced) in self.runs.grow(root, bytes) {
            self.raised.rule_out(&displaced.task);
            close_incomplete(&displaced, at, emit);
        }
    }
}

impl Default for LangGraphAdapter {
    fn default() -> Self {
        Self::new(RunLimits::default(), Recorder::default())
    }
}

impl Adapter for LangGraphAdapter {
    fn ingest_record(
        &mut self,
        record: &[u8],
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<IngestReport, AdapterError> {
        let mut line: Line<'_> = serde_json::from_slice(record)?;
        limits.check([line.time])?;
        let mut limiter = StringLimiter::default();
        line.limit_strings(&mut limiter);
        self.runs.counts.shortened += limiter.shortened;
        if self.runs.advance(line.time, limits) {
            self.expire(line.time, emit);
        }
        if line.event == "raised" {
            self.raised(line, emit);
            return Ok(IngestReport::accepted());
        }
        let Some(run_id) = line.run_id.clone() else {
            self.runs.counts.unknown += 1;
            return Ok(IngestReport::accepted());
        };
        let root = line.parent_ids.first().unwrap_or(&run_id).clone();
        if !self.raised.is_empty() {
            self.raised.rule_out(&root);
            self.settle_raised(false, emit);
        }
        match &*line.event {
            "on_chain_start" if root == run_id => self.start_root(&run_id, &line, emit),
            "on_chain_end" if root == run_id => {
                if let Some(run) = self.runs.end(&run_id) {
                    close(&run, line.time, None, emit);
                }
            }
            "on_chain_error" if root == run_id => {
                if let Some(run) = self.runs.end(&run_id) {
                    let data: wire::ErrorData<'_> = wire::read(line.data);
                    // Each call that is still open gets a copy.
                    let mut error = data.text();
                    StringLimiter::default().text(&mut error);
                    close(&run, line.time, Some(error), emit);
                }
            }
            _ => self.in_run(&root, &run_id, &line, emit)?,
        }
        Ok(IngestReport::accepted())
    }

    fn expire(&mut self, now: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        for (deadline, run) in self.runs.expire(now) {
            self.raised.rule_out(&run.task);
            close_incomplete(&run, deadline, emit);
        }
    }

    fn finish(&mut self, emit: &mut dyn FnMut(AgentEvent)) {
        self.settle_raised(true, emit);
        for (end, run) in self.runs.drain() {
            close_incomplete(&run, end, emit);
        }
    }

    fn save(&self, state: &mut StateWriter) {
        self.runs.save(state);
        state.section("raised", |state| state.put(&self.raised));
    }

    fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.runs.restore(state)?;
        while !state.is_empty() {
            if let ("raised", mut state) = state.section()? {
                self.raised = state.take()?;
            }
        }
        Ok(())
    }

    fn stats(&self) -> AdapterStats {
        self.runs.stats()
    }
}

/// Closes a run, which failed if `error` is given; the calls still open in it have failed too.
fn close(run: &OpenRun<Graph>, time: Timestamp, error: Option<String>, emit: &mut dyn FnMut(AgentEvent)) {
    if let Some(error) = &error {
        calls_never_ended(run, time, error, emit);
    }
    emit(run.finished(time, error));
}

/// Closes a run whose end never arrived.
fn close_incomplete(run: &OpenRun<Graph>, time: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
    calls_never_ended(run, time, "incomplete: the task never ended", emit);
    emit(run.incomplete(time));
}

/// Reports the calls that were open at the end of the run as failed, because LangGraph reports no end for them.
fn calls_never_ended(run: &OpenRun<Graph>, time: Timestamp, error: &str, emit: &mut dyn FnMut(AgentEvent)) {
    let mut open: Vec<_> = run.state.calls.iter().collect();
    open.sort_by_key(|(_, call)| std::cmp::Reverse(call.started));
    for (run_id, call) in open {
        emit(call.ended(run, run_id, time, Some(error.to_owned()), None));
    }
}

impl Graph {
    /// Opens a call. Returns by how many bytes that has grown the graph; `None` if too many are open.
    fn open(&mut self, run_id: &str, kind: CallKind, line: &Line<'_>) -> Option<isize> {
        if self.calls.len() >= MAX_OPEN_CALLS {
            return None;
        }
        let arguments_hash = match kind {
            CallKind::Tool => {
                let data = line.data.and_then(|data| serde_json::from_str::<ToolInput<'_>>(data.get()).ok());
                data.and_then(|data| data.input).map(|input| arguments_hash(input.get()))
            }
            CallKind::Model | CallKind::Node => None,
        };
        let call = Call {
            kind,
            name: line.name.clone().unwrap_or_default(),
            // The nearest ancestor that becomes an event; the chains in between do not.
            parent: line.parent_ids.iter().rev().find(|id| self.calls.contains_key(*id)).cloned(),
            started: line.time,
            first_token: None,
            arguments_hash,
            tool_call_id: None,
            model: line.metadata.ls_model_name.clone(),
            provider: line.metadata.ls_provider.clone(),
        };
        let bytes = call.bytes(run_id);
        let replaced = self.calls.insert(run_id.to_owned(), call);
        Some(bytes - replaced.map_or(0, |replaced| replaced.bytes(run_id)))
    }
}

impl Call {
    /// Returns the approximate size in memory, in bytes.
    fn bytes(&self, run_id: &str) -> isize {
        let texts = [&self.parent, &self.arguments_hash, &self.tool_call_id, &self.model, &self.provider];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        (size_of::<Self>() + run_id.len() + self.name.len() + texts).cast_signed()
    }

    /// Reads the message at the end of a tool call. A tool node may convert an exception of the tool to a message with
    /// status `error`, which is returned as the error of the call.
    fn read_tool_message(&mut self, line: &Line<'_>) -> Option<String> {
        if self.kind != CallKind::Tool {
            return None;
        }
        let message = wire::read::<ToolEnd<'_>>(line.data).message()?;
        self.tool_call_id = message.tool_call_id;
        (message.status == "error").then(|| "the tool returned an error".to_owned())
    }

    fn event(&self, run: &OpenRun<Graph>, run_id: &str, line: &Line<'_>, error: Option<String>) -> AgentEvent {
        let end = (self.kind == CallKind::Model && error.is_none()).then(|| wire::read::<ModelEnd>(line.data));
        self.ended(run, run_id, line.time, error, end)
    }

    fn ended(
        &self,
        run: &OpenRun<Graph>,
        run_id: &str,
        time: Timestamp,
        error: Option<String>,
        end: Option<ModelEnd>,
    ) -> AgentEvent {
        let duration_ms = Some(time.millis_since(self.started));
        let event: Event = match self.kind {
            CallKind::Tool => {
                let mut call = ToolCall::new(&self.name).with_error(error);
                call.arguments_hash.clone_from(&self.arguments_hash);
                call.operation_id.clone_from(&self.tool_call_id);
                call.duration_ms = duration_ms;
                call.into()
            }
            CallKind::Node => {
                let mut step = StepFinished::new(&self.name, "node").with_error(error);
                step.duration_ms = duration_ms;
                step.into()
            }
            CallKind::Model => {
                let output = end.and_then(|end| end.output).unwrap_or_default();
                let response = output.response_metadata.unwrap_or_default();
                let usage = output.usage_metadata.unwrap_or_default();
                let mut call = LlmCall::new(response.model_name.or_else(|| self.model.clone())).with_error(error);
                call.provider = self.provider.clone().or(response.model_provider);
                call.input_tokens = usage.input_tokens;
                call.cached_input_tokens =
                    usage.input_token_details.and_then(|details| details.cache_read).unwrap_or(0);
                call.output_tokens = usage.output_tokens;
                call.duration_ms = duration_ms;
                call.first_token_ms = self.first_token.map(|first| first.millis_since(self.started));
                call.into()
            }
        };
        run.native_event(time, run_id, self.parent.as_deref(), event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: &str, time: i64, run: &str, root: &str) -> String {
        let parents = if run == root { "[]".to_owned() } else { format!("[\"{root}\"]") };
        format!(r#"{{"event":"{event}","time":{time},"name":"support","run_id":"{run}","parent_ids":{parents}}}"#)
    }

    fn read(lines: &[String]) -> Vec<(String, bool, bool)> {
        let mut adapter = LangGraphAdapter::default();
        let mut events = Vec::new();
        for line in lines {
            adapter.ingest(line.as_bytes(), &mut |event| events.push(event)).unwrap();
        }
        adapter.finish(&mut |event| events.push(event));
        let finished = events.iter().filter_map(|event| match event.event {
            Event::TaskFinished(ref task) => Some((event.task.clone().unwrap(), task.success, event.is_incomplete())),
            _ => None,
        });
        let mut finished: Vec<_> = finished.collect();
        finished.sort();
        finished
    }

    const RAISED: &str = r#"{"event":"raised","time":20,"error":"E","message":"m"}"#;

    #[test]
    fn of_runs_that_overlap_the_silent_one_raised() {
        let finished = read(&[
            line("on_chain_start", 1, "a", "a"),
            line("on_chain_start", 2, "b", "b"),
            line("on_chain_start", 3, "c", "c"),
            RAISED.to_owned(),
            line("on_chat_model_start", 21, "x", "a"),
            line("on_chain_end", 22, "c", "c"),
            line("on_chain_end", 23, "a", "a"),
        ]);
        assert_eq!(finished, [("a".into(), true, false), ("b".into(), false, false), ("c".into(), true, false)]);
    }

    #[test]
    fn of_as_many_silent_runs_as_throws_all_threw() {
        let mut adapter = LangGraphAdapter::default();
        let mut failed = 0;
        let lines = [
            line("on_chain_start", 1, "a", "a"),
            line("on_chain_start", 2, "b", "b"),
            line("on_chain_start", 3, "c", "c"),
            RAISED.to_owned(),
            RAISED.to_owned(),
            line("on_chat_model_start", 21, "x", "c"),
        ];
        for line in lines {
            let mut count = |event: AgentEvent| failed += u32::from(event.event.outcome() == Some(false));
            adapter.ingest(line.as_bytes(), &mut count).unwrap();
        }
        assert_eq!(failed, 2, "known before the input ends");
        assert_eq!(adapter.stats().open_runs, 1);
    }

    #[test]
    fn a_run_that_makes_room_is_incomplete() {
        let limits = RunLimits { max_open_runs: 1, ..Default::default() };
        let mut adapter = LangGraphAdapter::new(limits, Recorder::default());
        let mut ended = Vec::new();
        for line in [line("on_chain_start", 1, "a", "a"), line("on_chain_start", 2, "b", "b")] {
            adapter.ingest(line.as_bytes(), &mut |event| ended.extend(event.is_incomplete().then_some(event))).unwrap();
        }
        assert_eq!(ended[0].task.as_deref(), Some("a"));
    }

    #[test]
    fn at_the_end_the_longest_open_call_is_taken_for_the_one_that_raised() {
        let finished = read(&[
            line("on_chain_start", 1, "a", "a"),
            line("on_chain_start", 2, "b", "b"),
            line("on_chat_model_start", 3, "y", "b"),
            line("on_chat_model_start", 4, "x", "a"),
            RAISED.to_owned(),
        ]);
        assert_eq!(finished, [("a".into(), false, true), ("b".into(), false, false)]);
    }

    #[test]
    fn a_raised_line_may_name_its_run() {
        let finished = read(&[
            line("on_chain_start", 1, "a", "a"),
            line("on_chain_start", 2, "b", "b"),
            RAISED.replace("\"time\"", "\"run_id\":\"a\",\"time\""),
            line("on_chain_end", 30, "b", "b"),
        ]);
        assert_eq!(finished, [("a".into(), false, false), ("b".into(), true, false)]);
    }

    #[test]
    fn open_calls_are_bounded_in_bytes_over_all_runs() {
        let limits = RunLimits { max_open_bytes: 100_000, ..Default::default() };
        let mut adapter = LangGraphAdapter::new(limits, Recorder::default());
        let (mut incomplete, mut ended) = (0, 0);
        let mut read = |line: String| {
            let mut count = |event: AgentEvent| {
                incomplete += u64::from(event.is_incomplete());
                ended += u64::from(matches!(event.event, Event::TaskFinished(_)));
            };
            adapter.ingest(line.as_bytes(), &mut count).unwrap();
        };
        for run in 0..100 {
            let root = format!("run-{run}");
            read(line("on_chain_start", run, &root, &root));
            for call in 0..10 {
                let call = format!("{}{run}-{call}", "x".repeat(1_000));
                read(line("on_tool_start", run, &call, &root));
                // Calls that have ended take no room.
                if run % 2 == 0 {
                    read(line("on_tool_end", run, &call, &root));
                }
            }
        }
        let stats = adapter.stats();
        assert!((10..60).contains(&stats.open_runs), "{stats:?}");
        assert_eq!((stats.evicted_runs, stats.open_runs as u64), (incomplete, 100 - ended));
        assert!(stats.shortened >= 1_000);
    }

    #[test]
    fn exceptions_without_a_run_are_bounded() {
        let mut adapter = LangGraphAdapter::default();
        for run in 0..100 {
            let root = format!("run-{run}");
            adapter.ingest(line("on_chain_start", 1, &root, &root).as_bytes(), &mut |_| {}).unwrap();
        }
        (0..60).for_each(|_| adapter.ingest(RAISED.as_bytes(), &mut |_| {}).unwrap());
        assert_eq!(adapter.stats().unmatched, 60 - 32);
    }

    #[test]
    fn a_call_with_more_tokens_than_can_be_is_rejected() {
        let (mut adapter, mut events) = (LangGraphAdapter::default(), Vec::new());
        let mut ingest = |line: &str| adapter.ingest(line.as_bytes(), &mut |event| events.push(event));
        ingest(&line("on_chain_start", 1, "r", "r")).unwrap();
        ingest(&line("on_chat_model_start", 2, "c", "r")).unwrap();
        let end = |tokens: u64| {
            let data = format!(r#""data":{{"output":{{"usage_metadata":{{"output_tokens":{tokens}}}}}}},"event""#);
            line("on_chat_model_end", 3, "c", "r").replacen("\"event\"", &data, 1)
        };
        let error = ingest(&end(u64::MAX)).unwrap_err().to_string();
        assert!(error.contains("`output_tokens`: found 18446744073709551615"), "{error}");
        ingest(&end(7)).unwrap();
        let calls: Vec<_> = events
            .iter()
            .filter_map(|event| if let Event::LlmCall(call) = &event.event { Some(call.output_tokens) } else { None })
            .collect();
        assert_eq!(calls, [7]);
    }
}
