use serde::{Deserialize, Serialize};
use sre_core::event::{Evaluation, HttpRequest, LlmCall, StepFinished, StringLimiter, ToolCall};
use sre_core::private::json_text;
use sre_core::{Event, SpanId, Timestamp, Usd, arguments_hash};

use crate::dialects::{self, DIALECTS, Dialect, FirstToken, Role, known_key};

/// The fields of a span that JSON and protobuf share.
pub(crate) struct RawSpan<'a> {
    pub(crate) id: SpanId,
    pub(crate) parent: Option<SpanId>,
    pub(crate) name: &'a str,
    pub(crate) is_client: bool,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) failed: bool,
    pub(crate) status_message: &'a str,
}

/// The value of an attribute.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar<'a> {
    Text(&'a str),
    Int(i64),
    Float(f64),
    Bool(bool),
    Other,
}

/// The parts of a span that describe an agent's run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Span {
    pub(crate) id: SpanId,
    pub(crate) parent: Option<SpanId>,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    /// `None` for a span without a dialect.
    pub(crate) role: Option<Role>,
    /// The name of the agent or chain.
    pub(crate) name: Option<String>,
    pub(crate) error: Option<String>,
    /// The event of the span; `None` for agents, and for spans without an event.
    #[serde(with = "json_text")]
    pub(crate) event: Option<Event>,
    #[serde(with = "json_text")]
    pub(crate) evaluations: Vec<Event>,
}

/// Maximum number of evaluations in the attributes of a span.
pub(crate) const MAX_EVALUATIONS: usize = 128;

/// The attributes that are in a table, and the evaluations in numbered attributes.
pub(crate) struct Known<'a> {
    found: Vec<(&'static str, Scalar<'a>)>,
    evaluations: Vec<Judgement<'a>>,
}

#[derive(Clone, Copy, Default)]
struct Judgement<'a> {
    /// The list and the index in it, such as `evaluations.0`.
    prefix: &'a str,
    name: Option<&'a str>,
    score: Option<f64>,
    label: Option<&'a str>,
}

impl<'a> Known<'a> {
    pub(crate) fn with_capacity(attributes: usize) -> Self {
        Self { found: Vec::with_capacity(attributes), evaluations: Vec::new() }
    }

    pub(crate) fn add(&mut self, key: &'a str, value: Scalar<'a>) {
        if let Some(key) = known_key(key) {
            self.found.push((key, value));
        } else if key.starts_with("evaluations.") || key.starts_with("annotations.") {
            self.add_evaluation(key, value);
        }
    }

    /// Adds a field such as `evaluations.0.evaluation.score`, in which OpenInference flattens lists.
    fn add_evaluation(&mut self, key: &'a str, value: Scalar<'a>) {
        let Some((end, _)) = key.match_indices('.').nth(1) else { return };
        let (prefix, field) = key.split_at(end);
        let position = self.evaluations.iter().position(|judgement| judgement.prefix == prefix).unwrap_or_else(|| {
            self.evaluations.push(Judgement { prefix, ..Default::default() });
            self.evaluations.len() - 1
        });
        let judgement = &mut self.evaluations[position];
        match field.rsplit('.').next() {
            Some("name") => judgement.name = value.text(),
            Some("score") => judgement.score = value.number(),
            Some("label") => judgement.label = value.text(),
            _ => {}
        }
    }

