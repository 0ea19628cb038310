use sre_core::adapter::{AdapterError, BodyKind};
use sre_core::{Event, Span};

use crate::decode;
use crate::request::{Item, Request};
use crate::span_header::is_named;

/// Reads the spans of an export request for traces, as they were recorded: also those that are no event of an agent, and with their
/// own parents. Passes each to `emit`, with the event that the tables of dialects make of it.
///
/// Returns the number of spans that are rejected, because they have no ids or times, or a number out of range.
///
/// # Errors
///
/// Returns an error if the body is no such request.
///
/// ```
/// let body = br#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
///     "scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","kind":2,"name":"GET /",
///     "startTimeUnixNano":"1790000000000000000","endTimeUnixNano":"1790000002000000000"}]}]}]}"#;
/// let mut spans = Vec::new();
/// sre_adapter_otel::read_spans(body, &mut |span, _| spans.push(span))?;
/// assert_eq!((&*spans[0].name, spans[0].service.as_deref()), ("GET /", Some("shop")));
/// # Ok::<(), sre_core::AdapterError>(())
/// ```
pub fn read_spans(body: &[u8], emit: &mut dyn FnMut(Span, Option<Event>)) -> Result<u64, AdapterError> {
    let Request { items, services, rejected, .. } = decode::read(body, BodyKind::Traces)?;
    for item in items {
        let Item::Span { trace, span: mut read, service } = item else { continue };
        let Some(mut header) = read.header.take() else { continue };
        let service = service.and_then(|number| services.get(number as usize)).filter(|service| is_named(service));
        header.service = service.map(|_| 0);
        let recorded = header.recorded(read.parent, read.agent(), service.map_or(&[], std::slice::from_ref));
        let mut span = Span::recorded(trace, read.id, &recorded, read.start);
        (span.end, span.error) = (read.end, read.error);
        let event = read.event.map(|event| *event);
        if let Some(event) = &event {
            span.set_usage(event);
        }
        emit(span, event);
    }
    Ok(rejected)
}

#[cfg(test)]
mod tests {
    use sre_core::SpanRole;

    use super::*;

    #[test]
    fn a_span_keeps_its_parent_in_another_process_and_the_ids_that_both_sides_know() {
        let attributes = |list: &[(&str, &str)]| {
            let each =
                list.iter().map(|(key, value)| format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#));
            each.collect::<Vec<_>>().join(",")
        };
        let read = |list: &[(&str, &str)]| {
            let body = format!(
                r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{}},{{"traceId":"5b8efff798038103d269b633813fc60c",
                "spanId":"eee19b7ec3c1b174","parentSpanId":"eee19b7ec3c1b173","flags":768,"kind":"SPAN_KIND_SERVER","name":"n",
                "startTimeUnixNano":"1790000000000000000","endTimeUnixNano":"1790000002000000000",
                "attributes":[{}]}}]}}]}}]}}"#,
                attributes(list)
            );
            let mut spans = Vec::new();
            assert_eq!(read_spans(body.as_bytes(), &mut |span, event| spans.push((span, event))).unwrap(), 1);
            spans.remove(0)
        };
        let (span, event) =
            read(&[("a2a.method.name", "SendMessage"), ("a2a.message.id", "m-1"), ("a2a.task.id", "t-1")]);
        assert_eq!(
            (span.parent_span_id.unwrap().to_string(), span.role),
            ("eee19b7ec3c1b173".to_owned(), SpanRole::Server)
        );
        assert_eq!((span.call_id.as_deref(), span.task.as_deref()), (Some("m-1"), Some("t-1")));
        assert!(matches!(event, Some(Event::StepFinished(_))));
        let (span, _) = read(&[("mcp.method.name", "ping"), ("mcp.session.id", "s"), ("jsonrpc.request.id", "7")]);
        assert_eq!((span.call_id.as_deref(), span.request_id.as_deref()), (Some("s/7"), Some("7")));
        let (span, event) = read(&[("gen_ai.operation.name", "chat"), ("gen_ai.usage.input_tokens", "9")]);
        assert_eq!((span.input_tokens, span.call_id, event.is_some()), (9, None, true));
    }
}
