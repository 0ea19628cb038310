use std::borrow::Cow;

use sre_core::event::Evaluation;
use sre_core::{Event, Timestamp, Usd};

use crate::dialects::{self, DIALECTS, Dialect, Marker, Role, known_key};

/// The value of an attribute.
#[derive(Clone, Debug)]
pub(crate) enum Scalar<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Other,
}

/// The data of a span or log record about a run: the attributes in a table, the evaluations in numbered attributes, and the
/// span events in a table. Takes little memory, however many attributes there are.
#[derive(Default)]
pub(crate) struct Known<'a> {
    found: Vec<(&'static str, Scalar<'a>)>,
    evaluations: Vec<Judgement<'a>>,
    pub(crate) has_too_many_evaluations: bool,
    span_events: Vec<(&'static str, Timestamp)>,
}

/// The maximum number of evaluations in the attributes of a span; a span with more is rejected.
const MAX_JUDGEMENTS: usize = 1_000;

/// An attribute that holds no amount of dollars.
pub(crate) struct InvalidCost;

#[derive(Default)]
struct Judgement<'a> {
    /// The list and the index in it, such as `evaluations.0`.
    prefix: Cow<'a, str>,
    name: Option<Scalar<'a>>,
    score: Option<f64>,
    label: Option<Scalar<'a>>,
}

impl<'a> Known<'a> {
    /// Forgets everything, for the next span.
    pub(crate) fn clear(&mut self) {
        self.found.clear();
        self.evaluations.clear();
        self.has_too_many_evaluations = false;
        self.span_events.clear();
    }

    /// Adds an attribute. Of several with the same key, the first counts. `value` is called if the attribute is known.
    pub(crate) fn add<E>(&mut self, key: Cow<'a, str>, value: impl FnOnce() -> Result<Scalar<'a>, E>) -> Result<(), E> {
        if let Some(known) = known_key(&key) {
            if !self.found.iter().any(|(found, _)| std::ptr::eq(*found, known)) {
                self.found.push((known, value()?));
            }
        } else if key.starts_with("evaluations.") || key.starts_with("annotations.") {
            self.add_evaluation(key, value()?);
        }
        Ok(())
    }

    /// Adds a field such as `evaluations.0.evaluation.score`, in which OpenInference flattens lists.
    fn add_evaluation(&mut self, key: Cow<'a, str>, value: Scalar<'a>) {
        let Some((end, _)) = key.match_indices('.').nth(1) else { return };
        let known = self.evaluations.iter().position(|judgement| judgement.prefix == key[..end]);
        if known.is_none() && self.evaluations.len() == MAX_JUDGEMENTS {
            self.has_too_many_evaluations = true;
            return;
        }
        let position = known.unwrap_or_else(|| {
            let prefix = match &key {
                Cow::Borrowed(key) => Cow::Borrowed(&key[..end]),
                Cow::Owned(key) => Cow::Owned(key[..end].to_owned()),
            };
            self.evaluations.push(Judgement { prefix, ..Default::default() });
            self.evaluations.len() - 1
        });
        let judgement = &mut self.evaluations[position];
        match key[end..].rsplit('.').next() {
            Some("name") => judgement.name = Some(value),
            Some("score") => judgement.score = value.number(),
            Some("label") => judgement.label = Some(value),
            _ => {}
        }
    }

    /// Adds a span event. Of several with the same name, the first counts.
    pub(crate) fn add_span_event(&mut self, name: &str, time: Option<Timestamp>) {
        if let (Some(known), Some(time)) = (dialects::known_span_event(name), time)
            && self.span_event(known).is_none()
        {
            self.span_events.push((known, time));
        }
    }

    pub(crate) fn span_event(&self, name: &str) -> Option<Timestamp> {
        self.span_events.iter().find(|(known, _)| *known == name).map(|(_, time)| *time)
    }

