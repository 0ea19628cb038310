use crate::{CallError, CircuitBreaker, CircuitOpen, ErrorClass};

/// A breaker with an error classifier; see [`CircuitBreaker::classify`].
#[derive(Clone, Copy, Debug)]
pub struct Classified<'a, C> {
    breaker: &'a CircuitBreaker,
    classify: C,
}

impl CircuitBreaker {
    /// Makes a call unless the breaker rejects it. Every error counts as a failure.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Open`] if the call is rejected, and otherwise the error of the call.
    #[inline]
    pub fn call<T, E>(&self, call: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>> {
        self.classify(every_error_is_a_failure).call(call)
    }

    /// Like [`call`](Self::call), but returns the result of `fallback` for a rejected call. Errors of the call itself are
    /// returned.
    #[inline]
    pub fn call_or<T, E>(
        &self,
        call: impl FnOnce() -> Result<T, E>,
        fallback: impl FnOnce(CircuitOpen) -> Result<T, E>,
    ) -> Result<T, E> {
        self.classify(every_error_is_a_failure).call_or(call, fallback)
    }

    /// Like [`call`](Self::call), for a future. A future dropped before it completes counts as a failure.
    pub async fn call_async<T, E, F>(&self, call: impl FnOnce() -> F) -> Result<T, CallError<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.classify(every_error_is_a_failure).call_async(call).await
    }

    /// Like [`call_async`](Self::call_async), but returns the result of `fallback` for a rejected call. Errors of the call
    /// itself are returned.
    pub async fn call_async_or<T, E, F, G>(
        &self,
        call: impl FnOnce() -> F,
        fallback: impl FnOnce(CircuitOpen) -> G,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        G: Future<Output = Result<T, E>>,
    {
        self.classify(every_error_is_a_failure).call_async_or(call, fallback).await
    }

    /// Returns this breaker with a classifier, for calls whose errors are not all failures of the callee.
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
    pub fn classify<E, C: Fn(&E) -> ErrorClass>(&self, classify: C) -> Classified<'_, C> {
        Classified { breaker: self, classify }
    }
}

fn every_error_is_a_failure<E>(_: &E) -> ErrorClass {
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
                permit.error((self.classify)(&error));
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
                permit.error((self.classify)(&error));
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
