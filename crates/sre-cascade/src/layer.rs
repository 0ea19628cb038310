use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{CallError, CircuitBreaker, ErrorClass, Permit};

/// Protects a `tower::Service` with a circuit breaker. Services with the same breaker share its state.
///
/// ```
/// use std::sync::Arc;
/// use sre_cascade::{BreakerLayer, CallError, CircuitBreaker, ErrorClass};
/// use tower::{Layer, ServiceExt, service_fn};
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let breaker = Arc::new(CircuitBreaker::new("search"));
/// // Responses with an error status count too.
/// let layer = BreakerLayer::new(breaker.clone()).classify(|result: &Result<u16, String>| match result {
///     Ok(status) if *status < 400 => None,
///     Ok(status) => Some(ErrorClass::from_status(*status)),
///     Err(_) => Some(ErrorClass::Failure),
/// });
/// let service = layer.layer(service_fn(|_: ()| async { Ok::<u16, String>(503) }));
/// for _ in 0..5 {
///     assert_eq!(service.clone().oneshot(()).await, Ok(503));
/// }
/// assert!(matches!(service.oneshot(()).await, Err(CallError::Open { .. })));
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct BreakerLayer<C = ErrorsAsFailures> {
    breaker: Arc<CircuitBreaker>,
    classify: C,
}

/// A service protected by a circuit breaker; see [`BreakerLayer`].
#[derive(Clone, Debug)]
pub struct BreakerService<S, C = ErrorsAsFailures> {
    inner: S,
    breaker: Arc<CircuitBreaker>,
    classify: C,
}

/// Classifies the results of a service.
pub trait Classify<T, E>: Clone {
    /// Returns `None` for a success, and the class of error otherwise.
    fn classify(&self, result: &Result<T, E>) -> Option<ErrorClass>;
}

/// Counts every error as a failure and every response as a success.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorsAsFailures;

impl<T, E> Classify<T, E> for ErrorsAsFailures {
    fn classify(&self, result: &Result<T, E>) -> Option<ErrorClass> {
        result.is_err().then_some(ErrorClass::Failure)
    }
}

impl<T, E, F: Fn(&Result<T, E>) -> Option<ErrorClass> + Clone> Classify<T, E> for F {
    fn classify(&self, result: &Result<T, E>) -> Option<ErrorClass> {
        self(result)
    }
}

impl BreakerLayer {
    /// Creates a layer that counts every error of the service as a failure.
    pub fn new(breaker: Arc<CircuitBreaker>) -> Self {
        Self { breaker, classify: ErrorsAsFailures }
    }

    /// Classifies results with `classify` instead.
    pub fn classify<T, E, F: Fn(&Result<T, E>) -> Option<ErrorClass> + Clone>(self, classify: F) -> BreakerLayer<F> {
        BreakerLayer { breaker: self.breaker, classify }
    }
}

impl<S, C: Clone> Layer<S> for BreakerLayer<C> {
    type Service = BreakerService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        BreakerService { inner, breaker: self.breaker.clone(), classify: self.classify.clone() }
    }
}

impl<S, C, R> Service<R> for BreakerService<S, C>
where
    S: Service<R>,
    C: Classify<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = ResponseFuture<S::Future, C>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(CallError::Inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        match self.breaker.try_acquire_owned() {
            Ok(permit) => {
                let (call, classify) = (self.inner.call(request), self.classify.clone());
                ResponseFuture { state: State::InFlight { call, permit: Some(permit), classify } }
            }
            Err(open) => ResponseFuture { state: State::Rejected { retry_after: open.retry_after } },
        }
    }
}

pin_project! {
    /// The future of a [`BreakerService`]. Dropped before it completes, it counts as a failure.
    #[derive(Debug)]
    pub struct ResponseFuture<F, C> {
        #[pin]
        state: State<F, C>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjection]
    enum State<F, C> {
        InFlight { #[pin] call: F, permit: Option<Permit<Arc<CircuitBreaker>>>, classify: C },
        Rejected { retry_after: std::time::Duration },
    }
}

impl<F, C, T, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
{
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Rejected { retry_after } => {
                Poll::Ready(Err(CallError::Open { retry_after: *retry_after }))
            }
            StateProjection::InFlight { call, permit, classify } => {
                let result = ready!(call.poll(context));
                match (permit.take(), classify.classify(&result)) {
                    (Some(permit), None) => permit.success(),
                    (Some(permit), Some(class)) => permit.error(class),
                    (None, _) => {}
                }
                Poll::Ready(result.map_err(CallError::Inner))
            }
        }
    }
}
