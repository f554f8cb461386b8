//! Requests across freezes.
//!
//! The state of a request in flight is unknown after a thaw. After a freeze of seconds its connection is most likely
//! alive, and the response may wait in the socket. After an hour the connection is dead, without any signal. So every
//! thaw adds an attempt on a new connection, while the earlier attempts continue: the first response counts. An attempt
//! that needs several round trips makes progress in each invocation, however short.
//!
//! All attempts have the signature of the first one. If that is too old, the request fails, and the SDK signs a new
//! one.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ConnectorError;

use super::pulse::{Frozen, Pulse};
use crate::clock::{Timestamp, yield_to_readers};

/// Maximum number of attempts in flight; the oldest is dropped. TCP, TLS and the request take four round trips.
const MAX_ATTEMPTS: usize = 4;
/// Maximum age of a signature for another attempt. AWS accepts at least 5 minutes.
const MAX_AGE: Duration = Duration::from_secs(240);
/// Time before a request that is not safe is sent again, because a response that is on its way makes that unnecessary.
const CAUTION: Duration = Duration::from_millis(100);

type RequestAttempt = Pin<Box<dyn Future<Output = Result<HttpResponse, ConnectorError>> + Send>>;

/// Attempts of one request, oldest first.
struct Attempts(Vec<RequestAttempt>);

impl Attempts {
    fn add(&mut self, attempt: RequestAttempt) {
        if self.0.len() == MAX_ATTEMPTS {
            drop(self.0.remove(0));
        }
        self.0.push(attempt);
    }

    /// Returns the first response, or the last error.
    async fn response(&mut self) -> Result<HttpResponse, ConnectorError> {
        poll_fn(|context| {
            let mut place = 0;
            while let Some(attempt) = self.0.get_mut(place) {
                match attempt.as_mut().poll(context) {
                    Poll::Pending => place += 1,
                    Poll::Ready(Ok(response)) => return Poll::Ready(Ok(response)),
                    Poll::Ready(Err(error)) => {
                        drop(self.0.remove(place));
                        if self.0.is_empty() {
                            return Poll::Ready(Err(error));
                        }
                    }
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Sends a request with `send`, again at each thaw, until a response arrives. `send` returns `None` if the request
/// cannot be sent again. `is_safe` marks a request without side effects.
pub(super) async fn send(
    mut send: impl FnMut() -> Option<RequestAttempt> + Send,
    is_safe: bool,
    pulse: Pulse,
) -> Result<HttpResponse, ConnectorError> {
    let began = pulse.beat();
    let mut thaw = Box::pin(pulse.thaw());
    let mut attempts = Attempts(Vec::new());
    attempts.0.extend(send());
    loop {
        tokio::select! {
            biased;
            response = attempts.response() => return response,
            () = &mut thaw => thaw = Box::pin(pulse.thaw()),
        }
        // A response that arrived in the freeze counts, so the tasks that read sockets run first.
        let caution = async {
            yield_to_readers().await;
            if !is_safe && is_young(began, &pulse) {
                tokio::time::sleep(CAUTION).await;
            }
        };
        tokio::select! {
            biased;
            response = attempts.response() => return response,
            () = caution => {}
        }
        let again = if is_young(began, &pulse) {
            send()
        } else {
            None
        };
        match again {
            Some(attempt) => attempts.add(attempt),
            None => return Err(ConnectorError::io(Frozen.into())),
        }
    }
}

fn is_young(began: Timestamp, pulse: &Pulse) -> bool {
    pulse.since(began) < MAX_AGE
}

#[cfg(test)]
mod tests;
