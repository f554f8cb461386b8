//! Continuous requests, each response compared with scikit-learn's: sequential over Lambda, and in
//! parallel over the sidecar's socket. Between two invocations everything is frozen, requests on
//! the socket too.
//!
//! A caller that got a response of version 2 must never get one of version 1 again.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::join_all;
use lab::http::{Client, Connection, post};
use tokio::sync::watch;

use crate::lambda::Lambda;
use crate::wine::{PredictResponse, Wines};

/// Maximum time for an expected state to be reached, which takes a second or two.
const LIMIT: Duration = Duration::from_secs(60);

/// Callers on the socket.
const ON_THE_SOCKET: usize = 2;

/// Counted responses.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResponseTally {
    /// Correct responses of versions 1 and 2 over Lambda.
    pub(crate) lambda: [u64; 2],
    /// Correct responses of versions 1 and 2 over the socket.
    pub(crate) socket: [u64; 2],
    /// Requests without a response, or with a wrong one.
    pub(crate) failed: u64,
    /// Reason of the first failure.
    pub(crate) first_failure: Option<String>,
    /// Name of version 2, once a response has named it.
    pub(crate) second: Option<String>,
}

impl ResponseTally {
    pub(crate) fn answered(&self) -> u64 {
        self.of(0) + self.of(1)
    }

    /// Responses of the first (0) or second (1) version.
    pub(crate) fn of(&self, version: usize) -> u64 {
        self.lambda[version] + self.socket[version]
    }
}

/// Callers, their requests, and the known versions.
pub(crate) struct Traffic<'a> {
    pub(crate) lambda: &'a Lambda,
    pub(crate) wines: &'a Wines,
    /// Name of version 1.
    pub(crate) first: &'a str,
    pub(crate) tally: &'a watch::Sender<ResponseTally>,
}

/// Transport of one caller.
enum Transport<'a> {
    Lambda(&'a Lambda),
    Socket(Connection),
}

impl Traffic<'_> {
    /// Runs the callers until `script` is complete, and returns its result. No request is cut off.
    pub(crate) async fn during<T>(&self, script: impl Future<Output = Result<T>>) -> Result<T> {
        let over = watch::Sender::new(false);
        let mut on_the_socket = Vec::new();
        for caller in 1..=ON_THE_SOCKET {
            let connection = Client::unix(self.lambda.socket()?).connect().await;
            let way = Transport::Socket(connection.context("the sidecar's socket")?);
            on_the_socket.push(self.call(way, caller * 31, over.subscribe()));
        }
        // Without invocations everything is frozen, so they continue until no request is pending on
        // the socket.
        let no_more = watch::Sender::new(false);
        let callers = async {
            let mut invocations =
                pin!(self.call(Transport::Lambda(self.lambda), 0, no_more.subscribe()));
            tokio::select! {
                _ = join_all(on_the_socket) => {
                    no_more.send_replace(true);
                    invocations.await;
                }
                // The invocations failed: pending requests are frozen and never complete.
                () = &mut invocations => {}
            }
        };
        let script = async {
            let outcome = tokio::select! {
                outcome = tokio::time::timeout(LIMIT, script) => outcome.ok(),
                // One failure is enough.
                _ = self.reaches(|tally| tally.failed > 0) => None,
            };
            over.send_replace(true);
            outcome
        };
        let (outcome, ()) = tokio::join!(script, callers);
        let tally = self.tally.borrow().clone();
        if let Some(why) = &tally.first_failure {
            bail!(
                "{} of {} requests failed; the first: {why}",
                tally.failed,
                tally.failed + tally.answered()
            );
        }
        outcome.with_context(|| {
            format!(
                "in {} s version 1 responded {} times and version 2 {} times, which is too few",
                LIMIT.as_secs(),
                tally.of(0),
                tally.of(1)
            )
        })?
    }

    /// Waits for a state of the tally.
    pub(crate) async fn reaches(
        &self,
        holds: impl FnMut(&ResponseTally) -> bool,
    ) -> Result<ResponseTally> {
        let mut tally = self.tally.subscribe();
        let reached = tally.wait_for(holds).await.map(|tally| tally.clone());
        reached.context("the traffic ended")
    }

    async fn call(&self, mut way: Transport<'_>, first_wine: usize, over: watch::Receiver<bool>) {
        let mut had_second = self.tally.borrow().second.is_some();
        let mut wine = first_wine;
        while !*over.borrow() {
            wine = (wine + 1) % self.wines.len();
            let outcome = self.one(&mut way, wine, &mut had_second).await;
            let failed = outcome.is_err();
            self.tally.send_modify(|tally| tally.count(&way, outcome));
            if failed {
                // Stops after a failure instead of repeating it.
                return;
            }
        }
    }

    /// Sends one request; returns the name of the version that responded, if it is not version 1.
    async fn one(
        &self,
        way: &mut Transport<'_>,
        wine: usize,
        had_second: &mut bool,
    ) -> Result<Option<String>> {
        let request = self.wines.request(&[wine]);
        let answer = match way {
            Transport::Lambda(lambda) => lambda.ask(&request).await,
            Transport::Socket(connection) => {
                let answer = connection.send(post("/predict", &request)?).await?;
                ensure!(
                    answer.status.is_success(),
                    "{}: {}",
                    answer.status,
                    answer.text()
                );
                PredictResponse::read(&answer.body)
            }
        }?;
        let is_second = answer.model_version != self.first;
        ensure!(
            is_second || !*had_second,
            "a caller got version 1 after version 2"
        );
        *had_second = is_second;
        let reference = if is_second {
            &self.wines.v2
        } else {
            &self.wines.v1
        };
        answer.compare(reference, &[wine])?;
        Ok(is_second.then_some(answer.model_version))
    }
}

impl ResponseTally {
    fn count(&mut self, way: &Transport<'_>, outcome: Result<Option<String>>) {
        let counts = match way {
            Transport::Lambda(_) => &mut self.lambda,
            Transport::Socket(_) => &mut self.socket,
        };
        match outcome {
            Ok(None) => counts[0] += 1,
            Ok(Some(version)) => {
                counts[1] += 1;
                let known = self.second.get_or_insert_with(|| version.clone());
                if *known != version {
                    self.failed += 1;
                    self.first_failure
                        .get_or_insert(format!("a third version responded: {version}"));
                }
            }
            Err(problem) => {
                self.failed += 1;
                self.first_failure.get_or_insert(format!("{problem:#}"));
            }
        }
    }
}
