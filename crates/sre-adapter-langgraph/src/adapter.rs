use std::collections::{BTreeMap, BTreeSet};

use sre_core::adapter::{
    Adapter, AdapterError, AdapterStats, IngestLimits, IngestReport, OpenRun, OpenSpan, OpenSpans, SpanEnd, SpanKind,
};
use sre_core::event::StringLimiter;
use sre_core::{AgentEvent, StateError, StateReader, StateWriter, Timestamp, arguments_hash};

use crate::manual::GraphRun;
use crate::raised::{Raised, Settled};
use crate::wire::{self, Line, ToolInput};

sre_core::span_adapter! {
    /// Reads the lines of `astream_events(version="v2")`, and creates the same events for manual recording.
    pub struct LangGraphAdapter { raised: Raised }
    step_kind: "node",
}

impl LangGraphAdapter {
    /// Starts a run of a graph. Its events are recorded through the returned handle.
    pub fn on_graph_start(&self, graph: &str) -> GraphRun {
        GraphRun { run: self.recorder.start(graph), nodes: BTreeMap::default() }
    }

    fn raised(&mut self, line: Line<'_>, emit: &mut dyn FnMut(AgentEvent)) {
        let mut error = match (line.error, line.message) {
            (Some(error), Some(message)) => format!("{error}: {message}"),
            (error, message) => error.or(message).unwrap_or_else(|| "raised".to_owned()),
        };
        StringLimiter::default().text(&mut error);
        if let Some(run_id) = line.run_id.filter(|run_id| self.runs.tracker().get(run_id).is_some()) {
            return self.end_run(&run_id, line.time, Some(error), emit);
        }
        let candidates: BTreeSet<String> = self.runs.tracker().iter().map(|(key, _)| key.to_owned()).collect();
        let given_up = match candidates.is_empty() {
            true => 1,
            false => self.raised.add(line.time, error, candidates),
        };
        self.runs.tracker().counts.unmatched += given_up;
        self.settle_raised(false, emit);
    }

    fn settle_raised(&mut self, at_end: bool, emit: &mut dyn FnMut(AgentEvent)) {
        let runs = self.runs.tracker();
        self.raised.retain(&|run| runs.get(run).is_some());
        loop {
            let runs = self.runs.tracker();
            let oldest_call = |candidates: &BTreeSet<String>| {
                let started = |run: &OpenRun<OpenSpans>| run.state.iter().map(|(_, span)| span.started).min();
                let open = runs.iter().filter(|(key, _)| candidates.contains(*key));
                open.min_by_key(|(_, run)| started(run).unwrap_or(run.started)).map(|(key, _)| key.to_owned())
            };
            let Some(Settled { time, error, run }) = self.raised.settle(at_end, &oldest_call) else { return };
            match run {
                Some(run) => self.runs.end_run(&run, time, Some(error), emit),
                None => runs.counts.unmatched += 1,
            }
        }
    }

    fn end_run(&mut self, key: &str, time: Timestamp, error: Option<String>, emit: &mut dyn FnMut(AgentEvent)) {
        self.raised.rule_out(key);
        self.runs.end_run(key, time, error, emit);
    }

    fn in_run(
        &mut self,
        root: &str,
        run_id: &str,
        line: &Line<'_>,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError> {
        if self.runs.tracker().get(root).is_none() {
            self.runs.tracker().counts.unmatched += 1;
            return Ok(());
        }
        let kind = match &*line.event {
            "on_chat_model_start" | "on_llm_start" => Some(SpanKind::Model),
            "on_tool_start" => Some(SpanKind::Tool),
            "on_chain_start" if line.is_node() => Some(SpanKind::Step),
            _ => None,
        };
        if let Some(kind) = kind {
            let span = self.span(kind, line);
            self.runs.start_span(root, run_id, span, emit);
            return Ok(());
        }
        let Some(span) = self.runs.span_mut(run_id) else {
            self.runs.tracker().counts.unknown += u64::from(!line.event.starts_with("on_"));
            return Ok(());
        };
        match &*line.event {
            "on_chat_model_stream" | "on_llm_stream" => {
                span.first_token.get_or_insert(line.time);
            }
            "on_chat_model_end" | "on_llm_end" | "on_tool_end" | "on_chain_end" => {
                let end = line.end(span.kind);
                self.runs.end_span(run_id, line.time, end, emit)?;
            }
            "on_chat_model_error" | "on_llm_error" | "on_tool_error" | "on_chain_error" => {
                let data: wire::ErrorData<'_> = wire::read(line.data);
                let end = SpanEnd { error: Some(data.text()), operation_id: data.tool_call_id, ..SpanEnd::default() };
                self.runs.end_span(run_id, line.time, end, emit)?;
            }
            name => self.runs.tracker().counts.unknown += u64::from(!name.starts_with("on_")),
        }
        Ok(())
    }

    fn span(&mut self, kind: SpanKind, line: &Line<'_>) -> OpenSpan {
        let mut span = OpenSpan::new(kind, line.name.clone().unwrap_or_default(), line.time);
        // The nearest ancestor that becomes an event; the chains in between do not.
        span.parent = line.parent_ids.iter().rev().find(|id| self.runs.span_mut(id).is_some()).cloned();
        span.model.clone_from(&line.metadata.ls_model_name);
        span.provider.clone_from(&line.metadata.ls_provider);
        if kind == SpanKind::Tool {
            span.arguments_hash = wire::read::<ToolInput<'_>>(line.data).input.map(|input| arguments_hash(input.get()));
        }
        span
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
        self.runs.tracker().counts.shortened += limiter.shortened;
        self.runs.advance(line.time, limits, emit)?;
        if line.event == "raised" {
            self.raised(line, emit);
            return Ok(IngestReport::accepted());
        }
        let Some(run_id) = line.run_id.clone() else {
            self.runs.tracker().counts.unknown += 1;
            return Ok(IngestReport::accepted());
        };
        let root = line.parent_ids.first().unwrap_or(&run_id).clone();
        if !self.raised.is_empty() {
            self.raised.rule_out(&root);
            self.settle_raised(false, emit);
        }
        match &*line.event {
            "on_chain_start" if root == run_id => {
                self.raised.rule_out(&run_id);
                self.runs.start_run(&run_id, line.name.as_deref(), line.time, emit);
            }
            "on_chain_end" if root == run_id => self.end_run(&run_id, line.time, None, emit),
            "on_chain_error" if root == run_id => {
                let data: wire::ErrorData<'_> = wire::read(line.data);
                // Each call that is still open gets a copy.
                let mut error = data.text();
                StringLimiter::default().text(&mut error);
                self.end_run(&run_id, line.time, Some(error), emit);
            }
            _ => self.in_run(&root, &run_id, &line, emit)?,
        }
        Ok(IngestReport::accepted())
    }

    fn expire(&mut self, now: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        self.runs.expire(now, emit);
    }

    fn finish(&mut self, emit: &mut dyn FnMut(AgentEvent)) {
        self.settle_raised(true, emit);
        self.runs.finish(emit);
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

#[cfg(test)]
mod tests {
    use sre_core::Event;
    use sre_core::adapter::{Recorder, RunLimits};

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
    fn an_error_belongs_to_the_overlapping_run_that_has_no_later_events() {
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
    fn several_errors_fail_the_same_number_of_runs_without_later_events() {
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
