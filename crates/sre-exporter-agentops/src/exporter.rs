use std::sync::Mutex;

use async_trait::async_trait;
use sre_core::private::lock;
use sre_core::{EventSpan, ExportBatch, ExportError, ExportReport, Exporter, HttpClient, InvalidExporter, Wants};
use sre_otlp::{Spans, send_spans};

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
        spans: &Spans,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        if spans.is_empty() {
            return Ok(ExportReport::default());
        }
        let known = lock(&self.token).clone().filter(|token| token.is_valid(batch.at));
        if let Some(token) = known {
            match send_with(&token, batch, spans, http).await {
                Err(error) if error.is_unauthorized() => *lock(&self.token) = None,
                answer => return answer,
            }
        }
        let token = Token::fetch(&self.project, batch.at, http).await?;
        *lock(&self.token) = Some(token.clone());
        let answer = send_with(&token, batch, spans, http).await;
        if answer.as_ref().is_err_and(ExportError::is_unauthorized) {
            *lock(&self.token) = None;
        }
        answer
    }
}

async fn send_with(
    token: &Token,
    batch: &ExportBatch<'_>,
    spans: &Spans,
    http: &dyn HttpClient,
) -> Result<ExportReport, ExportError> {
    let mut project = batch.resource.clone();
    if let Some(id) = &token.project_id {
        project = project.with("agentops.project.id", id);
    }
    send_spans(&token.otlp, "/v1/traces", &project, spans, batch.at, http).await
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
        let mut spans = Spans::with_capacity(batch.len());
        batch.objectives().for_each(|slo| spans.add(|span| objective::write_span(slo, tags, batch.at, span)));
        for event in batch.events {
            let Some(place) = EventSpan::of(event) else { continue };
            spans.add(|span| mapping::write_span(event, &place, tags, span));
        }
        let ignored = batch.len() - spans.len();
        Ok(self.send(batch, &spans, http).await?.with_ignored(ignored))
    }
}
