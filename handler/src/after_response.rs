//! Work that follows the response of an invocation.

use std::pin::Pin;
use std::task::{Context, Poll};

use lambda_runtime::tower::{Layer, Service};
use lambda_runtime::{Error, LambdaInvocation};

/// Layer of the runtime that does its work once a response was posted, before the next event is requested.
#[derive(Clone)]
pub(crate) struct AfterResponse<W>(W);

impl<W: Fn() + Clone> AfterResponse<W> {
    /// Returns the layer with this work, which must not wait.
    pub(crate) fn new(work: W) -> Self {
        Self(work)
    }
}

impl<S, W: Clone> Layer<S> for AfterResponse<W> {
    type Service = WithWork<S, W>;

    fn layer(&self, inner: S) -> WithWork<S, W> {
        WithWork {
            inner,
            work: self.0.clone(),
        }
    }
}

/// Service of [`AfterResponse`].
#[derive(Clone)]
pub(crate) struct WithWork<S, W> {
    inner: S,
    work: W,
}

impl<S, W> Service<LambdaInvocation> for WithWork<S, W>
where
    S: Service<LambdaInvocation, Response = (), Error = Error>,
    S::Future: Send + 'static,
    W: Fn() + Clone + Send + 'static,
{
    type Response = ();
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, invocation: LambdaInvocation) -> Self::Future {
        let posted = self.inner.call(invocation);
        let work = self.work.clone();
        Box::pin(async move {
            let result = posted.await;
            work();
            result
        })
    }
}
