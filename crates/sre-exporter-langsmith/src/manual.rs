use serde_json::{Map, Value};
use sre_core::{ExportError, HttpClient, JsonObject, SloSnapshot, Timestamp};

use crate::LangSmithExporter;
use crate::feedback::{Feedback, Score, Source};
use crate::multipart::Multipart;
use crate::objectives;
use crate::run::{Operation, Outputs, Run, micros};
use crate::run_id::RunId;
use crate::traces::Place;

/// A run that a program logs itself, such as a retrieval that no event describes.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewRun {
    /// The name.
    pub name: String,
    /// The type.
    pub run_type: RunType,
    /// Inputs by name.
    pub inputs: Map<String, Value>,
    /// Tags.
    pub tags: Vec<String>,
}

/// The type of a run in LangSmith.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is the type of the same name")]
pub enum RunType {
    #[default]
    Chain,
    Llm,
    Tool,
    Retriever,
    Embedding,
    Prompt,
    Parser,
}

/// A run that has begun.
#[derive(Clone, Debug)]
pub struct StartedRun {
    place: Place,
    start: Timestamp,
    run: NewRun,
}

impl RunType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Llm => "llm",
            Self::Tool => "tool",
            Self::Retriever => "retriever",
            Self::Embedding => "embedding",
            Self::Prompt => "prompt",
            Self::Parser => "parser",
        }
    }
}

impl StartedRun {
    /// Returns the id of the run in LangSmith.
    pub fn id(&self) -> String {
        self.place.id.to_string()
    }

    fn parts<'a>(&'a self, operation: Operation, project: &'a str) -> Run<'a> {
        Run {
            operation,
            place: &self.place,
            project,
            name: self.run.name.as_str().into(),
            run_type: self.run.run_type.as_str(),
            tags: &self.run.tags,
            start: micros(self.start),
            end: None,
            inputs: None,
            outputs: None,
            first_token: None,
            error: None,
            metadata: JsonObject::default(),
        }
    }
}

impl LangSmithExporter {
    /// Begins a run, below `parent` if there is one. Each call creates another run.
    pub async fn create_run(
        &self,
        run: NewRun,
        parent: Option<&StartedRun>,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<StartedRun, ExportError> {
        let id = RunId::random();
        let place = parent.map_or_else(|| Place::alone(id, at), |parent| parent.place.child(id, at));
        let started = StartedRun { place, start: at, run };
        let inputs = Some(&started.run.inputs).filter(|inputs| !inputs.is_empty());
        let run = Run { inputs, ..started.parts(Operation::Post, &self.project.name) };
        self.send_run(run, at, http).await?;
        Ok(started)
    }

    /// Ends a run, with what it resulted in.
    pub async fn end_run(
        &self,
        run: &StartedRun,
        outputs: &Map<String, Value>,
        error: Option<&str>,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let outputs = Some(outputs).filter(|outputs| !outputs.is_empty()).map(Outputs::Json);
        let parts = run.parts(Operation::Patch, &self.project.name);
        self.send_run(Run { end: Some(micros(at.max(run.start))), outputs, error, ..parts }, at, http).await
    }

    /// Adds feedback to a run.
    pub async fn add_feedback(
        &self,
        run: &StartedRun,
        key: &str,
        score: f64,
        comment: Option<&str>,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let at_nanos = at.as_nanos().to_string();
        let feedback = Feedback {
            id: RunId::derived(&["feedback", &run.id(), key, &at_nanos]),
            created_at: micros(at),
            modified_at: micros(at),
            run_id: run.place.id,
            trace_id: run.place.trace,
            key: key.to_owned(),
            score: Some(score).filter(|score| score.is_finite()).map(Score::Number),
            value: None,
            comment,
            feedback_source: Source::new(JsonObject::default()),
            session_id: None,
            start_time: Some(micros(run.start)),
        };
        self.send_feedback(vec![feedback], at, http).await
    }

    /// Adds the state of an objective to a run as feedback: `slo.NAME.budget_remaining`, `.sli`, `.burn_rate` and `.status`. The
    /// same state sent twice is one.
    pub async fn export_slo(
        &self,
        slo: &SloSnapshot,
        run: &StartedRun,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        self.send_feedback(objectives::feedback(slo, &run.place, micros(run.start), at), at, http).await
    }

    async fn send_run(&self, run: Run<'_>, at: Timestamp, http: &dyn HttpClient) -> Result<(), ExportError> {
        let mut form = Multipart::default();
        run.write(&mut form).map_err(|error| self.project.api.invalid(error))?;
        self.send(form, at, http).await
    }

    async fn send_feedback(
        &self,
        feedback: Vec<Feedback<'_>>,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let mut form = Multipart::default();
        self.write_feedback(feedback, &mut form, at, http).await?;
        self.send(form, at, http).await
    }
}
