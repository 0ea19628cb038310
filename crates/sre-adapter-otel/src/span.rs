use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use sre_core::event::{HttpRequest, LlmCall, SpanFinished, StepFinished, StringLimiter, ToolCall};
use sre_core::private::json_text;
use sre_core::{Event, SpanId, SpanRole, Timestamp, TraceId, Usd, arguments_hash};

use crate::attributes::Known;
use crate::dialects::{self, Dialect, FirstToken, Marker, Role};
use crate::span_header::SpanHeader;

/// The fields of a span that JSON and protobuf share.
pub(crate) struct RawSpan<'a> {
    pub(crate) trace: TraceId,
    pub(crate) id: SpanId,
    pub(crate) parent: Option<SpanId>,
    /// Whether the parent is in another process.
    pub(crate) has_remote_parent: bool,
    pub(crate) name: &'a str,
    pub(crate) role: SpanRole,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) failed: bool,
    pub(crate) status_message: &'a str,
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
    pub(crate) event: Option<Box<Event>>,
    #[serde(with = "json_text")]
    pub(crate) evaluations: Vec<Event>,
    /// Saved apart; `None` if version 0.1.0 has saved the span.
    #[serde(skip)]
    pub(crate) header: Option<Box<SpanHeader>>,
}

/// Typical overhead of an allocation, in bytes.
pub(crate) const ALLOCATION: usize = 16;

/// Maximum number of evaluations in the attributes of a span.
pub(crate) const MAX_EVALUATIONS: usize = 128;

impl Span {
    /// Returns the agent that the span names: of a chain, only if the task begins with it.
    pub(crate) fn agent(&self) -> Option<&str> {
        let is_agent = self.role == Some(Role::Agent) || (self.role == Some(Role::Chain) && self.parent.is_none());
        self.name.as_deref().filter(|_| is_agent)
    }

    /// Returns whether a trace may begin with it. A request that was served may arrive long before the root of the agent.
    pub(crate) fn is_root(&self) -> bool {
        self.parent.is_none() && self.role != Some(Role::McpServed)
    }

    /// Returns the parent, also one in another process.
    pub(crate) fn recorded_parent(&self) -> Option<SpanId> {
        self.parent.or(self.header.as_ref().and_then(|header| header.remote_parent))
    }

    /// Returns the event of a span that is no other.
    pub(crate) fn finished(&self) -> Option<Event> {
        let duration_ms = self.end.millis_since(self.start);
        self.header.is_some().then(|| SpanFinished::new(duration_ms, self.error.clone()).into())
    }

    /// Shortens strings that are too long, and removes evaluations beyond [`MAX_EVALUATIONS`].
    pub(crate) fn limit_strings(&mut self, limiter: &mut StringLimiter) {
        limiter.names(&mut self.name);
        limiter.texts(&mut self.error);
        if let Some(event) = &mut self.event {
            event.limit_strings(limiter);
        }
        if let Some(header) = &mut self.header {
            header.limit_strings(limiter);
        }
        limiter.shortened += self.evaluations.len().saturating_sub(MAX_EVALUATIONS) as u64;
        self.evaluations.truncate(MAX_EVALUATIONS);
        self.evaluations.iter_mut().for_each(|evaluation| evaluation.limit_strings(limiter));
    }

    /// Reads a span by the tables. Returns `None` if its duration, its cost or another number is out of range.
    pub(crate) fn read(raw: &RawSpan<'_>, known: &Known<'_>) -> Option<Self> {
        // A duration above a century is a mistake.
        let duration_ms = raw.end.millis_since(raw.start);
        if raw.end < raw.start || duration_ms > 3.2e12 || known.has_too_many_evaluations {
            return None;
        }
        let is_client = raw.role == SpanRole::Client;
        let is_served = raw.has_remote_parent && !is_client;
        let dialect = known.dialect(raw.name).map(|(dialect, role)| match role {
            Role::McpToolCall | Role::McpRequest if is_served => (dialect, Role::McpServed),
            role => (dialect, role),
        });
        let cost = match dialect {
            Some((dialect, _)) => known.cost(dialect.cost_usd).ok()?,
            None => None,
        };
        let mut span = Self {
            id: raw.id,
            // A parent in another process may never arrive here.
            parent: raw.parent.filter(|_| !raw.has_remote_parent),
            start: raw.start,
            end: raw.end,
            role: dialect.map(|(_, role)| role),
            name: None,
            error: error_of(raw, known),
            event: None,
            evaluations: known.evaluations(),
            header: Some(Box::new(SpanHeader::of(raw, known))),
        };
        match dialect {
            Some((dialect, role)) => span.fill(raw, known, dialect, role, cost),
            None if is_client => span.event = span.http_request(known).map(Box::new),
            None => {}
        }
        if let Some(event) = &span.event {
            event.check().ok()?;
        }
        if let (Some(Event::LlmCall(call)), Some(header)) = (span.event.as_deref(), &mut span.header) {
            header.set_attempt(call.attempt);
        }
        Some(span)
    }

