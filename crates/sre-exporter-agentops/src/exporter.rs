use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sre_core::{ExportBatch, ExportError, ExportReport, Exporter, HttpClient, InvalidExporter, Snapshot, Wants};
use sre_otlp::{Span, resource, send_spans};

use crate::settings::{AgentOpsSettings, NAME, Project};
use crate::token::Token;
use crate::{mapping, objective};

/// Sends events and the state of objectives to AgentOps.
#[derive(Debug)]
pub struct AgentOpsExporter {
    project: Project,
    token: Mutex<Option<Token>>,
}

impl AgentOpsExporter {
    /// Creates an exporter, without connecting to AgentOps.
    pub fn new(settings: AgentOpsSettings) -> Result<Self, InvalidExporter> {
        Ok(Self { project: settings.try_into()?, token: Mutex::default() })
    }

    /// Sends spans with the token at hand. If that is refused, it gets another one, once.
    async fn send(
        &self,
        batch: &ExportBatch<'_>,
        spans: Vec<Span>,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        if spans.is_empty() {
            return Ok(ExportReport::default());
        }
        let known = self.token().clone().filter(|token| token.is_valid(batch.at));
        if let Some(token) = known {
            match send_with(&token, batch, spans.clone(), http).await {
                Err(error) if error.is_unauthorized() => *self.token() = None,
                answer => return answer,
            }
        }
        let token = Token::fetch(&self.project, batch.at, http).await?;
        *self.token() = Some(token.clone());
        let answer = send_with(&token, batch, spans, http).await;
        if answer.as_ref().is_err_and(ExportError::is_unauthorized) {
            *self.token() = None;
        }
        answer
    }

    fn token(&self) -> MutexGuard<'_, Option<Token>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send_with(
    token: &Token,
    batch: &ExportBatch<'_>,
    spans: Vec<Span>,
    http: &dyn HttpClient,
) -> Result<ExportReport, ExportError> {
    let mut project = batch.resource.clone();
    if let Some(id) = &token.project_id {
        project = project.with("agentops.project.id", id);
    }
    send_spans(&token.otlp, "/v1/traces", resource(&project), spans, batch.at, http).await
}

#[async_trait]
impl Exporter for AgentOpsExporter {
    fn name(&self) -> &str {
        NAME
    }

    fn wants(&self) -> Wants {
        Wants::EVENTS.and_snapshots()
    }

    async fn export(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let tags = &self.project.tags;
        let objectives = batch.snapshots.iter().filter_map(|snapshot| match snapshot {
            Snapshot::Slo(slo) => Some(objective::map(slo, tags, batch.at)),
            _ => None,
        });
        let events = batch.events.iter().filter_map(|event| mapping::map(event, tags));
        let spans: Vec<Span> = objectives.chain(events).collect();
        let ignored = batch.len() - spans.len();
        Ok(self.send(batch, spans, http).await?.with_ignored(ignored))
    }
}
