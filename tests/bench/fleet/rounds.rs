//! The fleet, invoked in rounds.
//!
//! An invocation goes to the first free environment, or to a new one. As many concurrent
//! invocations as environments reach each environment once, and replace the removed ones.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use lab::lambda::{Environment, Function, ShutdownReason, State};
use serde_json::json;

use super::published::{BUCKET, MANIFEST, Published};
use lab::soak::adder::added;

/// Number of environments that start concurrently.
const AT_ONCE: usize = 4;

pub(super) struct Fleet {
    pub(super) function: Function,
    size: usize,
    begun: Instant,
    pub(super) begun_at: SystemTime,
    /// Rounds since all have started.
    pub(super) rounds: Vec<Round>,
    pub(super) failures: Vec<String>,
    /// Number of environments created so far.
    made: usize,
}

/// Responses of one round of invocations. Times are in seconds since the start.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) began: f64,
    pub(super) ended: f64,
    pub(super) asked: usize,
    /// Number of responses of version 2.
    pub(super) second: usize,
}

/// A point in time.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    /// Seconds since the start.
    pub(super) elapsed: f64,
    pub(super) wall: SystemTime,
    made: usize,
}

impl Fleet {
    /// Starts `count` environments, a few at a time.
    pub(super) async fn start(
        published: &Published,
        size: usize,
        interval: Duration,
    ) -> Result<Self> {
        let function = Function::staged()?
            .envs(published.s3.env())
            .env("MODEL_URI", format!("s3://{BUCKET}/{MANIFEST}"))
            .env("MODEL_NAME", "adder")
            .env("MODEL_PORT", "0")
            .env("MODEL_METRICS", "none")
            .env("MODEL_REFRESH_INTERVAL", format!("{}s", interval.as_secs()))
            .timeout(Duration::from_secs(60))
            // Several environments may start on one CPU.
            .init_limit(Duration::from_secs(60))
            .max_environments(size)
            .start()
            .await?;
        let mut fleet = Self {
            function,
            size,
            begun: Instant::now(),
            begun_at: SystemTime::now(),
            rounds: Vec::new(),
            failures: Vec::new(),
            made: 0,
        };
        for count in (AT_ONCE..size).step_by(AT_ONCE).chain([size]) {
            // Existing environments respond at once, and the missing ones are created.
            fleet.ask(count).await;
        }
        ensure!(fleet.failures.is_empty(), "{:?}", fleet.failures);
        fleet.rounds.clear();
        Ok(fleet)
    }

    /// Invokes each environment once.
    pub(super) async fn round(&mut self) {
        self.ask(self.size).await;
    }

    async fn ask(&mut self, count: usize) {
        let before = self.function.environments();
        for environment in &before {
            // An environment in its tail would cause the creation of another one.
            let settled = environment.wait_until(State::Idle).await;
            if let Err(problem) = settled {
                self.failures.push(problem.to_string());
            }
        }
        let began = self.begun.elapsed().as_secs_f64();
        let asks = (0..count).map(|number| ask(&self.function, number));
        let answers = join_all(asks).await;
        let ended = self.begun.elapsed().as_secs_f64();
        let mut second = 0;
        for answer in answers {
            match answer {
                Ok(number) => second += usize::from(number == 2),
                Err(problem) => self.failures.push(format!("at {began:.1} s: {problem:#}")),
            }
        }
        self.rounds.push(Round {
            began,
            ended,
            asked: count,
            second,
        });
        let after = self.function.environments();
        let is_new =
            |one: &&Arc<Environment>| before.iter().all(|old| old.number() != one.number());
        self.made += after.iter().filter(is_new).count();
    }

    /// Removes the oldest environments.
    pub(super) async fn take_away(&self, count: usize) -> Result<()> {
        for environment in self.function.environments().iter().take(count) {
            environment.shutdown(ShutdownReason::Spindown).await?;
        }
        Ok(())
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            elapsed: self.begun.elapsed().as_secs_f64(),
            wall: SystemTime::now(),
            made: self.made,
        }
    }

    /// Number of environments created since a mark.
    pub(super) fn started_since(&self, mark: Mark) -> f64 {
        f64::from(u32::try_from(self.made - mark.made).unwrap_or(u32::MAX))
    }

    pub(super) async fn end(self) {
        self.function.shutdown().await;
    }
}

/// Invokes the function, and returns the number that the version adds.
async fn ask(function: &Function, x: usize) -> Result<u32> {
    let x = f64::from(u32::try_from(x)?);
    let answer = function.answer(&json!({ "features": [[x]] })).await?;
    let y = answer["prediction"][0][0].as_f64();
    let number = y.and_then(|y| added(x, y));
    let number = number.filter(|number| [1, 2].contains(number));
    number.with_context(|| format!("{x} became {answer}"))
}
