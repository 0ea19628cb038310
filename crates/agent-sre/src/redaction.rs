use serde_json::Value;
use sre_core::private::stable_hash;
use sre_core::{AgentEvent, Event, EventStage};

use crate::secrets;

/// An event stage that hides secrets, the values of attributes, and texts, from engines, exporters and alerts.
///
/// Engines read what is left: an indicator of your own that reads the text of an error does not find it. Anything else is for a
/// closure, which is a stage too.
///
/// ```
/// use std::sync::Arc;
/// use agent_sre::prelude::*;
/// use agent_sre::Replacement;
///
/// let redaction = Redaction { attributes: vec!["user.email".into(), "prompt.*".into()], texts: true, ..Redaction::default() };
/// let line = br#"{"event":"task_finished","time":1790000000,"agent":"support","success":false,"error":"no such user: ann",
///                 "attributes":{"user.email":"ann@example.com","prompt.0":"Hello","team":"sales"}}"#;
/// let mut event = AgentEvent::from_json(line)?;
/// redaction.apply(&mut event);
/// assert!(matches!(&event.event, Event::TaskFinished(task) if task.error.as_deref() == Some("redacted")));
/// assert_eq!(event.attributes.keys().collect::<Vec<_>>(), ["team"]);
///
/// let pseudonyms = Redaction { replacement: Replacement::Hash, ..redaction };
/// let runtime = Runtime::builder().stage(Arc::new(pseudonyms)).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Later versions may have more fields: end with `..Redaction::default()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redaction {
    /// The keys of attributes to hide. A trailing `*` matches any suffix.
    pub attributes: Vec<String>,
    /// Whether the texts of errors and the URLs of HTTP requests are hidden.
    pub texts: bool,
    /// Whether API keys and tokens of known forms, such as `sk-…`, are replaced in names, texts and the values of attributes, by
    /// `redacted-` and 32 hex digits of a hash, so that different names stay different; true by default. Ids stay as they are, those
    /// of tasks too.
    pub secrets: bool,
    /// What takes the place of a hidden attribute or text.
    pub replacement: Replacement,
}

impl Default for Redaction {
    /// Hides secrets only.
    fn default() -> Self {
        Self { attributes: Vec::new(), texts: false, secrets: true, replacement: Replacement::default() }
    }
}

/// What takes the place of a hidden value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replacement {
    /// Attributes are removed, and texts replaced by `redacted`.
    #[default]
    Remove,
    /// `redacted-` and 32 hex digits of a hash, so that equal values stay equal. A value that can be guessed can be confirmed.
    Hash,
}

const REDACTED: &str = "redacted";

impl Redaction {
    fn hides(&self, key: &str) -> bool {
        self.attributes.iter().any(|hidden| match hidden.strip_suffix('*') {
            Some(beginning) => key.starts_with(beginning),
            None => key == hidden,
        })
    }

    fn replace(&self, text: &mut String) {
        *text = match self.replacement {
            Replacement::Remove => REDACTED.to_owned(),
            Replacement::Hash => hashed(text),
        };
    }
}

fn hashed(text: &str) -> String {
    let digest = u128::from_be_bytes(stable_hash(&[text]));
    format!("{REDACTED}-{digest:032x}")
}

impl EventStage for Redaction {
    fn apply(&self, event: &mut AgentEvent) -> bool {
        if !self.attributes.is_empty() {
            match self.replacement {
                Replacement::Remove => event.attributes.retain(|key, _| !self.hides(key)),
                Replacement::Hash => {
                    for (_, value) in event.attributes.iter_mut().filter(|(key, _)| self.hides(key)) {
                        *value = hashed(value.as_str().unwrap_or(&value.to_string())).into();
                    }
                }
            }
        }
        if self.texts {
            let error = match &mut event.event {
                Event::TaskFinished(task) => &mut task.error,
                Event::StepFinished(step) => &mut step.error,
                Event::LlmCall(call) => &mut call.error,
                Event::ToolCall(call) => &mut call.error,
                Event::SpanFinished(span) => &mut span.error,
                Event::HttpRequest(request) => {
                    self.replace(&mut request.url);
                    &mut request.error
                }
                _ => return true,
            };
            error.iter_mut().for_each(|error| self.replace(error));
        }
        if self.secrets {
            hide_secrets(event);
        }
        true
    }
}

fn hide_secrets(event: &mut AgentEvent) {
    let hide = |text: &mut String| secrets::replace(text, hashed);
    let hide_all = |texts: &mut [&mut Option<String>]| texts.iter_mut().filter_map(|text| text.as_mut()).for_each(hide);
    hide(&mut event.agent);
    event.attributes.values_mut().for_each(hide_in_value);
    if let Some(span) = &mut event.span {
        hide(&mut span.name);
        secrets::cut_urls(&mut span.name);
        hide_all(&mut [&mut span.agent, &mut span.service]);
    }
    match &mut event.event {
        Event::TaskStarted(task) => hide_all(&mut [&mut task.name]),
        Event::TaskFinished(task) => hide_all(&mut [&mut task.error]),
        Event::StepFinished(step) => {
            [&mut step.name, &mut step.kind].into_iter().for_each(hide);
            hide_all(&mut [&mut step.error]);
        }
        Event::LlmCall(call) => hide_all(&mut [&mut call.model, &mut call.provider, &mut call.error]),
        Event::ToolCall(call) => {
            hide(&mut call.tool);
            hide_all(&mut [&mut call.error]);
        }
        Event::Handoff(handoff) => [&mut handoff.from, &mut handoff.to].into_iter().for_each(hide),
        Event::Message(message) => hide(&mut message.sender),
        Event::PolicyCheck(check) => hide(&mut check.policy),
        Event::Evaluation(evaluation) => hide(&mut evaluation.metric),
        Event::HttpRequest(request) => {
            hide(&mut request.url);
            hide_all(&mut [&mut request.error]);
        }
        Event::SpanFinished(span) => hide_all(&mut [&mut span.error]),
        Event::Unknown(event) => hide(&mut event.name),
        _ => {}
    }
}

fn hide_in_value(value: &mut Value) {
    match value {
        Value::String(text) => secrets::replace(text, hashed),
        Value::Array(items) => items.iter_mut().for_each(hide_in_value),
        Value::Object(fields) => fields.values_mut().for_each(hide_in_value),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(feature = "yaml")]
mod settings {
    use sre_core::yaml::{ConfigError, Fields, Node};

    use super::{Redaction, Replacement};

    impl Redaction {
        /// Reads the setting `redact` of a file: `{attributes: [user.email], texts: true, secrets: true, replacement: hash}`.
        ///
        /// # Errors
        ///
        /// Returns an error with the line, the field, what was found and what was expected.
        pub fn read(node: &Node, file: &str) -> Result<Self, ConfigError> {
            let mut fields = Fields::new(node, file, "redact.")?;
            let attributes = fields.texts("attributes")?;
            let texts = fields.read("texts", "true or false", serde_json::Value::as_bool)?.unwrap_or_default();
            let secrets = fields.read("secrets", "true or false", serde_json::Value::as_bool)?.unwrap_or(true);
            let replacement = fields.read("replacement", "`remove` or `hash`", |value| match value.as_str()? {
                "remove" => Some(Replacement::Remove),
                "hash" => Some(Replacement::Hash),
                _ => None,
            })?;
            fields.finish()?;
            Ok(Self { attributes, texts, secrets, replacement: replacement.unwrap_or_default() })
        }
    }
}
