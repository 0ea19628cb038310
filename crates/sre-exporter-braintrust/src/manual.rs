use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::Value;
use sre_core::private::lock;
use sre_core::{ExportError, HttpClient, SpanId, Timestamp, TraceId, Usd};

use crate::BraintrustExporter;
use crate::row::{Content, Rank, Row, Rows, Span, SpanAttributes, id_of};
use crate::spans::seconds;

/// The result of an evaluation that a program runs itself, or of a test case of an experiment.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EvalRecord {
    /// The name of the evaluation or test case.
    pub name: String,
    /// The agent, or an empty string.
    pub agent: String,
    /// Scores from 0 to 1, by name. Others are left out, because Braintrust refuses them.
    pub scores: BTreeMap<String, f64>,
    /// The input; `null` if there is none.
    pub input: Value,
    /// The output; `null` if there is none.
    pub output: Value,
    /// The expected output; `null` if there is none.
    pub expected: Value,
}

/// A cost that no event carries, such as that of a service that is billed by the day.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CostRecord {
    /// The agent.
    pub agent: String,
    /// The cost.
    pub cost: Usd,
    /// Further texts by name.
    pub metadata: BTreeMap<String, String>,
}

impl BraintrustExporter {
    /// Logs the result of an evaluation as a row of a trace. The same result logged twice is one.
    pub async fn log_eval(
        &self,
        trace: TraceId,
        record: &EvalRecord,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let mut rows = Rows::default();
        rows.add(self.row_of(record, trace, at));
        self.log(rows, at, http).await
    }

    /// Logs test cases of an experiment of that name, which is created if it is missing. The same test cases logged twice are
    /// there once.
    pub async fn log_experiment(
        &self,
        name: &str,
        cases: &[EvalRecord],
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let mut rows = Rows::default();
        for (number, case) in cases.iter().enumerate() {
            let key = ["experiment", name, &case.name, &number.to_string(), &at.as_nanos().to_string()];
            rows.add(self.row_of(case, TraceId::derived(&key), at));
        }
        let Some(body) = rows.into_body() else { return Ok(()) };
        // Only the id of the experiment in the settings is cached.
        let id = self.registry.experiment(&Mutex::default(), &self.project, name, at, http).await?;
        self.insert(&format!("/v1/experiment/{id}/insert"), &body, at, http).await
    }

    /// Logs a cost as a row of a trace. The same cost logged twice is one.
    pub async fn record_cost(
        &self,
        trace: TraceId,
        record: &CostRecord,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let CostRecord { agent, cost, metadata } = record;
        let key = ["cost", agent, &cost.to_string(), &at.as_nanos().to_string()];
        let mut row = self.row(format!("cost of {agent}"), "function", trace, &key, at);
        row.metrics.put("estimated_cost", cost.as_dollars());
        metadata.iter().for_each(|(name, value)| row.metadata.put(name, value));
        row.metadata.put("agent", agent);
        let mut rows = Rows::default();
        rows.add(row);
        self.log(rows, at, http).await
    }

    async fn log(&self, rows: Rows<'_>, at: Timestamp, http: &dyn HttpClient) -> Result<(), ExportError> {
        let Some(body) = rows.into_body() else { return Ok(()) };
        self.insert(&self.logs(at, http).await?, &body, at, http).await
    }

    fn row_of<'a>(&self, record: &'a EvalRecord, trace: TraceId, at: Timestamp) -> Row<'a> {
        let key = ["eval", &record.name, &record.agent, &at.as_nanos().to_string()];
        let mut row = self.row(record.name.clone(), "eval", trace, &key, at);
        let is_share = |(_, score): &(&String, &f64)| (0.0..=1.0).contains(*score);
        record.scores.iter().filter(is_share).for_each(|(name, score)| row.scores.put(name, *score));
        row.metadata.put("agent", Some(record.agent.as_str()).filter(|agent| !agent.is_empty()));
        let content = |value: &'a Value| Some(value).filter(|value| !value.is_null()).map(Content::Json);
        Row {
            input: content(&record.input),
            output: content(&record.output),
            expected: content(&record.expected),
            ..row
        }
    }

    /// Returns a row below the root of a trace; the root itself, if the trace is not known.
    fn row<'a>(&self, name: String, kind: &'static str, trace: TraceId, key: &[&str], at: Timestamp) -> Row<'a> {
        let id = SpanId::derived(&[&[&*trace.to_string()], key].concat());
        let mut row = Row { id: id_of(trace, id), ..Row::default() };
        row.metrics.put("start", seconds(at));
        row.metrics.put("end", seconds(at));
        row.span = Some(Span {
            span_id: id,
            root_span_id: trace,
            span_parents: lock(&self.traces).root(trace).map(|root| [root]),
            created: at,
            span_attributes: SpanAttributes { name: name.into(), kind },
            rank: Rank::Span,
        });
        row
    }
}
