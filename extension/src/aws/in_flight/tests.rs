//! Requests whose attempts complete on demand, with freezes under both behaviours of the monotonic clock.

use std::sync::{Arc, Mutex};

use aws_smithy_types::body::SdkBody;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::clock::Thaws;
use crate::clock::wall::{Monotonic, Wall};

type Answer = Result<u16, &'static str>;

/// Request in flight.
struct Request {
    wall: Arc<Wall>,
    thaws: Thaws,
    clock: Monotonic,
    /// Senders for the responses of the attempts.
    sent: Arc<Mutex<Vec<Option<oneshot::Sender<Answer>>>>>,
    answer: JoinHandle<Result<u16, String>>,
}

impl Request {
    async fn begin(clock: Monotonic, is_safe: bool) -> Self {
        let (wall, thaws) = (Wall::new(), Thaws::default());
        let pulse = Pulse::without_pool(Arc::clone(&wall) as _, thaws.clone());
        let sent: Arc<Mutex<Vec<_>>> = Arc::default();
        let attempt = {
            let sent = Arc::clone(&sent);
            move || {
                let (answer, answered) = oneshot::channel::<Answer>();
                sent.lock().unwrap().push(Some(answer));
                let attempt: RequestAttempt = Box::pin(async move {
                    match answered.await {
                        Ok(Ok(status)) => Ok(response(status)),
                        Ok(Err(error)) => Err(ConnectorError::io(error.into())),
                        Err(_) => std::future::pending().await,
                    }
                });
                Some(attempt)
            }
        };
        let answer = tokio::spawn(async move {
            let answer = send(attempt, is_safe, pulse).await;
            answer
                .map(|response| response.status().as_u16())
                .map_err(|error| error.to_string())
        });
        let request = Self {
            wall,
            thaws,
            clock,
            sent,
            answer,
        };
        request.wait_for(1).await;
        request
    }

    /// Waits until `count` attempts have been sent.
    async fn wait_for(&self, count: usize) {
        while self.sent() < count {
            tokio::task::yield_now().await;
        }
    }

    fn sent(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    async fn freeze(&self, time: Duration) {
        self.clock.freeze(&self.wall, &self.thaws, time).await;
    }

    fn respond(&self, attempt: usize, answer: Answer) {
        let sender = self.sent.lock().unwrap()[attempt].take().unwrap();
        let _ = sender.send(answer);
    }

    async fn ended(self) -> Result<u16, String> {
        self.answer.await.unwrap()
    }
}

fn response(status: u16) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), SdkBody::empty())
}

const SECONDS: Duration = Duration::from_secs(3);

#[tokio::test(start_paused = true)]
async fn a_response_that_arrived_in_the_freeze_prevents_another_attempt() {
    for clock in Monotonic::BOTH {
        for is_safe in [true, false] {
            let request = Request::begin(clock, is_safe).await;
            request.respond(0, Ok(304));
            request.freeze(SECONDS).await;
            let sent = Arc::clone(&request.sent);
            assert_eq!(request.ended().await, Ok(304));
            assert_eq!(sent.lock().unwrap().len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_thaw_adds_an_attempt_and_the_first_response_counts() {
    for clock in Monotonic::BOTH {
        for first in 0..3 {
            let request = Request::begin(clock, true).await;
            for thaws in 1..=2 {
                request.freeze(SECONDS).await;
                request.wait_for(1 + thaws).await;
            }
            assert_eq!(request.sent(), 3);
            request.respond(first, Ok(200));
            assert_eq!(request.ended().await, Ok(200));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_counts_only_when_it_is_the_last() {
    let request = Request::begin(Monotonic::Jumps, true).await;
    request.freeze(SECONDS).await;
    request.wait_for(2).await;
    request.respond(0, Err("connection reset"));
    tokio::task::yield_now().await;
    request.respond(1, Ok(200));
    assert_eq!(request.ended().await, Ok(200));

    let request = Request::begin(Monotonic::Jumps, true).await;
    request.freeze(SECONDS).await;
    request.wait_for(2).await;
    request.respond(1, Err("connection reset"));
    request.respond(0, Err("connection refused"));
    assert!(request.ended().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_signature_that_is_too_old_is_not_sent_again() {
    for clock in Monotonic::BOTH {
        let request = Request::begin(clock, true).await;
        request.freeze(Duration::from_secs(3_600)).await;
        let error = request.ended().await.unwrap_err();
        assert!(error.contains("io error"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsafe_request_is_sent_again_only_after_a_short_wait() {
    for clock in Monotonic::BOTH {
        let request = Request::begin(clock, false).await;
        request.freeze(SECONDS).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(request.sent(), 1);
        tokio::time::advance(CAUTION).await;
        request.wait_for(2).await;
        request.respond(0, Ok(200));
        assert_eq!(request.ended().await, Ok(200));
    }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_of_too_many_attempts_are_dropped() {
    let request = Request::begin(Monotonic::StandsStill, true).await;
    for thaws in 1..=MAX_ATTEMPTS {
        request.freeze(SECONDS).await;
        request.wait_for(1 + thaws).await;
    }
    let closed = |attempt: usize| {
        let sent = request.sent.lock().unwrap();
        sent[attempt]
            .as_ref()
            .is_some_and(oneshot::Sender::is_closed)
    };
    assert!(closed(0) && !closed(1));
}
