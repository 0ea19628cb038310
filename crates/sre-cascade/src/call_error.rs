use std::time::Duration;

/// The error of a call through a circuit breaker.
///
/// Exhaustive: a call that fails was either rejected or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError<E> {
    /// The call was rejected without being made.
    #[error("circuit open: {}", retry_advice(*retry_after))]
    Open {
        /// How long to wait: until the recovery timeout elapses; zero while probe calls are in flight, since their results can
        /// close the breaker at any moment; [`Duration::MAX`] when the breaker is forced open.
        retry_after: Duration,
    },
    /// The call was made and returned this error.
    #[error(transparent)]
    Inner(E),
}

/// The error of a call that a circuit breaker rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("circuit open: {}", retry_advice(*retry_after))]
#[non_exhaustive]
pub struct CircuitOpen {
    /// How long to wait; see [`CallError::Open`].
    pub retry_after: Duration,
}

fn retry_advice(after: Duration) -> String {
    if after == Duration::MAX {
        "forced open until it is reset".to_owned()
    } else if after.is_zero() {
        "probe calls are in flight; retry when they have ended".to_owned()
    } else {
        format!("retry in {after:.1?}")
    }
}

impl<E> From<CircuitOpen> for CallError<E> {
    fn from(CircuitOpen { retry_after }: CircuitOpen) -> Self {
        Self::Open { retry_after }
    }
}
