use serde::{Deserialize, Serialize};
use sre_core::adapter::{AdapterError, Body};
use sre_core::private::json_text;
use sre_core::{Event, SpanId, StateError, StateReader, StateWriter, Timestamp, TraceId};

use crate::attributes::Known;
use crate::dialects::EVALUATION_EVENT;
use crate::span::{self, ALLOCATION, RawSpan, Span};
use crate::span_header::SpanHeader;

/// The parts of an export request that describe agent runs. Decoding takes most of the time and does not need the
/// adapter, so that a service can decode on several threads.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) items: Vec<Item>,
    pub(crate) services: Vec<String>,
    /// Spans without an id or a time, or with a duration, cost or time out of range.
    pub(crate) rejected: u64,
    /// Log records that are not evaluations.
    pub(crate) unknown: u64,
    /// The memory of the items and services, in bytes.
    #[serde(skip)]
    pub(crate) size: usize,
    /// Size of the body, in bytes.
    #[serde(skip)]
    body: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Item {
    Span { trace: TraceId, span: Span, service: Option<u32> },
    Evaluation(Box<LoggedEvaluation>),
}

/// An evaluation from a log record.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LoggedEvaluation {
    pub(crate) time: Timestamp,
    pub(crate) trace: Option<TraceId>,
    pub(crate) span: Option<SpanId>,
    /// The agent, if the record names one.
    pub(crate) agent: Option<String>,
    #[serde(with = "json_text")]
    pub(crate) event: Event,
}

/// The part of [`Body::max_decoded_size`] that is left to what is not counted, such as the decoder's buffers and what the
/// allocator has not returned to the system.
const UNCOUNTED: usize = 256 << 10;

/// The sections of a saved request. What they hold never changes: something new is a section of its own.
const ITEMS: &str = "request";
const HEADERS: &str = "headers";

/// The request would take more memory than its body allows.
pub(crate) struct TooLarge;

impl Request {
    /// Creates an empty request for a body of `bytes` bytes, which limits its memory: see [`Body::max_decoded_size`].
    pub(crate) fn of_body(bytes: usize) -> Self {
        Self { body: bytes, ..Self::default() }
    }

    /// Makes room for items, so that their list is not copied while it grows.
    pub(crate) fn reserve(&mut self, items: usize) {
        self.items.reserve_exact(items);
    }

    /// Counts memory before it is allocated.
    fn charge(&mut self, bytes: usize) -> Result<(), TooLarge> {
        self.size = self.size.saturating_add(bytes);
        if self.is_too_large() { Err(TooLarge) } else { Ok(()) }
    }

    /// How much memory may be counted.
    fn max_size(&self) -> usize {
        Body::max_decoded_size(self.body) - UNCOUNTED
    }

    pub(crate) fn is_too_large(&self) -> bool {
        self.size > self.max_size()
    }

    pub(crate) fn too_large(&self) -> AdapterError {
        AdapterError::TooLarge { bytes: self.body, max: self.max_size() }
    }

    /// Serializes the request in a format that later versions can read: that of the derived one, written item by item.
    pub(crate) fn save(&self) -> Result<Vec<u8>, AdapterError> {
        let max = self.max_size();
        let mut state = StateWriter::default();
        // Each item takes about 64 bytes, its texts, and about as much for an event in JSON as in memory.
        state.reserve((64 * self.items.len()).saturating_add(self.size.saturating_sub(self.items_size())).min(max));
        let (mut is_too_large, mut headers) = (false, 0);
        state.section(ITEMS, |state| {
            state.put(&self.items.len());
            for item in &self.items {
                // Texts are saved twice, and JSON may take six bytes for one.
                headers += 32 + item.header().map_or(0, SpanHeader::text_size);
                let written = state.len() + headers + 256 + 12 * item.text_size();
                // The journal's copy takes the place of the body.
                is_too_large = self.size + written > max || self.size + 2 * written > max.saturating_add(self.body);
                if is_too_large {
                    return;
                }
                state.put(item);
            }
            state.put(&(&self.services, self.rejected, self.unknown));
        });
        if is_too_large {
            return Err(self.too_large());
        }
        state.section(HEADERS, |state| self.items.iter().for_each(|item| state.put(&item.header())));
        state.finish().map_err(malformed)
    }

    fn items_size(&self) -> usize {
        size_of::<Item>() * self.items.len()
    }

    pub(crate) fn restore(saved: &[u8]) -> Result<Self, AdapterError> {
        let mut sections = StateReader::new(saved).sections();
        let mut next = || sections.next().transpose().map_err(malformed);
        let Some((ITEMS, mut state)) = next()? else {
            return Err(AdapterError::Malformed(format!("found no section `{ITEMS}`")));
        };
        let mut request: Self = state.take().map_err(malformed)?;
        // Version 0.1.0 has not saved them.
        if let Some((HEADERS, mut state)) = next()? {
            for item in &mut request.items {
                let header = state.take().map_err(malformed)?;
                if let Item::Span { span, .. } = item {
                    span.header = header;
                }
            }
        }
        request.size = request.items_size() + request.items.iter().map(Item::heap_size).sum::<usize>();
        Ok(request)
    }

    /// Rejects items that end after `time`, because the clock of their sender is wrong.
    pub(crate) fn drop_after(&mut self, time: Timestamp) {
        let before = self.items.len();
        self.items.retain(|item| match item {
            Item::Span { span, .. } => span.end <= time,
            Item::Evaluation(evaluation) => evaluation.time <= time,
        });
        self.rejected += (before - self.items.len()) as u64;
    }

    /// Returns the reason why records were rejected.
    pub(crate) fn rejection(&self) -> String {
        format!(
            "found {} records without an id, or with a time, duration, cost or number of tokens out of range",
            self.rejected
        )
    }

