use std::collections::HashMap;

use serde_json::{Map, Value, json};
use sre_core::{SpanId, TraceId};

/// The rows of a request, one for each id.
///
/// Every row is merged into what Braintrust has of it (`_is_merge`), so that the start of a task, its end and its scores may
/// arrive in any order, and twice. Rows of the same request are merged here, because Braintrust does not say in which order
/// it would.
#[derive(Default)]
pub(crate) struct Rows {
    rows: Vec<(Rank, Value)>,
    by_id: HashMap<String, usize>,
}

/// Which of several events of the same span names its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// A score.
    Score,
    /// Something without a duration.
    Instant,
    /// A step or a call.
    Span,
    /// A task.
    Task,
}

impl Rows {
    /// Adds a row.
    pub(crate) fn add(&mut self, rank: Rank, id: String, mut row: Map<String, Value>) {
        row.insert("id".to_owned(), id.as_str().into());
        row.insert("_is_merge".to_owned(), true.into());
        let row = Value::Object(row);
        let Some(place) = self.by_id.get(&id) else {
            self.by_id.insert(id, self.rows.len());
            self.rows.push((rank, row));
            return;
        };
        let (of, known) = &mut self.rows[*place];
        if *of <= rank {
            merge(known, row);
            *of = rank;
        } else {
            let stronger = std::mem::replace(known, row);
            merge(known, stronger);
        }
    }

    /// Returns the body of a request, or `None` without rows.
    pub(crate) fn into_body(self) -> Option<Value> {
        let rows: Vec<Value> = self.rows.into_iter().map(|(_, row)| row).collect();
        (!rows.is_empty()).then(|| json!({"events": rows}))
    }
}

/// Returns the id of a span's row.
pub(crate) fn id_of(trace: TraceId, span: SpanId) -> String {
    format!("{trace}-{span}")
}

/// Merges objects deeply; of anything else, the later value stays.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_same_id_are_one() {
        let row = |value: Value| value.as_object().unwrap().clone();
        let mut rows = Rows::default();
        rows.add(Rank::Task, "a".into(), row(json!({"metrics": {"start": 1}, "span_attributes": {"name": "task"}})));
        rows.add(Rank::Score, "b".into(), row(json!({"scores": {"x": 1}})));
        rows.add(Rank::Instant, "a".into(), row(json!({"span_attributes": {"name": "handoff"}})));
        rows.add(Rank::Task, "a".into(), row(json!({"metrics": {"end": 2}, "scores": {"y": 0}})));
        let expected = json!({"events": [
            {"id": "a", "_is_merge": true, "metrics": {"start": 1, "end": 2}, "span_attributes": {"name": "task"}, "scores": {"y": 0}},
            {"id": "b", "_is_merge": true, "scores": {"x": 1}},
        ]});
        assert_eq!(rows.into_body(), Some(expected));
        assert_eq!(Rows::default().into_body(), None);
    }
}
