use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use sre_core::Secret;

use crate::{Caching, CallContext, PostHog, RateLimitPolicy, RateLimitSegment, Retries, TokenLimitHandler};

/// Creates the headers of model calls through Helicone's proxy.
///
/// Later versions may have more fields: end with `..HeliconeHeaders::new(api_key)`.
///
/// Source: <https://docs.helicone.ai/helicone-headers/header-directory>.
#[derive(Clone, Debug, PartialEq)]
pub struct HeliconeHeaders {
    /// The API key.
    pub api_key: Secret,
    /// Whether there are headers at all. False for a program whose calls go to the provider directly.
    pub enabled: bool,
    /// Custom properties of every call, by name; each is `Helicone-Property-NAME`.
    pub properties: BTreeMap<String, String>,
    /// The provider's URL, for calls to `gateway.helicone.ai`.
    pub target_url: Option<String>,
    /// The provider's URL, for calls to `oai.helicone.ai`.
    pub openai_api_base: Option<String>,
    /// The model by which costs are calculated, where the request and its response do not name it.
    pub model_override: Option<String>,
    /// The prompt whose versions Helicone tracks.
    pub prompt_id: Option<String>,
    /// Other providers to try, as JSON.
    pub fallbacks: Option<Value>,
    /// A limit of requests or costs.
    pub rate_limit: Option<RateLimitPolicy>,
    /// Caching of responses.
    pub caching: Option<Caching>,
    /// Retries of the provider.
    pub retries: Option<Retries>,
    /// What to do with a request that exceeds the model's context.
    pub token_limit: Option<TokenLimitHandler>,
    /// Whether OpenAI's moderation checks messages.
    pub moderations: bool,
    /// Whether prompt injections are detected.
    pub llm_security: bool,
    /// Whether they are also detected by a larger model.
    pub llm_security_advanced: bool,
    /// Whether Helicone does not keep the request's content.
    pub omit_request: bool,
    /// Whether Helicone does not keep the response's content.
    pub omit_response: bool,
    /// Whether the format of streams is enforced, for clients that need it.
    pub stream_force_format: bool,
    /// A PostHog project to report to.
    pub posthog: Option<PostHog>,
}

/// An invalid header. The message shows no value, which may be secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHeader {
    /// The name of a custom property cannot be a part of a header's name.
    #[error("property `{name}`: expected letters, digits, `-` and `_`")]
    Property {
        /// The property.
        name: String,
    },
    /// A value is not what Helicone accepts.
    #[error("{header}: expected {expected}")]
    Value {
        /// The header.
        header: String,
        /// What is accepted.
        expected: &'static str,
    },
}

const MAX_CACHE_AGE: Duration = Duration::from_secs(365 * 86_400);

impl HeliconeHeaders {
    /// Creates headers with the key and nothing else set.
    pub fn new(api_key: Secret) -> Self {
        Self {
            api_key,
            enabled: true,
            properties: BTreeMap::new(),
            target_url: None,
            openai_api_base: None,
            model_override: None,
            prompt_id: None,
            fallbacks: None,
            rate_limit: None,
            caching: None,
            retries: None,
            token_limit: None,
            moderations: false,
            llm_security: false,
            llm_security_advanced: false,
            omit_request: false,
            omit_response: false,
            stream_force_format: false,
            posthog: None,
        }
    }

    /// Returns the headers of a call; none if [`enabled`](Self::enabled) is false.
    ///
    /// # Errors
    ///
    /// Returns an error that names the first header whose value cannot be sent.
    pub fn headers(&self, context: &CallContext) -> Result<HeaderMap, InvalidHeader> {
        let mut headers = Headers::default();
        if !self.enabled {
            return Ok(headers.0);
        }
        headers.secret("helicone-auth", "Bearer ", &self.api_key)?;
        add_context(&mut headers, context)?;
        for (name, value) in &self.properties {
            headers.property(name, value)?;
        }
        for (name, value) in [
            ("helicone-target-url", &self.target_url),
            ("helicone-openai-api-base", &self.openai_api_base),
            ("helicone-model-override", &self.model_override),
            ("helicone-prompt-id", &self.prompt_id),
        ] {
            headers.text(name, value.as_deref())?;
        }
        headers.text("helicone-fallbacks", self.fallbacks.as_ref().map(Value::to_string).as_deref())?;
        headers.text("helicone-token-limit-exception-handler", self.token_limit.map(TokenLimitHandler::as_str))?;
        for (name, is_on) in [
            ("helicone-cache-enabled", self.caching.is_some()),
            ("helicone-retry-enabled", self.retries.is_some()),
            ("helicone-moderations-enabled", self.moderations),
            ("helicone-llm-security-enabled", self.llm_security || self.llm_security_advanced),
            ("helicone-llm-security-advanced", self.llm_security_advanced),
            ("helicone-omit-request", self.omit_request),
            ("helicone-omit-response", self.omit_response),
            ("helicone-stream-force-format", self.stream_force_format),
        ] {
            headers.text(name, is_on.then_some("true"))?;
        }
        self.rate_limit.iter().try_for_each(|policy| add_rate_limit(&mut headers, policy))?;
        self.caching.iter().try_for_each(|caching| add_caching(&mut headers, caching))?;
        self.retries.iter().try_for_each(|retries| add_retries(&mut headers, retries))?;
        if let Some(PostHog { key, host }) = &self.posthog {
            headers.secret("helicone-posthog-key", "", key)?;
            headers.text("helicone-posthog-host", host.as_deref())?;
        }
        Ok(headers.0)
    }
}