    /// Adds the name of a service. Returns its index, by which spans refer to it.
    pub(crate) fn service(&mut self, name: Option<&str>) -> Result<Option<u32>, TooLarge> {
        let Some(name) = name else { return Ok(None) };
        // The list may be twice as long while it grows.
        self.charge(2 * size_of::<String>() + name.len())?;
        self.services.push(name.to_owned());
        Ok(Some(self.services.len() as u32 - 1))
    }

    /// Names the service of all items from the index `first` on, whose resource came after them.
    pub(crate) fn name_service(&mut self, first: usize, service: Option<u32>) -> Result<(), TooLarge> {
        let Some(number) = service.filter(|_| first < self.items.len()) else { return Ok(()) };
        let unnamed = |item: &&Item| matches!(item, Item::Evaluation(evaluation) if evaluation.agent.is_none());
        let copies = self.items[first..].iter().filter(unnamed).count();
        self.charge(self.services[number as usize].len().saturating_mul(copies))?;
        for item in &mut self.items[first..] {
            match item {
                Item::Span { service, .. } => *service = Some(number),
                Item::Evaluation(evaluation) => {
                    evaluation.agent.get_or_insert_with(|| self.services[number as usize].clone());
                }
            }
        }
        Ok(())
    }

    /// Adds a span, or counts it as rejected if it has no ids or times or one of its numbers is out of range.
    pub(crate) fn add_span(
        &mut self,
        raw: Option<RawSpan<'_>>,
        known: &Known<'_>,
        service: Option<u32>,
    ) -> Result<(), TooLarge> {
        let Some((trace, span)) = raw.and_then(|raw| Some((raw.trace, Span::read(&raw, known)?))) else {
            self.rejected += 1;
            return Ok(());
        };
        self.charge(size_of::<Item>() + span.heap_size())?;
        self.items.push(Item::Span { trace, span, service });
        Ok(())
    }

    pub(crate) fn add_log(
        &mut self,
        name: &str,
        time: Option<Timestamp>,
        (trace, span): (Option<TraceId>, Option<SpanId>),
        known: &Known<'_>,
        service: Option<u32>,
    ) -> Result<(), TooLarge> {
        let is_evaluation = name == EVALUATION_EVENT || known.text(&["event.name"]) == Some(EVALUATION_EVENT);
        let event = if is_evaluation { known.gen_ai_evaluation() } else { None };
        match (event, time) {
            (Some(event), Some(time)) => {
                let named = known.text(&["gen_ai.agent.name"]);
                let agent = |services: &'_ [String]| {
                    named.map(str::to_owned).or_else(|| service.map(|number| services[number as usize].clone()))
                };
                let length =
                    named.map_or_else(|| service.map_or(0, |number| self.services[number as usize].len()), str::len);
                // The list may be twice as long while it grows.
                let boxed = size_of::<LoggedEvaluation>() + 2 * ALLOCATION;
                self.charge(2 * size_of::<Item>() + boxed + length + span::text_size(&event))?;
                let agent = agent(&self.services);
                self.items.push(Item::Evaluation(Box::new(LoggedEvaluation { time, trace, span, agent, event })));
            }
            _ => self.unknown += 1,
        }
        Ok(())
    }
}

impl Item {
    fn header(&self) -> Option<&SpanHeader> {
        match self {
            Self::Span { span, .. } => span.header.as_deref(),
            Self::Evaluation(_) => None,
        }
    }

    /// Returns the approximate memory behind the item, in bytes.
    fn heap_size(&self) -> usize {
        match self {
            Self::Span { span, .. } => span.heap_size(),
            Self::Evaluation(_) => 2 * ALLOCATION + size_of::<LoggedEvaluation>() + self.text_size(),
        }
    }

    fn text_size(&self) -> usize {
        match self {
            Self::Span { span, .. } => span.text_size(),
            Self::Evaluation(evaluation) => {
                evaluation.agent.as_ref().map_or(0, String::len) + span::text_size(&evaluation.event)
            }
        }
    }
}

fn malformed(error: StateError) -> AdapterError {
    AdapterError::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::read;
    use sre_core::adapter::BodyKind;

    #[test]
    fn writing_item_by_item_gives_the_derived_format() {
        let spans =
            br#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]},
            "scopeSpans":[{"spans":[{},{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174",
            "startTimeUnixNano":"1790000000000000000","endTimeUnixNano":"1790000002000000000","attributes":[
            {"key":"gen_ai.operation.name","value":{"stringValue":"chat"}}]}]}]}]}"#;
        let logs = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{},{"eventName":"gen_ai.evaluation.result",
            "timeUnixNano":1790000000000000000,"attributes":[{"key":"gen_ai.evaluation.name","value":{"stringValue":"m"}},
            {"key":"gen_ai.evaluation.score.value","value":{"doubleValue":0.5}}]}]}]}]}"#;
        for body in [&spans[..], &logs[..]] {
            let request = read(body, BodyKind::Traces).unwrap();
            assert_eq!((request.items.len(), request.rejected + request.unknown), (1, 1));
            let saved = request.save().unwrap();
            let mut derived = StateWriter::default();
            derived.section(ITEMS, |state| state.put(&request));
            let derived = derived.finish().unwrap();
            assert!(saved.starts_with(&derived));
            let restored = Request::restore(&saved).unwrap();
            assert!(restored.size >= size_of::<Item>());
            assert_eq!(format!("{:?}", restored.items), format!("{:?}", request.items));
            let without_headers = Request::restore(&derived).unwrap();
            assert_eq!((without_headers.items.len(), without_headers.items[0].header().is_none()), (1, true));
        }
    }
}
