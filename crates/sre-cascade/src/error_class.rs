/// Classifies an error by whether it counts as a failure of the callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The callee failed. Counts as a failure.
    Failure,
    /// The callee rejected the call because of a rate limit. Counts as a failure unless
    /// [`BreakerConfig::count_rate_limits`] is off.
    ///
    /// [`BreakerConfig::count_rate_limits`]: crate::BreakerConfig::count_rate_limits
    RateLimit,
    /// The caller made a mistake, such as an invalid argument or a missing permission. Does not count.
    Caller,
}

const RATE_LIMIT: [&str; 6] =
    ["rate limit", "rate_limit", "ratelimit", "too many requests", "toomanyrequests", "resource_exhausted"];
const CALLER: [&str; 11] = [
    "bad request",
    "badrequest",
    "invalid argument",
    "invalid_argument",
    "invalidargument",
    "invalid request",
    "invalid_request",
    "permission denied",
    "permission_denied",
    "validation error",
    "validationerror",
];

impl ErrorClass {
    /// Classifies an HTTP status: 429 is a rate limit, other statuses from 400 to 499 except 408 are the caller's, and all
    /// others are failures.
    pub const fn from_status(status: u16) -> Self {
        match status {
            429 => Self::RateLimit,
            400..=407 | 409..=499 => Self::Caller,
            _ => Self::Failure,
        }
    }

    /// Classifies an error message by the words that providers and frameworks use for rate limits and bad requests. All
    /// other messages are failures.
    ///
    /// ```
    /// use sre_cascade::ErrorClass;
    /// assert_eq!(ErrorClass::from_message("openai.RateLimitError: slow down"), ErrorClass::RateLimit);
    /// assert_eq!(ErrorClass::from_message("pydantic.ValidationError: city is missing"), ErrorClass::Caller);
    /// assert_eq!(ErrorClass::from_message("connection reset"), ErrorClass::Failure);
    /// ```
    pub fn from_message(message: &str) -> Self {
        let has = |words: &[&str]| words.iter().any(|word| contains_ignoring_case(message, word));
        if has(&RATE_LIMIT) {
            Self::RateLimit
        } else if has(&CALLER) {
            Self::Caller
        } else {
            Self::Failure
        }
    }
}

fn contains_ignoring_case(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_limits_and_caller_errors_are_distinguished_from_failures() {
        for (status, class) in [
            (400, ErrorClass::Caller),
            (404, ErrorClass::Caller),
            (408, ErrorClass::Failure),
            (429, ErrorClass::RateLimit),
            (500, ErrorClass::Failure),
            (503, ErrorClass::Failure),
        ] {
            assert_eq!(ErrorClass::from_status(status), class, "{status}");
        }
        for (message, class) in [
            ("", ErrorClass::Failure),
            ("it took 429 ms", ErrorClass::Failure),
            ("HTTP 429 Too Many Requests", ErrorClass::RateLimit),
            ("INVALID_ARGUMENT: no such city", ErrorClass::Caller),
        ] {
            assert_eq!(ErrorClass::from_message(message), class, "{message}");
        }
    }
}
