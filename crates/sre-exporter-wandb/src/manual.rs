use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sre_core::{ExportError, HttpClient, Timestamp, Usd};

use crate::WandbExporter;
use crate::metrics::{Key, Metrics};
use crate::rows;
use crate::run::{NewRun, Row, Run};

/// A run that a program logs itself, such as the result of a release's evaluation.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WandbRun {
    /// The name.
    pub name: String,
    /// Results by name. NaN and infinity are left out.
    pub metrics: BTreeMap<String, f64>,
    /// Inputs by name.
    pub config: Map<String, Value>,
    /// Tags, besides those of the settings.
    pub tags: Vec<String>,
}

impl WandbExporter {
    /// Creates a finished run with one row, and returns its id. The same run logged twice is one.
    pub async fn log_run(&self, run: &WandbRun, at: Timestamp, http: &dyn HttpClient) -> Result<String, ExportError> {
        let WandbRun { name, metrics, config, tags } = run;
        let id = rows::id("run", &[name, &at.as_nanos().to_string()]);
        let mut row = Row { time: at, metrics: Metrics::default() };
        metrics.iter().for_each(|(name, value)| row.metrics.put(Key::Text(name), *value));
        let new = NewRun { id, display_name: name.clone(), config: config.clone(), tags: tags.clone() };
        self.log_rows(new, &[row], at, http).await
    }

    /// Creates a finished run with a row for each cost of an agent, and their sum so far. Returns its id.
    pub async fn log_cost_series(
        &self,
        agent: &str,
        costs: &[(Timestamp, Usd)],
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<String, ExportError> {
        let mut total = 0.0;
        let row = |(time, cost): &(Timestamp, Usd)| {
            let cost = cost.as_dollars();
            total += cost;
            let mut metrics = Metrics::default();
            metrics.put(Key::Text("cost_usd"), cost);
            metrics.put(Key::Text("total_cost_usd"), total);
            Row { time: *time, metrics }
        };
        let rows: Vec<Row<'_>> = costs.iter().map(row).collect();
        let id = rows::id("costs", &[agent, &at.as_nanos().to_string()]);
        let config = Map::from_iter([("agent".to_owned(), agent.into())]);
        let new = NewRun { id, display_name: format!("costs of {agent}"), config, tags: Vec::new() };
        self.log_rows(new, &rows, at, http).await
    }

    async fn log_rows(
        &self,
        new: NewRun,
        rows: &[Row<'_>],
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<String, ExportError> {
        let mut run = Run::open(&self.project, new, at, http).await?;
        // It has rows only if it was logged before.
        run.rows = 0;
        run.append(&self.project, rows, None, at, http).await?;
        run.finish(&self.project, 0, at, http).await?;
        Ok(run.id)
    }
}
