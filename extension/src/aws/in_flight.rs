//! A request across freezes.
//!
//! A thaw does not say what has become of a request in flight. After a freeze of seconds its connection is most likely
//! alive, and the answer may wait in the socket; after an hour it is dead, and nothing says so. So at a thaw the request
//! is sent once more, at once and on a connection of its own, while the earlier attempts go on: the first answer counts.
//! An attempt that needs several round trips comes one step further in each invocation, however short that is.
//!
//! An attempt is sent with the signature of the first one. Where that is too old the request is given up, and the SDK
//! signs it anew.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ConnectorError;

use super::http::{Frozen, Pulse};
use crate::clock::{Timestamp, turns};

/// Maximum number of attempts in flight. Of more the oldest is given up: TCP, TLS and the request take four round trips.
const MAX_ATTEMPTS: usize = 4;
/// Age of a signature up to which it is sent again. AWS accepts at least 5 minutes.
const MAX_AGE: Duration = Duration::from_secs(240);
/// Wait of a request that changes something, before it is sent once more: an answer that is on its way makes that
/// unnecessary.
const CAUTION: Duration = Duration::from_millis(100);

type Attempt = Pin<Box<dyn Future<Output = Result<HttpResponse, ConnectorError>> + Send>>;

/// Attempts of one request, the oldest first.
struct Attempts(Vec<Attempt>);

impl Attempts {
    fn add(&mut self, attempt: Attempt) {
        if self.0.len() == MAX_ATTEMPTS {
            drop(self.0.remove(0));
        }
        self.0.push(attempt);
    }

    /// The first answer, or the last error.
    async fn answer(&mut self) -> Result<HttpResponse, ConnectorError> {
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

/// Sends a request by `send`, and once more at each thaw, until there is an answer. `send` returns `None` when the request
/// cannot be sent again. One that `is_safe` changes nothing.
pub(super) async fn send(
    mut send: impl FnMut() -> Option<Attempt> + Send,
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
            answer = attempts.answer() => return answer,
            () = &mut thaw => thaw = Box::pin(pulse.thaw()),
        }
        // What has arrived in the freeze counts; who reads sockets is to have a turn for that.
        let caution = async {
            turns().await;
            if !is_safe && is_young(began, &pulse) {
                tokio::time::sleep(CAUTION).await;
            }
        };
        tokio::select! {
            biased;
            answer = attempts.answer() => return answer,
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
