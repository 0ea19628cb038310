use rustc_hash::FxHashMap;
use serde::Serialize;
use serde_json::Value;
use sre_core::{JsonObject, SpanId, Timestamp, TraceId};

/// The rows of a request, one for each id.
///
/// Every row is merged into what Braintrust has of it (`_is_merge`), so that the start of a task, its end and its scores may
/// arrive in any order, and twice. Rows of the same request are merged here, because Braintrust does not document in which order
/// it would.
#[derive(Default)]
pub(crate) struct Rows<'a> {
    rows: Vec<Row<'a>>,
    by_id: FxHashMap<String, usize>,
}

/// A row, or what is to be merged into it.
#[derive(Default, Serialize)]
pub(crate) struct Row<'a> {
    pub(crate) id: String,
    #[serde(rename = "_is_merge")]
    pub(crate) is_merge: IsMerge,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) span: Option<Span<'a>>,
    #[serde(skip_serializing_if = "JsonObject::is_empty")]
    pub(crate) scores: JsonObject<'a>,
    #[serde(skip_serializing_if = "JsonObject::is_empty")]
    pub(crate) metrics: JsonObject<'a>,
    #[serde(skip_serializing_if = "JsonObject::is_empty")]
    pub(crate) metadata: JsonObject<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) input: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expected: Option<Content<'a>>,
}

/// Always true.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct IsMerge(bool);

impl Default for IsMerge {
    fn default() -> Self {
        Self(true)
    }
}

/// The place of a row in its trace, and what it is.
#[derive(Serialize)]
pub(crate) struct Span<'a> {
    pub(crate) span_id: SpanId,
    pub(crate) root_span_id: TraceId,
    pub(crate) span_parents: Option<[SpanId; 1]>,
    pub(crate) created: Timestamp,
    pub(crate) span_attributes: SpanAttributes<'a>,
    #[serde(skip)]
    pub(crate) rank: Rank,
}

/// The name and the type of a span.
#[derive(Serialize)]
pub(crate) struct SpanAttributes<'a> {
    pub(crate) name: std::borrow::Cow<'a, str>,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
}

/// An input or output. By its input, Braintrust compares test cases of experiments.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Content<'a> {
    Task { agent: &'a str, task: Option<&'a str> },
    Text(&'a str),
    Json(&'a Value),
}

/// Which of several events of the same span names its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// A step, a call or a score.
    Span,
    /// A task.
    Task,
}

/// The body of a request.
#[derive(Serialize)]
pub(crate) struct Body<'a> {
    events: Vec<Row<'a>>,
}

impl<'a> Rows<'a> {
    /// Adds a row.
    pub(crate) fn add(&mut self, row: Row<'a>) {
        let Some(known) = self.by_id.get(&row.id).map(|place| &mut self.rows[*place]) else {
            self.by_id.insert(row.id.clone(), self.rows.len());
            self.rows.push(row);
            return;
        };
        let is_outranked =
            known.span.as_ref().is_some_and(|known| row.span.as_ref().is_none_or(|span| span.rank < known.rank));
        if !is_outranked {
            known.span = row.span;
        }
        known.scores.merge(row.scores);
        known.metrics.merge(row.metrics);
        known.metadata.merge(row.metadata);
        known.error = row.error.or(known.error);
        known.input = row.input.or(known.input.take());
        known.output = row.output.or(known.output.take());
        known.expected = row.expected.or(known.expected.take());
    }

    /// Returns the body of a request, or `None` without rows.
    pub(crate) fn into_body(self) -> Option<Body<'a>> {
        (!self.rows.is_empty()).then_some(Body { events: self.rows })
    }
}

/// Returns the id of a span's row.
pub(crate) fn id_of(trace: TraceId, span: SpanId) -> String {
    format!("{trace}-{span}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(rank: Option<Rank>, name: &'static str, metric: &'static str, error: Option<&'static str>) -> Row<'static> {
        let mut row = Row { id: "a".to_owned(), error, ..Row::default() };
        row.metrics.put(metric, 1_u64);
        row.span = rank.map(|rank| Span {
            span_id: SpanId::from_bytes([1; 8]).unwrap(),
            root_span_id: TraceId::from_bytes([2; 16]).unwrap(),
            span_parents: None,
            created: Timestamp::from_secs(1),
            span_attributes: SpanAttributes { name: name.into(), kind: "task" },
            rank,
        });
        row
    }

    #[test]
    fn rows_of_the_same_id_are_one() {
        let mut rows = Rows::default();
        rows.add(row(Some(Rank::Task), "task", "x", Some("down")));
        rows.add(row(Some(Rank::Span), "step", "y", None));
        rows.add(row(None, "", "z", None));
        rows.add(Row { id: "b".to_owned(), ..Row::default() });
        let body = serde_json::to_value(rows.into_body().unwrap()).unwrap();
        assert_eq!(body["events"].as_array().unwrap().len(), 2);
        let first = &body["events"][0];
        assert_eq!((&first["span_attributes"]["name"], &first["error"]), (&json!("task"), &json!("down")));
        assert_eq!(first["metrics"], json!({"x": 1, "y": 1, "z": 1}));
        assert_eq!(body["events"][1], json!({"id": "b", "_is_merge": true}));
        assert!(Rows::default().into_body().is_none());
    }
}