fn add_context(headers: &mut Headers, context: &CallContext) -> Result<(), InvalidHeader> {
    if let Some(id) = &context.request_id {
        if !is_uuid(id) {
            return Err(invalid("helicone-request-id", "a UUID such as 123e4567-e89b-12d3-a456-426614174000"));
        }
        headers.text("helicone-request-id", Some(id))?;
    }
    headers.text("helicone-user-id", context.user_id.as_deref())?;
    let agent = Some(context.agent.as_str()).filter(|agent| !agent.is_empty());
    if let Some(id) = context.session_id() {
        headers.text("helicone-session-id", Some(&id))?;
        headers.text("helicone-session-path", Some(&context.session_path()))?;
        headers.text("helicone-session-name", agent)?;
    }
    headers.text("helicone-property-agent", agent)?;
    headers.text("helicone-property-task", context.task.as_deref())?;
    headers.text("helicone-property-trace-id", context.trace_id.map(|id| id.to_string()).as_deref())
}

fn add_rate_limit(headers: &mut Headers, policy: &RateLimitPolicy) -> Result<(), InvalidHeader> {
    let name = "helicone-ratelimit-policy";
    if policy.quota == 0 || policy.window < Duration::from_secs(60) {
        return Err(invalid(name, "a quota of at least 1, and a window of at least 60 s"));
    }
    if let RateLimitSegment::Property(property) = &policy.segment {
        check_property(property)?;
    }
    headers.text(name, Some(&policy.to_string()))
}

fn add_caching(headers: &mut Headers, caching: &Caching) -> Result<(), InvalidHeader> {
    let Caching { max_age, bucket_max_size, seed, ignore_keys } = caching;
    if max_age.is_some_and(|age| age > MAX_CACHE_AGE) {
        return Err(invalid("cache-control", "at most 365 days"));
    }
    headers.text("cache-control", max_age.map(|age| format!("max-age={}", age.as_secs())).as_deref())?;
    if bucket_max_size.is_some_and(|size| !(1..=20).contains(&size)) {
        return Err(invalid("helicone-cache-bucket-max-size", "1 to 20"));
    }
    headers.text("helicone-cache-bucket-max-size", bucket_max_size.map(|size| size.to_string()).as_deref())?;
    headers.text("helicone-cache-seed", seed.as_deref())?;
    if ignore_keys.iter().any(|key| key.is_empty() || key.contains(',')) {
        return Err(invalid("helicone-cache-ignore-keys", "names of fields without commas"));
    }
    let ignore_keys = ignore_keys.join(",");
    headers.text("helicone-cache-ignore-keys", Some(&*ignore_keys).filter(|keys| !keys.is_empty()))
}

fn add_retries(headers: &mut Headers, retries: &Retries) -> Result<(), InvalidHeader> {
    let Retries { number, factor, min_timeout, max_timeout } = retries;
    if factor.is_some_and(|factor| !(1.0..f64::INFINITY).contains(&factor)) {
        return Err(invalid("helicone-retry-factor", "a finite number of at least 1"));
    }
    let ms = |timeout: &Option<Duration>| timeout.map(|timeout| timeout.as_millis().to_string());
    for (name, value) in [
        ("helicone-retry-num", number.map(|number| number.to_string())),
        ("helicone-retry-factor", factor.map(|factor| factor.to_string())),
        ("helicone-retry-min-timeout", ms(min_timeout)),
        ("helicone-retry-max-timeout", ms(max_timeout)),
    ] {
        headers.text(name, value.as_deref())?;
    }
    Ok(())
}

