use agent_sre::adapter::{IngestLimits, IngestReport};
use agent_sre::{AgentEvent, Event, RunLimits, Span, otel};

use crate::input::{Input, RecordingArgs};

/// Returns the spans of a recorded run: those of an OpenTelemetry export as they are, those of other formats from their agent events.
/// Calls `on_event` with every agent event.
pub(super) fn spans(
    args: &RecordingArgs,
    mut on_event: Option<&mut dyn FnMut(&AgentEvent)>,
) -> anyhow::Result<Vec<Span>> {
    let mut input = Input::new(&args.input);
    let format = input.format(args.from)?;
    let mut adapter = format.adapter(RunLimits::default());
    let pricing = args.pricing()?;
    let mut spans = Vec::new();
    if format.as_str() == "otlp" {
        let mut add = |mut span: Span, event: Option<Event>| {
            if let Some(event) = event {
                let mut event = AgentEvent::new(span.end, span.agent.as_deref().unwrap_or_default(), event);
                pricing.price(&mut event);
                span.set_usage(&event.event);
            }
            spans.push(span);
        };
        let mut pass = |mut event: AgentEvent| {
            pricing.price(&mut event);
            on_event.iter_mut().for_each(|on_event| on_event(&event));
        };
        input.read_records(args.strict, &mut |record| {
            let rejected = otel::read_spans(record, &mut add)?;
            adapter.ingest_record(record, &IngestLimits::default(), &mut pass)?;
            let mut report = IngestReport::accepted();
            if rejected > 0 {
                report.reject(
                    rejected,
                    format!("found {rejected} spans without ids and times, or with a number out of range"),
                );
            }
            Ok(report)
        })?;
        adapter.finish(&mut pass);
    } else {
        let mut add = |mut event: AgentEvent| {
            pricing.price(&mut event);
            spans.extend(Span::of(&event));
            on_event.iter_mut().for_each(|on_event| on_event(&event));
        };
        input.read(args.strict, &mut *adapter, &mut add)?;
        adapter.finish(&mut add);
    }
    Ok(spans)
}
