use std::fmt;
use std::time::Duration;

use sre_core::Secret;

/// Caching of responses at Helicone's edge.
///
/// Later versions may have more fields: end with `..Default::default()`.
///
/// Source: <https://docs.helicone.ai/features/advanced-usage/caching>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caching {
    /// How long a response is kept, at most 365 days; 7 days by default.
    pub max_age: Option<Duration>,
    /// How many different responses are kept for a request, 1 to 20; 1 by default.
    pub bucket_max_size: Option<u32>,
    /// Requests of another seed have a cache of their own, such as `user-123`.
    pub seed: Option<String>,
    /// Fields of the request's JSON that do not distinguish requests.
    pub ignore_keys: Vec<String>,
}

/// Retries of the provider by Helicone, for 429 and 500.
///
/// Later versions may have more fields: end with `..Default::default()`.
///
/// Source: <https://docs.helicone.ai/features/advanced-usage/retries>.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retries {
    /// Maximum number of retries.
    pub number: Option<u32>,
    /// How much longer each wait is than the one before, at least 1; 2 by default.
    pub factor: Option<f64>,
    /// Minimum time between retries.
    pub min_timeout: Option<Duration>,
    /// Maximum time between retries.
    pub max_timeout: Option<Duration>,
}

/// A limit of requests or costs. Displays as Helicone reads it, such as `1000;w=60;u=cents;s=user`.
///
/// Later versions may have more fields: end with `..RateLimitPolicy::new(quota, window)`.
///
/// Source: <https://docs.helicone.ai/features/advanced-usage/custom-rate-limits>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitPolicy {
    /// The maximum in each window, at least 1.
    pub quota: u64,
    /// The window, at least a minute, in whole seconds.
    pub window: Duration,
    /// What is counted.
    pub unit: RateLimitUnit,
    /// For what each count is kept.
    pub segment: RateLimitSegment,
}

impl RateLimitPolicy {
    /// Creates a limit of requests for the API key.
    pub fn new(quota: u64, window: Duration) -> Self {
        Self { quota, window, unit: RateLimitUnit::default(), segment: RateLimitSegment::default() }
    }
}

/// What a rate limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimitUnit {
    /// Requests.
    #[default]
    Requests,
    /// Costs, in US cents.
    Cents,
}

/// For what a rate limit keeps a count each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimitSegment {
    /// One count for the API key.
    #[default]
    Global,
    /// One for each user.
    User,
    /// One for each value of a custom property.
    Property(String),
}

impl fmt::Display for RateLimitPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};w={}", self.quota, self.window.as_secs())?;
        if self.unit == RateLimitUnit::Cents {
            f.write_str(";u=cents")?;
        }
        match &self.segment {
            RateLimitSegment::Global => Ok(()),
            RateLimitSegment::User => f.write_str(";s=user"),
            RateLimitSegment::Property(name) => write!(f, ";s={name}"),
        }
    }
}

/// What Helicone does with a request that exceeds the model's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenLimitHandler {
    /// Shortens the messages.
    Truncate,
    /// Removes the middle of the messages.
    MiddleOut,
    /// Tries the next model of the request.
    Fallback,
}

impl TokenLimitHandler {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Truncate => "truncate",
            Self::MiddleOut => "middle-out",
            Self::Fallback => "fallback",
        }
    }
}

/// A PostHog project to which Helicone also reports requests.
///
/// Later versions may have more fields: end with `..PostHog::new(key)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostHog {
    /// The project's key.
    pub key: Secret,
    /// The host, such as `https://eu.posthog.com`.
    pub host: Option<String>,
}

impl PostHog {
    /// Creates a project at PostHog's default host.
    pub fn new(key: Secret) -> Self {
        Self { key, host: None }
    }
}