#[derive(Default)]
struct Headers(HeaderMap);

impl Headers {
    fn text(&mut self, name: &'static str, value: Option<&str>) -> Result<(), InvalidHeader> {
        if let Some(value) = value {
            self.0.insert(name, header_value(name, value)?);
        }
        Ok(())
    }

    fn secret(&mut self, name: &'static str, prefix: &str, secret: &Secret) -> Result<(), InvalidHeader> {
        if secret.expose().is_empty() {
            return Err(invalid(name, "a key, not an empty text"));
        }
        let mut value = header_value(name, &format!("{prefix}{}", secret.expose()))?;
        value.set_sensitive(true);
        self.0.insert(name, value);
        Ok(())
    }

    fn property(&mut self, property: &str, value: &str) -> Result<(), InvalidHeader> {
        check_property(property)?;
        let name = format!("helicone-property-{}", property.to_ascii_lowercase());
        let value = header_value(&name, value)?;
        let name = HeaderName::try_from(name).map_err(|_| InvalidHeader::Property { name: property.to_owned() })?;
        self.0.insert(name, value);
        Ok(())
    }
}

fn check_property(name: &str) -> Result<(), InvalidHeader> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(InvalidHeader::Property { name: name.to_owned() });
    }
    Ok(())
}

/// Returns a value on one line. Text that is not ASCII is sent as UTF-8.
fn header_value(name: &str, value: &str) -> Result<HeaderValue, InvalidHeader> {
    HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid(name, "one line without control characters"))
}