    fn first(&self, keys: &[&'static str]) -> Option<Scalar<'a>> {
        keys.iter().find_map(|key| self.found.iter().find(|(found, _)| found == key)).map(|(_, value)| *value)
    }

    pub(crate) fn text(&self, keys: &[&'static str]) -> Option<&'a str> {
        self.first(keys).and_then(Scalar::text).filter(|text| !text.is_empty())
    }

    fn owned(&self, keys: &[&'static str]) -> Option<String> {
        self.text(keys).map(str::to_owned)
    }

    fn number(&self, keys: &[&'static str]) -> Option<f64> {
        self.first(keys).and_then(Scalar::number)
    }

    fn count(&self, keys: &[&'static str]) -> u64 {
        self.number(keys).filter(|count| *count >= 0.0).unwrap_or(0.0) as u64
    }

    fn dialect(&self) -> Option<(&'static Dialect, Role)> {
        let marked = DIALECTS.iter().find_map(|dialect| {
            let found = self.text(&[dialect.marker])?;
            let role = dialect.roles.iter().find(|(value, _)| *value == found).map(|(_, role)| *role);
            Some((dialect, role.unwrap_or(dialect.any_other_role)))
        });
        let is_old_call =
            || self.text(&[dialects::LLM_REQUEST_TYPE]).map(|_| (dialects::GEN_AI_TABLE, Role::ModelCall));
        marked.or_else(is_old_call)
    }

    /// Returns the evaluation in the attributes of the GenAI conventions.
    pub(crate) fn gen_ai_evaluation(&self) -> Option<Event> {
        let judgement = Judgement {
            prefix: "",
            name: self.text(&[dialects::EVALUATION_NAME]),
            score: self.number(&[dialects::EVALUATION_SCORE]),
            label: self.text(&[dialects::EVALUATION_LABEL]),
        };
        judgement.event()
    }
}

impl<'a> Scalar<'a> {
    fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn number(self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(number as f64),
            Self::Float(number) => Some(number).filter(|number| number.is_finite()),
            Self::Text(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
            Self::Bool(flag) => Some(f64::from(u8::from(flag))),
            Self::Other => None,
        }
    }
}

impl Judgement<'_> {
    fn event(&self) -> Option<Event> {
        let passed = self.label.and_then(|label| match label.to_ascii_lowercase().as_str() {
            "pass" | "passed" | "true" | "yes" | "correct" | "relevant" | "factual" | "grounded" | "non-toxic" => {
                Some(true)
            }
            "fail" | "failed" | "false" | "no" | "incorrect" | "irrelevant" | "hallucinated" | "toxic" => Some(false),
            _ => None,
        });
        if passed.is_none() && self.score.is_none() {
            return None;
        }
        Some(Evaluation::new(self.name?, passed, self.score).into())
    }
}

impl Span {
    /// Shortens strings that are too long, and removes evaluations beyond [`MAX_EVALUATIONS`].
    pub(crate) fn limit_strings(&mut self, limiter: &mut StringLimiter) {
        limiter.names(&mut self.name);
        limiter.texts(&mut self.error);
        if let Some(event) = &mut self.event {
            event.limit_strings(limiter);
        }
        limiter.shortened += self.evaluations.len().saturating_sub(MAX_EVALUATIONS) as u64;
        self.evaluations.truncate(MAX_EVALUATIONS);
        self.evaluations.iter_mut().for_each(|evaluation| evaluation.limit_strings(limiter));
    }

    /// Reads a span by the tables. Returns `None` if its duration or cost is negative. `events` are the names and times
    /// of its span events.
    pub(crate) fn read<'a>(
        raw: &RawSpan<'a>,
        known: &Known<'a>,
        events: impl Iterator<Item = (&'a str, Timestamp)>,
    ) -> Option<Self> {
        let dialect = known.dialect();
        let cost = dialect.and_then(|(dialect, _)| known.number(dialect.cost_usd));
        if raw.end < raw.start || cost.is_some_and(|cost| cost < 0.0) {
            return None;
        }
        let error = error_of(raw, known);
        let mut span = Self {
            id: raw.id,
            parent: raw.parent,
            start: raw.start,
            end: raw.end,
            role: dialect.map(|(_, role)| role),
            name: None,
            error,
            event: None,
            evaluations: known.evaluations.iter().filter_map(Judgement::event).collect(),
        };
        match dialect {
            Some((dialect, role)) => span.fill(raw, known, dialect, role, events),
            None if raw.is_client => span.event = span.http_request(known),
            None => {}
        }
        Some(span)
    }

    fn fill<'a>(
        &mut self,
        raw: &RawSpan<'a>,
        known: &Known<'a>,
        dialect: &Dialect,
        role: Role,
        events: impl Iterator<Item = (&'a str, Timestamp)>,
    ) {
        let duration_ms = Some(self.end.millis_since(self.start));
        let error = self.error.clone();
        match role {
            Role::Agent => {
                let like_span = || dialect.span_names_agent.then(|| raw.name.to_owned());
                self.name = known.owned(dialect.agent).or_else(like_span);
            }
            Role::Chain | Role::Step | Role::Evaluator => {
                let name = known.owned(dialect.step).unwrap_or_else(|| raw.name.to_owned());
                let kind = known.text(&[dialect.marker]).unwrap_or("step").to_lowercase();
                self.name = (role == Role::Chain).then(|| name.clone());
                let mut step = StepFinished::new(name, kind).with_error(error);
                step.duration_ms = duration_ms;
                self.event = Some(step.into());
            }
            Role::ToolCall => {
                let arguments = known.text(dialect.arguments);
                let mut call = ToolCall::new(known.text(dialect.tool).unwrap_or(raw.name)).with_error(error);
                call.arguments_hash = arguments.map(|text| hash_arguments(text, dialect.arguments_in));
                call.operation_id = known.owned(dialect.tool_call_id);
                call.duration_ms = duration_ms;
                self.event = Some(call.into());
            }
            Role::ModelCall => {
                let mut call = LlmCall::new(known.owned(dialect.model)).with_error(error);
                call.provider = known.owned(dialect.provider);
                call.input_tokens = known.count(dialect.input_tokens);
                call.cached_input_tokens = known.count(dialect.cached_input_tokens);
                call.output_tokens = known.count(dialect.output_tokens);
                call.cost_usd = known.number(dialect.cost_usd).and_then(|cost| Usd::try_from(cost).ok());
                call.duration_ms = duration_ms;
                call.first_token_ms = self.first_token(known, &dialect.first_token, events);
                self.event = Some(call.into());
            }
        }
    }

    fn first_token<'a>(
        &self,
        known: &Known<'a>,
        place: &FirstToken,
        mut events: impl Iterator<Item = (&'a str, Timestamp)>,
    ) -> Option<f64> {
        let found = match place {
            FirstToken::Seconds(key) => known.number(&[key]).map(|seconds| seconds * 1e3),
            FirstToken::Milliseconds(key) => known.number(&[key]),
            FirstToken::SpanEvent(name) => {
                events.find(|(event, _)| event == name).map(|(_, time)| time.millis_since(self.start))
            }
        };
        found.filter(|ms| *ms >= 0.0)
    }

    fn http_request(&self, known: &Known<'_>) -> Option<Event> {
        let url = known.text(dialects::HOST)?;
        if dialects::is_model_host(url) {
            let mut call = LlmCall::new(None).with_error(self.error.clone());
            call.duration_ms = Some(self.end.millis_since(self.start));
            let resent = known.number(&[dialects::HTTP_RESEND_COUNT]).filter(|count| *count >= 0.0);
            call.attempt = resent.map(|count| (count as u32).saturating_add(1));
            return Some(call.into());
        }
        // A query may hold a secret.
        let url = url.split(['?', '#']).next().unwrap_or(url).to_owned();
        let mut request = HttpRequest::new(url);
        request.status_code = known.number(dialects::HTTP_STATUS).map(|status| status as u16);
        request.error.clone_from(&self.error);
        Some(request.into())
    }
}

/// Returns the error of a failed span, by its status, by `error.type`, or by OpenLLMetry's status of the task.
fn error_of(raw: &RawSpan<'_>, known: &Known<'_>) -> Option<String> {
    let kind = known.text(&[dialects::ERROR_TYPE]);
    let (key, failure) = dialects::TASK_STATUS;
    if !raw.failed && kind.is_none() && known.text(&[key]) != Some(failure) {
        return None;
    }
    // Some instrumentations put the whole traceback into the message.
    let message = raw.status_message.lines().next().unwrap_or_default();
    Some(if message.is_empty() { kind.unwrap_or("failed").to_owned() } else { message.to_owned() })
}

fn hash_arguments(text: &str, wrapped_in: &[&str]) -> String {
    if !wrapped_in.is_empty()
        && let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(text)
        && fields.contains_key("metadata")
        && let Some(inner) = wrapped_in.iter().find_map(|key| fields.get(*key))
    {
        return arguments_hash(&inner.to_string());
    }
    arguments_hash(text)
}

/// Ignores a parent in another process, which may never arrive here: the span is a root of this input.
pub(crate) fn local_parent(parent: Option<SpanId>, flags: u32) -> Option<SpanId> {
    const HAS_IS_REMOTE: u32 = 0x100;
    const IS_REMOTE: u32 = 0x200;
    parent.filter(|_| flags & (HAS_IS_REMOTE | IS_REMOTE) != HAS_IS_REMOTE | IS_REMOTE)
}

pub(crate) fn timestamp(nanos: u64) -> Option<Timestamp> {
    i64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Timestamp::from_nanos)
}
