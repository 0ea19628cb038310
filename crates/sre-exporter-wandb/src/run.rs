use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sre_core::{ExportError, HttpClient, Status, Timestamp};

use crate::graphql;
use crate::metrics::Metrics;
use crate::settings::Project;

/// A run to which rows are added.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// The local id: the one under which the run was requested.
    pub(crate) key: String,
    /// The id of the run within its project.
    pub(crate) id: String,
    /// The number of rows of its history, which is the offset and the step of the next one.
    pub(crate) rows: u64,
    /// The status in its last row, if it is an objective's.
    pub(crate) status: Option<Status>,
    /// The time of the last row that this process added.
    pub(crate) last: Option<Timestamp>,
}

/// What a run is created with.
pub(crate) struct NewRun {
    pub(crate) id: String,
    pub(crate) display_name: String,
    pub(crate) config: Map<String, Value>,
    /// Tags, besides those of every run.
    pub(crate) tags: Vec<String>,
}

/// A row of a run's history: a time and metrics.
pub(crate) struct Row<'a> {
    pub(crate) time: Timestamp,
    pub(crate) metrics: Metrics<'a>,
}

/// A row as W&B reads it. The summary has the last value of each metric, and may have a status.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    metrics: &'a Metrics<'a>,
    #[serde(rename = "_step")]
    step: u64,
    #[serde(rename = "_timestamp")]
    timestamp: f64,
    #[serde(rename = "slo/status", skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
}

/// What is encoded in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The key of an objective's status in the summary.
const STATUS: &str = "slo/status";

const UPSERT: &str = "mutation UpsertBucket($name: String, $project: String, $entity: String, $displayName: String, \
    $config: JSONString, $tags: [String!]) { upsertBucket(input: {name: $name, modelName: $project, entityName: $entity, \
    displayName: $displayName, config: $config, tags: $tags}) { bucket { id name historyLineCount summaryMetrics } inserted } }";

const ALERT: &str = "mutation NotifyScriptableRunAlert($entityName: String!, $projectName: String!, $runName: String!, \
    $title: String!, $text: String!, $severity: AlertSeverity = INFO, $waitDuration: Duration) { \
    notifyScriptableRunAlert(input: {entityName: $entityName, projectName: $projectName, runName: $runName, title: $title, \
    text: $text, severity: $severity, waitDuration: $waitDuration}) { success } }";

#[derive(Deserialize)]
struct Upserted {
    #[serde(rename = "upsertBucket")]
    upsert_bucket: UpsertBucket,
}

#[derive(Deserialize)]
struct UpsertBucket {
    bucket: Bucket,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bucket {
    history_line_count: Option<u64>,
    summary_metrics: Option<String>,
}

/// Maximum number of deleted runs of an id.
const MAX_DELETED: u32 = 20;

/// Returns whether W&B refuses to create a run because one of its id was deleted.
fn was_deleted(error: &ExportError) -> bool {
    matches!(error, ExportError::Rejected { message, .. } if message.contains("previously created and deleted"))
}

impl Run {
    /// Creates a run, or finds it. Rows are added after those that it has. W&B does not create a run again that was deleted:
    /// the id then has a number, such as `ID-2`.
    pub(crate) async fn open(
        project: &Project,
        mut new: NewRun,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<Self, ExportError> {
        let key = new.id.clone();
        let mut number = 1;
        loop {
            match Self::upsert(project, &key, &new, at, http).await {
                Err(error) if was_deleted(&error) && number <= MAX_DELETED => number += 1,
                opened => return opened,
            }
            new.id = format!("{key}-{number}");
        }
    }

    async fn upsert(
        project: &Project,
        key: &str,
        new: &NewRun,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<Self, ExportError> {
        let config: Map<String, Value> =
            new.config.iter().map(|(key, value)| (key.clone(), json!({"value": value}))).collect();
        let tags = [&project.tags[..], &new.tags[..]].concat();
        let variables = json!({
            "name": new.id,
            "project": project.name,
            "entity": project.entity,
            "displayName": new.display_name,
            "config": Value::from(config).to_string(),
            "tags": tags,
        });
        let answer: Option<Upserted> = graphql::send(project, "UpsertBucket", UPSERT, variables, at, http).await?;
        // Without the number of rows, new rows could replace old ones.
        let no_run = || graphql::rejected(502, "the response to UpsertBucket has no run".to_owned());
        let bucket = answer.ok_or_else(no_run)?.upsert_bucket.bucket;
        let summary = bucket.summary_metrics.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let status = summary.as_ref().and_then(|summary| summary[STATUS].as_str()?.parse().ok());
        let rows = bucket.history_line_count.unwrap_or(0);
        Ok(Self { key: key.to_owned(), id: new.id.clone(), rows, status, last: None })
    }

    /// Adds rows. The summary has the last value of each metric, and the status of an objective. Adding them again after an error
    /// replaces them, because the offset is the same.
    pub(crate) async fn append(
        &mut self,
        project: &Project,
        rows: &[Row<'_>],
        status: Option<Status>,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let Some(last) = rows.last() else { return Ok(()) };
        let text = |line: &Line<'_>| serde_json::to_string(line).map_err(|error| project.api.invalid(error));
        let (mut lines, mut metrics) = (Vec::with_capacity(rows.len()), Metrics::default());
        for (step, row) in (self.rows..).zip(rows) {
            let timestamp = row.time.as_unix_seconds();
            lines.push(text(&Line { metrics: &row.metrics, step, timestamp, status: None })?);
            metrics.merge(&row.metrics);
        }
        let (next, timestamp) = (self.rows + lines.len() as u64, last.time.as_unix_seconds());
        let status = status.map(Status::as_str);
        let summary = text(&Line { metrics: &metrics, step: next - 1, timestamp, status })?;
        let body = json!({"files": {
            "wandb-history.jsonl": {"offset": self.rows, "content": lines},
            "wandb-summary.json": {"offset": 0, "content": [summary]},
        }});
        self.stream(project, &body, at, http).await?;
        self.rows = next;
        self.last = Some(last.time);
        Ok(())
    }

    /// Sends a heartbeat. W&B marks runs without one as crashed after some minutes.
    pub(crate) async fn heartbeat(
        &self,
        project: &Project,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        self.stream(project, &json!({}), at, http).await
    }

    /// Marks the run as ended.
    pub(crate) async fn finish(
        &self,
        project: &Project,
        exit_code: i32,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        self.stream(project, &json!({"complete": true, "exitcode": exit_code}), at, http).await
    }

    /// Notifies the subscribers of the project's alerts.
    pub(crate) async fn alert(
        &self,
        project: &Project,
        severity: &str,
        title: String,
        text: String,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let variables = json!({
            "entityName": project.entity,
            "projectName": project.name,
            "runName": self.id,
            "title": title,
            "text": text,
            "severity": severity,
            // Milliseconds, within which an alert of the same title is not repeated.
            "waitDuration": 60_000,
        });
        graphql::send::<Value>(project, "NotifyScriptableRunAlert", ALERT, variables, at, http).await.map(drop)
    }

    async fn stream(
        &self,
        project: &Project,
        body: &Value,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let encoded = |text| utf8_percent_encode(text, SEGMENT).to_string();
        let path =
            format!("/files/{}/{}/{}/file_stream", encoded(&project.entity), encoded(&project.name), encoded(&self.id));
        project.api.post_json(&path, body, at, http).await.map(drop)
    }
}