    /// Returns the approximate memory behind the span, in bytes, without the span itself.
    pub(crate) fn heap_size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, |text| ALLOCATION + text.len());
        let events = self.event.as_deref().into_iter().chain(&self.evaluations);
        // Most events have one text.
        let of_event = |event| 2 * ALLOCATION + size_of::<Event>() + text_size(event);
        let header = self.header.as_ref().map_or(0, |header| header.size());
        text(&self.name) + text(&self.error) + header + events.map(of_event).sum::<usize>()
    }

    /// Returns the size of the span's text, in bytes.
    pub(crate) fn text_size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let events = self.event.as_deref().into_iter().chain(&self.evaluations);
        text(&self.name) + text(&self.error) + events.map(text_size).sum::<usize>()
    }

    fn fill(&mut self, raw: &RawSpan<'_>, known: &Known<'_>, dialect: &Dialect, role: Role, cost: Option<Usd>) {
        let duration_ms = Some(self.end.millis_since(self.start));
        let error = self.error.clone();
        match role {
            Role::Agent => {
                let like_span = || dialect.span_names_agent.then(|| raw.name.to_owned());
                self.name = known.owned(dialect.agent).or_else(like_span);
            }
            Role::Chain | Role::Step | Role::Evaluator | Role::RemoteCall => {
                let name = known.owned(dialect.step).unwrap_or_else(|| raw.name.to_owned());
                let kind = match dialect.marker {
                    Marker::Attribute(key) => known.text(&[key]).unwrap_or("step").to_lowercase(),
                    Marker::SpanName(_) => "step".to_owned(),
                };
                self.name = (role == Role::Chain).then(|| name.clone());
                let mut step = StepFinished::new(name, kind).with_error(error);
                step.duration_ms = duration_ms;
                self.event = Some(Box::new(step.into()));
            }
            Role::ToolCall | Role::McpToolCall => {
                let arguments = known.text(dialect.arguments);
                let mut call = ToolCall::new(known.text(dialect.tool).unwrap_or(tool_in(raw.name))).with_error(error);
                call.arguments_hash = arguments.map(|text| hash_arguments(text, dialect.arguments_in));
                call.operation_id = known.owned(dialect.tool_call_id);
                call.duration_ms = duration_ms;
                self.event = Some(Box::new(call.into()));
            }
            Role::ToolExecution | Role::McpRequest | Role::McpServed => {}
            Role::ModelCall => {
                let mut call = LlmCall::new(known.owned(dialect.model)).with_error(error);
                call.provider = known.owned(dialect.provider);
                call.input_tokens = known.count(dialect.input_tokens);
                call.cached_input_tokens = known.count(dialect.cached_input_tokens);
                call.cache_write_input_tokens = known.count(dialect.cache_write_input_tokens);
                call.output_tokens = known.count(dialect.output_tokens);
                call.cost_usd = cost;
                call.duration_ms = duration_ms;
                call.first_token_ms = self.first_token(known, &dialect.first_token);
                call.attempt =
                    known.number(dialect.attempt).filter(|attempt| *attempt >= 1.0).map(|attempt| attempt as u32);
                call.operation_id = call.attempt.map(|_| self.id.to_string());
                self.event = Some(Box::new(call.into()));
            }
        }
    }

    fn first_token(&self, known: &Known<'_>, place: &FirstToken) -> Option<f64> {
        let found = match place {
            FirstToken::Seconds(key) => known.number(&[key]).map(|seconds| seconds * 1e3),
            FirstToken::Milliseconds(key) => known.number(&[key]),
            FirstToken::SpanEvent(name) => known.span_event(name).map(|time| time.millis_since(self.start)),
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

/// Returns the error of a failed span, by its status, by `error.type`, or by an attribute of its dialect.
fn error_of(raw: &RawSpan<'_>, known: &Known<'_>) -> Option<String> {
    let kind = known.text(&[dialects::ERROR_TYPE]);
    let is_marked = || dialects::FAILURES.iter().any(|(key, failure)| known.is(key, failure));
    if !raw.failed && kind.is_none() && !is_marked() {
        return None;
    }
    // Some instrumentations put the whole traceback into the message.
    let message = raw.status_message.lines().next().unwrap_or_default();
    Some(if message.is_empty() { kind.unwrap_or("failed").to_owned() } else { message.to_owned() })
}

fn hash_arguments(text: &str, wrapped_in: &[&str]) -> String {
    if !wrapped_in.is_empty()
        && text.trim_start().starts_with('{')
        && let Ok(fields) = serde_json::from_str::<WrappedArguments<'_>>(text)
        && fields.metadata.is_some()
        && let Some(inner) = wrapped_in.iter().find_map(|key| match *key {
            "inputs" => fields.inputs,
            "input_str" => fields.input_str,
            _ => None,
        })
    {
        return arguments_hash(inner.get());
    }
    arguments_hash(text)
}

/// The arguments of a tool call and its metadata. The keys are those of [`Dialect::arguments_in`].
#[derive(Deserialize)]
struct WrappedArguments<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    inputs: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    input_str: Option<&'a RawValue>,
}

/// Reads a value that is present, also `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Returns the size of the texts of an event, in bytes.
pub(crate) fn text_size(event: &Event) -> usize {
    let of = |texts: &[Option<&String>]| texts.iter().flatten().map(|text| text.len()).sum();
    match event {
        Event::LlmCall(call) => {
            of(&[call.model.as_ref(), call.provider.as_ref(), call.error.as_ref(), call.operation_id.as_ref()])
        }
        Event::ToolCall(call) => {
            of(&[Some(&call.tool), call.arguments_hash.as_ref(), call.error.as_ref(), call.operation_id.as_ref()])
        }
        Event::StepFinished(step) => of(&[Some(&step.name), Some(&step.kind), step.error.as_ref()]),
        Event::HttpRequest(request) => of(&[Some(&request.url), request.error.as_ref()]),
        Event::Evaluation(evaluation) => evaluation.metric.len(),
        _ => 0,
    }
}

/// Returns the tool in the name of a span such as `tools/call search`; the whole name if there is none.
fn tool_in(name: &str) -> &str {
    let tool = name.split_once(dialects::MCP_TOOL_CALL).map(|(_, tool)| tool.trim());
    tool.filter(|tool| !tool.is_empty()).unwrap_or(name)
}

/// Returns whether the parent of a span with these flags is in another process. It may never arrive here, so the span is a root
/// of this input.
pub(crate) fn has_remote_parent(flags: u32) -> bool {
    const HAS_IS_REMOTE: u32 = 0x100;
    const IS_REMOTE: u32 = 0x200;
    flags & (HAS_IS_REMOTE | IS_REMOTE) == HAS_IS_REMOTE | IS_REMOTE
}

/// Returns the role of the kind that `is_kind` recognises by its number and name in OTLP.
pub(crate) fn role(is_kind: impl Fn(i64, &str) -> bool) -> SpanRole {
    const KINDS: [(i64, &str, SpanRole); 4] = [
        (2, "SPAN_KIND_SERVER", SpanRole::Server),
        (3, "SPAN_KIND_CLIENT", SpanRole::Client),
        (4, "SPAN_KIND_PRODUCER", SpanRole::Producer),
        (5, "SPAN_KIND_CONSUMER", SpanRole::Consumer),
    ];
    KINDS.iter().find(|(number, name, _)| is_kind(*number, name)).map_or(SpanRole::Internal, |(.., role)| *role)
}

pub(crate) fn timestamp(nanos: u64) -> Option<Timestamp> {
    i64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Timestamp::from_nanos)
}