    fn first(&self, keys: &[&'static str]) -> Option<&Scalar<'a>> {
        keys.iter().find_map(|key| self.found.iter().find(|(found, _)| found == key)).map(|(_, value)| value)
    }

    pub(crate) fn text(&self, keys: &[&'static str]) -> Option<&str> {
        self.first(keys).and_then(Scalar::text).filter(|text| !text.is_empty())
    }

    pub(crate) fn owned(&self, keys: &[&'static str]) -> Option<String> {
        self.text(keys).map(str::to_owned)
    }

    pub(crate) fn number(&self, keys: &[&'static str]) -> Option<f64> {
        self.first(keys).and_then(Scalar::number)
    }

    pub(crate) fn count(&self, keys: &[&'static str]) -> u64 {
        self.number(keys).filter(|count| *count >= 0.0).unwrap_or(0.0) as u64
    }

    /// Returns the cost, if there is one; an error if it is not a number, or below 0 or out of range.
    pub(crate) fn cost(&self, keys: &[&'static str]) -> Result<Option<Usd>, InvalidCost> {
        let Some(value) = self.first(keys) else { return Ok(None) };
        let cost = value.number().and_then(|dollars| Usd::try_from(dollars).ok()).filter(|cost| !cost.is_negative());
        cost.map(Some).ok_or(InvalidCost)
    }

    /// Returns whether an attribute is the text, or the truth value of that name.
    pub(crate) fn is(&self, key: &'static str, expected: &str) -> bool {
        match self.first(&[key]) {
            Some(Scalar::Bool(flag)) => *flag == (expected == "true"),
            value => value.and_then(Scalar::text) == Some(expected),
        }
    }

    /// Returns the dialect of a span of that name, and the role of the span.
    pub(crate) fn dialect(&self, name: &str) -> Option<(&'static Dialect, Role)> {
        let marked = DIALECTS.iter().find_map(|dialect| {
            let found = match dialect.marker {
                Marker::Attribute(key) => self.text(&[key])?,
                Marker::SpanName(prefix) => Some(name).filter(|name| name.starts_with(prefix))?,
            };
            let role = dialect.roles.iter().find(|(value, _)| *value == found).map(|(_, role)| *role);
            Some((dialect, role.unwrap_or(dialect.any_other_role)))
        });
        let is_old_call =
            || self.text(&[dialects::LLM_REQUEST_TYPE]).map(|_| (dialects::GEN_AI_TABLE, Role::ModelCall));
        marked.or_else(is_old_call)
    }

    /// Returns the evaluations in numbered attributes.
    pub(crate) fn evaluations(&self) -> Vec<Event> {
        let event = |judgement: &Judgement<'_>| {
            let name = judgement.name.as_ref().and_then(Scalar::text).map(str::to_owned);
            evaluation(name, judgement.score, judgement.label.as_ref().and_then(Scalar::text))
        };
        self.evaluations.iter().filter_map(event).collect()
    }

    /// Returns the evaluation in the attributes of the GenAI conventions.
    pub(crate) fn gen_ai_evaluation(&self) -> Option<Event> {
        let label = self.text(&[dialects::EVALUATION_LABEL]);
        evaluation(self.owned(&[dialects::EVALUATION_NAME]), self.number(&[dialects::EVALUATION_SCORE]), label)
    }
}

impl Scalar<'_> {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Float(number) => Some(*number).filter(|number| number.is_finite()),
            Self::Text(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
            Self::Bool(flag) => Some(f64::from(u8::from(*flag))),
            Self::Other => None,
        }
    }
}

/// Returns an evaluation, if it has a name, and a score or a label that is a verdict.
fn evaluation(name: Option<String>, score: Option<f64>, label: Option<&str>) -> Option<Event> {
    let passed = label.and_then(|label| match label.to_ascii_lowercase().as_str() {
        "pass" | "passed" | "true" | "yes" | "correct" | "relevant" | "factual" | "grounded" | "non-toxic" => {
            Some(true)
        }
        "fail" | "failed" | "false" | "no" | "incorrect" | "irrelevant" | "hallucinated" | "toxic" => Some(false),
        _ => None,
    });
    if passed.is_none() && score.is_none() {
        return None;
    }
    Some(Evaluation::new(name?, passed, score).into())
}
