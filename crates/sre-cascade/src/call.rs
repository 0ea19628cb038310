use std::time::Duration;

use crate::{CircuitBreaker, ErrorClass};

/// Why a guarded call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError<E> {
    /// It was not made: the circuit is open.
    #[error("the circuit is open{}", retry_text(*retry_after))]
    Open {
        /// How long to wait: until the recovery time is over; nothing while trial calls are under way, which end it at any
        /// moment; [`Duration::MAX`] where it was forced open.
        retry_after: Duration,
    },
    /// It was made, and this came of it.
    #[error(transparent)]
    Inner(E),
}

/// The circuit is open: the call was not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the circuit is open{}", retry_text(*retry_after))]
pub struct CircuitOpen {
    /// How long to wait; see [`CallError::Open`].
    pub retry_after: Duration,
}

fn retry_text(after: Duration) -> String {
    if after == Duration::MAX {
        " until it is reset".to_owned()
    } else if after.is_zero() {
        ": trial calls are under way".to_owned()
    } else {
        format!(": try again in {after:.1?}")
    }
}

impl<E> From<CircuitOpen> for CallError<E> {
    fn from(CircuitOpen { retry_after }: CircuitOpen) -> Self {
        Self::Open { retry_after }
    }
}

/// A breaker that tells errors apart; see [`CircuitBreaker::classify`].
#[derive(Clone, Copy, Debug)]
pub struct Classified<'a, C> {
    breaker: &'a CircuitBreaker,
    class: C,
}

impl CircuitBreaker {
    /// Makes a call if the circuit lets it. Every error counts as the callee's failure.
    #[inline]
    pub fn call<T, E>(&self, call: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>> {
        self.classify(failure).call(call)
    }

    /// The same, with `fallback` for an open circuit. An error of the call itself stays one.
    #[inline]
    pub fn call_or<T, E>(
        &self,
        call: impl FnOnce() -> Result<T, E>,
        fallback: impl FnOnce(CircuitOpen) -> Result<T, E>,
    ) -> Result<T, E> {
        self.classify(failure).call_or(call, fallback)
    }

    /// Makes a call that is a future if the circuit lets it. Dropped before it ends, it has failed.
    pub async fn call_async<T, E, F>(&self, call: impl FnOnce() -> F) -> Result<T, CallError<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.classify(failure).call_async(call).await
    }

    /// The same, with `fallback` for an open circuit. An error of the call itself stays one.
    pub async fn call_async_or<T, E, F, G>(
        &self,
        call: impl FnOnce() -> F,
        fallback: impl FnOnce(CircuitOpen) -> G,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        G: Future<Output = Result<T, E>>,
    {
        self.classify(failure).call_async_or(call, fallback).await
    }

    /// The same breaker for calls whose errors are not all the callee's fault.
    ///
    /// ```
    /// use sre_cascade::{CallError, CircuitBreaker, ErrorClass};
    /// let breaker = CircuitBreaker::new("search");
    /// let by_status = breaker.classify(|status: &u16| ErrorClass::from_status(*status));
    /// for _ in 0..10 {
    ///     assert_eq!(by_status.call(|| Err::<(), _>(404)), Err(CallError::Inner(404)));
    /// }
    /// assert_eq!(breaker.failure_count(), 0);
    /// ```
    #[inline]
    pub fn classify<E, C: Fn(&E) -> ErrorClass>(&self, class: C) -> Classified<'_, C> {
        Classified { breaker: self, class }
    }
}

fn failure<E>(_: &E) -> ErrorClass {
    ErrorClass::Failure
}

impl<C> Classified<'_, C> {
    /// See [`CircuitBreaker::call`].
    #[inline]
    pub fn call<T, E>(&self, call: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>>
    where
        C: Fn(&E) -> ErrorClass,
    {
        let permit = self.breaker.try_acquire()?;
        match call() {
            Ok(answer) => {
                permit.success();
                Ok(answer)
            }
            Err(error) => {
                permit.error((self.class)(&error));
                Err(CallError::Inner(error))
            }
        }
    }

    /// See [`CircuitBreaker::call_or`].
    #[inline]
    pub fn call_or<T, E>(
        &self,
        call: impl FnOnce() -> Result<T, E>,
        fallback: impl FnOnce(CircuitOpen) -> Result<T, E>,
    ) -> Result<T, E>
    where
        C: Fn(&E) -> ErrorClass,
    {
        match self.call(call) {
            Ok(answer) => Ok(answer),
            Err(CallError::Open { retry_after }) => fallback(CircuitOpen { retry_after }),
            Err(CallError::Inner(error)) => Err(error),
        }
    }

    /// See [`CircuitBreaker::call_async`].
    pub async fn call_async<T, E, F>(&self, call: impl FnOnce() -> F) -> Result<T, CallError<E>>
    where
        F: Future<Output = Result<T, E>>,
        C: Fn(&E) -> ErrorClass,
    {
        let permit = self.breaker.try_acquire()?;
        match call().await {
            Ok(answer) => {
                permit.success();
                Ok(answer)
            }
            Err(error) => {
                permit.error((self.class)(&error));
                Err(CallError::Inner(error))
            }
        }
    }

    /// See [`CircuitBreaker::call_async_or`].
    pub async fn call_async_or<T, E, F, G>(
        &self,
        call: impl FnOnce() -> F,
        fallback: impl FnOnce(CircuitOpen) -> G,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        G: Future<Output = Result<T, E>>,
        C: Fn(&E) -> ErrorClass,
    {
        match self.call_async(call).await {
            Ok(answer) => Ok(answer),
            Err(CallError::Open { retry_after }) => fallback(CircuitOpen { retry_after }).await,
            Err(CallError::Inner(error)) => Err(error),
        }
    }
}