fn invalid(header: &str, expected: &'static str) -> InvalidHeader {
    InvalidHeader::Value { header: header.to_owned(), expected }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::RateLimitUnit;

    fn context() -> CallContext {
        CallContext {
            agent: "support".to_owned(),
            task: Some("ticket-7".to_owned()),
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".parse().ok(),
            steps: vec!["plan".to_owned(), "a/b".to_owned()],
            request_id: Some("123e4567-e89b-12d3-a456-426614174000".to_owned()),
            user_id: Some("größe@example.com".to_owned()),
        }
    }

    #[test]
    fn every_documented_header_is_there() {
        let helicone = HeliconeHeaders {
            properties: BTreeMap::from([("App".to_owned(), "mobile".to_owned())]),
            target_url: Some("https://api.openai.com/".to_owned()),
            openai_api_base: Some("https://x.openai.azure.com".to_owned()),
            model_override: Some("gpt-4-1106-preview".to_owned()),
            prompt_id: Some("prompt_story".to_owned()),
            fallbacks: Some(json!([{"target-url": "https://api.openai.com"}])),
            rate_limit: Some(RateLimitPolicy {
                unit: RateLimitUnit::Cents,
                segment: RateLimitSegment::User,
                ..RateLimitPolicy::new(10, Duration::from_secs(1000))
            }),
            caching: Some(Caching {
                max_age: Some(Duration::from_secs(3600)),
                bucket_max_size: Some(3),
                seed: Some("user-123".to_owned()),
                ignore_keys: vec!["request_id".to_owned(), "timestamp".to_owned()],
            }),
            retries: Some(Retries {
                number: Some(3),
                factor: Some(1.5),
                min_timeout: Some(Duration::from_secs(1)),
                max_timeout: Some(Duration::from_secs(10)),
            }),
            token_limit: Some(TokenLimitHandler::MiddleOut),
            moderations: true,
            llm_security: true,
            llm_security_advanced: true,
            omit_request: true,
            omit_response: true,
            stream_force_format: true,
            posthog: Some(PostHog {
                host: Some("https://eu.posthog.com".to_owned()),
                ..PostHog::new(Secret::new("phc"))
            }),
            ..HeliconeHeaders::new(Secret::new("s3cr3t"))
        };
        let headers = helicone.headers(&context()).unwrap();
        for (name, value) in [
            ("Helicone-Auth", "Bearer s3cr3t"),
            ("Helicone-Target-URL", "https://api.openai.com/"),
            ("Helicone-OpenAI-Api-Base", "https://x.openai.azure.com"),
            ("Helicone-Request-Id", "123e4567-e89b-12d3-a456-426614174000"),
            ("Helicone-Model-Override", "gpt-4-1106-preview"),
            ("Helicone-Prompt-Id", "prompt_story"),
            ("Helicone-Property-App", "mobile"),
            ("Helicone-Property-Agent", "support"),
            ("Helicone-Property-Task", "ticket-7"),
            ("Helicone-Property-Trace-Id", "4bf92f3577b34da6a3ce929d0e0e4736"),
            ("Helicone-User-Id", "größe@example.com"),
            ("Helicone-Fallbacks", r#"[{"target-url":"https://api.openai.com"}]"#),
            ("Helicone-RateLimit-Policy", "10;w=1000;u=cents;s=user"),
            ("Helicone-Session-Id", "ticket-7"),
            ("Helicone-Session-Path", "/support/plan/a_b"),
            ("Helicone-Session-Name", "support"),
            ("Helicone-Posthog-Key", "phc"),
            ("Helicone-Posthog-Host", "https://eu.posthog.com"),
            ("Helicone-Omit-Response", "true"),
            ("Helicone-Omit-Request", "true"),
            ("Helicone-Cache-Enabled", "true"),
            ("Cache-Control", "max-age=3600"),
            ("Helicone-Cache-Bucket-Max-Size", "3"),
            ("Helicone-Cache-Seed", "user-123"),
            ("Helicone-Cache-Ignore-Keys", "request_id,timestamp"),
            ("Helicone-Retry-Enabled", "true"),
            ("helicone-retry-num", "3"),
            ("helicone-retry-factor", "1.5"),
            ("helicone-retry-min-timeout", "1000"),
            ("helicone-retry-max-timeout", "10000"),
            ("Helicone-Moderations-Enabled", "true"),
            ("Helicone-LLM-Security-Enabled", "true"),
            ("Helicone-LLM-Security-Advanced", "true"),
            ("Helicone-Stream-Force-Format", "true"),
            ("Helicone-Token-Limit-Exception-Handler", "middle-out"),
        ] {
            let found = headers.get(name).unwrap_or_else(|| panic!("no {name}"));
            assert_eq!(found.as_bytes(), value.as_bytes(), "{name}");
        }
        assert_eq!(headers.len(), 35);
        let shown = format!("{headers:?} {helicone:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains("phc"), "{shown}");
    }

    #[test]
    fn nothing_is_said_that_is_not_known() {
        let helicone = HeliconeHeaders::new(Secret::new("s3cr3t"));
        let names = |context: &CallContext| {
            let headers = helicone.headers(context).unwrap();
            let mut names: Vec<_> = headers.keys().map(ToString::to_string).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names(&CallContext::default()), ["helicone-auth"]);
        let of_trace = CallContext { trace_id: context().trace_id, ..CallContext::default() };
        let session = ["helicone-auth", "helicone-property-trace-id", "helicone-session-id", "helicone-session-path"];
        assert_eq!(names(&of_trace), session);
        let disabled = HeliconeHeaders { enabled: false, ..helicone.clone() };
        assert!(disabled.headers(&context()).unwrap().is_empty());
    }

    #[test]
    fn a_value_that_cannot_be_sent_is_an_error_that_names_the_header() {
        let good = || HeliconeHeaders::new(Secret::new("s3cr3t"));
        let error = |helicone: HeliconeHeaders| helicone.headers(&context()).unwrap_err().to_string();
        for (helicone, expected) in [
            (HeliconeHeaders::new(Secret::new("")), "helicone-auth: expected a key"),
            (HeliconeHeaders::new(Secret::new("s3cr3t\nx")), "helicone-auth: expected one line"),
            (
                HeliconeHeaders { properties: BTreeMap::from([("a b".to_owned(), "c".to_owned())]), ..good() },
                "property `a b`: expected letters",
            ),
            (
                HeliconeHeaders { properties: BTreeMap::from([("a".to_owned(), "b\r\nc: d".to_owned())]), ..good() },
                "helicone-property-a: expected one line",
            ),
            (
                HeliconeHeaders { rate_limit: Some(RateLimitPolicy::new(1, Duration::from_secs(1))), ..good() },
                "helicone-ratelimit-policy: expected a quota",
            ),
            (
                HeliconeHeaders {
                    caching: Some(Caching { bucket_max_size: Some(21), ..Caching::default() }),
                    ..good()
                },
                "helicone-cache-bucket-max-size: expected 1 to 20",
            ),
            (
                HeliconeHeaders { retries: Some(Retries { factor: Some(f64::NAN), ..Retries::default() }), ..good() },
                "helicone-retry-factor: expected a finite number",
            ),
        ] {
            let found = error(helicone);
            assert!(found.starts_with(expected) && !found.contains("s3cr3t"), "{found}");
        }
        let context = CallContext { request_id: Some("7".to_owned()), ..CallContext::default() };
        let found = good().headers(&context).unwrap_err().to_string();
        assert!(found.starts_with("helicone-request-id: expected a UUID"), "{found}");
    }
}
