//! Clients that send requests in a loop, each on its own connection, and the consistency of the responses.
//!
//! A sample records the version's number and the times of request and response. [`Ledger`] checks that a version
//! always adds the same number and that no two versions add the same one. Numbers increase with each version, so
//! [`backwards`] counts requests that were served by an older version than an earlier, completed request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::http::{Client, Connection};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::adder::added;

/// Name of the model.
pub const MODEL: &str = "adder";
/// Number of clients.
pub const CALLERS: u32 = 4;

/// One response.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Time of the request.
    pub asked: Instant,
    /// Time of the response.
    pub answered: Instant,
    /// Number that the serving version adds.
    pub number: u32,
}

impl Sample {
    /// Returns the time from the request to the response.
    #[must_use]
    pub fn latency(&self) -> Duration {
        self.answered.duration_since(self.asked)
    }
}

/// Responses to all clients.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Successful responses.
    pub samples: Vec<Sample>,
    /// Failed requests.
    pub failures: Vec<String>,
    /// Number that each version adds, by `model_version`.
    versions: BTreeMap<String, u32>,
}

/// Clients that run until they are stopped.
pub struct Callers {
    ledger: Arc<Mutex<Ledger>>,
    /// Largest number added so far.
    newest: watch::Sender<u32>,
    /// Number of responses.
    answers: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Callers {
    /// Starts the clients, with this pause after each response.
    #[must_use]
    pub fn start(client: &Client, pause: Duration) -> Self {
        let mut callers = Self {
            ledger: Arc::default(),
            newest: watch::Sender::new(0),
            answers: watch::Sender::new(0),
            stop: watch::Sender::new(false),
            tasks: JoinSet::new(),
        };
        for number in 0..CALLERS {
            let caller = Caller {
                client: client.clone(),
                connection: None,
                ledger: Arc::clone(&callers.ledger),
                newest: callers.newest.clone(),
                answers: callers.answers.clone(),
            };
            let stop = callers.stop.subscribe();
            callers.tasks.spawn(caller.run(number * 100, pause, stop));
        }
        callers
    }

    /// Waits until a version responds that adds this number or a larger one.
    pub async fn reach(&self, number: u32) -> Result<()> {
        let mut newest = self.newest.subscribe();
        let reached = newest.wait_for(|newest| *newest >= number);
        let reached = tokio::time::timeout(crate::WAIT_LIMIT, reached).await;
        ensure!(reached.is_ok(), "version {number} does not respond");
        Ok(())
    }

    /// Waits for this many more responses.
    pub async fn more(&self, answers: u64) -> Result<()> {
        let mut count = self.answers.subscribe();
        let goal = *count.borrow() + answers;
        let reached = count.wait_for(|count| *count >= goal);
        let reached = tokio::time::timeout(crate::WAIT_LIMIT, reached).await;
        ensure!(reached.is_ok(), "no more responses");
        Ok(())
    }

    /// Stops all clients; pending requests are completed.
    pub async fn stop(self) -> Result<Ledger> {
        let Self {
            ledger,
            stop,
            mut tasks,
            ..
        } = self;
        stop.send_replace(true);
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        Ok(std::mem::take(&mut lock(&ledger)))
    }
}

struct Caller {
    client: Client,
    connection: Option<Connection>,
    ledger: Arc<Mutex<Ledger>>,
    newest: watch::Sender<u32>,
    answers: watch::Sender<u64>,
}

impl Caller {
    async fn run(mut self, from: u32, pause: Duration, stop: watch::Receiver<bool>) {
        let mut x = from;
        while !*stop.borrow() {
            // Small enough for a float to be exact.
            x = (x + 1) % 1000;
            match self.ask(x).await {
                Ok(()) => self.answers.send_modify(|answers| *answers += 1),
                Err(problem) => {
                    lock(&self.ledger).failures.push(format!("{problem:#}"));
                    self.connection = None;
                    // Limits the rate of failing requests.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn ask(&mut self, x: u32) -> Result<()> {
        let input = json!({"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [x]});
        let path = format!("/v2/models/{MODEL}/infer");
        let request = crate::http::post(&path, &json!({ "inputs": [input] }))?;
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.client.connect().await?),
        };
        let asked = Instant::now();
        let answer = connection.send(request).await?;
        let answered = Instant::now();
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        let body: Value = answer.json()?;
        let version = body["model_version"].as_str().context("no version")?;
        ensure!(
            answer.header("x-model-version") == Some(version),
            "the header names version {:?}, the body {version}",
            answer.header("x-model-version")
        );
        let y = body["outputs"][0]["data"][0].as_f64().context("no y")?;
        let number = added(f64::from(x), y);
        let number =
            number.with_context(|| format!("{x} became {y}, which no version computes"))?;
        lock(&self.ledger).note(
            version,
            Sample {
                asked,
                answered,
                number,
            },
        )?;
        self.newest.send_if_modified(|newest| {
            let is_newer = number > *newest;
            *newest = number.max(*newest);
            is_newer
        });
        Ok(())
    }
}

impl Ledger {
    /// Records a response, or returns an error for an inconsistent one.
    pub fn note(&mut self, version: &str, sample: Sample) -> Result<()> {
        let number = sample.number;
        match self.versions.get(version) {
            Some(adds) => ensure!(
                *adds == number,
                "version {version} added {number} and, before, {adds}"
            ),
            None => {
                let other = self.versions.iter().find(|(_, adds)| **adds == number);
                ensure!(
                    other.is_none(),
                    "version {version} added {number}, as {other:?} does"
                );
                self.versions.insert(version.to_owned(), number);
            }
        }
        self.samples.push(sample);
        Ok(())
    }

    /// Response to the request that began last, in whatever order responses arrived.
    #[must_use]
    pub fn last(&self) -> Option<&Sample> {
        self.samples.iter().max_by_key(|sample| sample.asked)
    }

    /// Number of versions that responded.
    #[must_use]
    pub fn versions(&self) -> usize {
        self.versions.len()
    }
}

/// Number of requests that got an older version than a request that had ended before they began.
#[must_use]
pub fn backwards(samples: &[Sample]) -> usize {
    let mut by_start: Vec<&Sample> = samples.iter().collect();
    by_start.sort_by_key(|sample| sample.asked);
    let mut by_end: Vec<&Sample> = samples.iter().collect();
    by_end.sort_by_key(|sample| sample.answered);
    let mut ended = by_end.into_iter().peekable();
    let mut newest = 0;
    let older = by_start.into_iter().filter(|sample| {
        while let Some(before) = ended.next_if(|before| before.answered < sample.asked) {
            newest = newest.max(before.number);
        }
        sample.number < newest
    });
    older.count()
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
