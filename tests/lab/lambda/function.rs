//! A function: it takes invocations, and has environments behind it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::watch;
use uuid::Uuid;

use super::builder::{Builder, ON_DEMAND};
use super::environment::Outcome;
use super::machine::Event;
use super::{Environment, Invocation, LambdaError, MAX_REQUEST, Report, ShutdownReason, State};
use crate::artifacts::{self, ArtifactError};
use crate::log_capture::LogCapture;
use crate::records::{NotSeen, Records};

/// A function that takes invocations. Its environments' processes die when it is dropped.
#[derive(Debug)]
pub struct Function {
    platform: Arc<Platform>,
}

/// What the environments of a function write to together.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) log: LogCapture,
    pub(super) reports: Records<Report>,
    pub(super) memory_mb: u32,
    /// Changes whenever an invocation is over, or an environment gone.
    stirred: watch::Sender<u64>,
}

impl Ledger {
    /// Lets those look again who wait for a place.
    pub(super) fn stir(&self) {
        self.stirred.send_modify(|count| *count += 1);
    }
}

/// The function's environments, and who gets which.
#[derive(Debug)]
struct Platform {
    builder: Builder,
    ledger: Arc<Ledger>,
    made: AtomicUsize,
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    environments: Vec<Arc<Environment>>,
    /// Environments that are just being made.
    making: usize,
    /// Invocations that wait for an environment.
    waiting: usize,
}

/// Where an invocation goes.
enum Place {
    Found(Arc<Environment>),
    /// Into an environment that is to be made.
    ToBeMade,
    /// Into one that is winding up.
    ToWaitFor,
    /// Nowhere.
    None,
}

impl Function {
    /// Prepares to run the folders `layer` (at `/opt`) and `function` (at `/var/task`).
    #[must_use]
    pub fn of(layer: impl AsRef<Path>, function: impl AsRef<Path>) -> Builder {
        Builder::new(layer.as_ref(), function.as_ref())
    }

    /// Prepares to run the staged layer and function.
    ///
    /// # Errors
    /// [`ArtifactError`] when they are to be built first.
    pub fn staged() -> Result<Builder, ArtifactError> {
        Ok(Builder::new(&artifacts::layer()?, &artifacts::function()?))
    }

    pub(super) async fn start(builder: Builder) -> Result<Self, LambdaError> {
        let ledger = Ledger {
            log: LogCapture::new("lambda", builder.echo),
            reports: Records::default(),
            memory_mb: builder.memory_mb,
            stirred: watch::Sender::new(0),
        };
        let ahead = builder.initialization_type != ON_DEMAND;
        let function = Self {
            platform: Arc::new(Platform {
                builder,
                ledger: Arc::new(ledger),
                made: AtomicUsize::new(0),
                pool: Mutex::default(),
            }),
        };
        if ahead {
            let environment = function.platform.make().await?;
            environment.begin();
            function.platform.pool().environments.push(environment);
        }
        Ok(function)
    }

    /// Invokes the function, in an environment that is free or a new one.
    pub async fn invoke(&self, event: &Value) -> Invocation {
        self.platform
            .invoke(event.to_string().into(), None, None)
            .await
    }

    /// Invokes the function with a payload as it is, which the function may find to be no JSON.
    pub async fn invoke_raw(&self, payload: impl Into<Bytes>) -> Invocation {
        self.platform.invoke(payload.into(), None, None).await
    }

    /// As [`Self::invoke_raw`], with what the Invoke API's headers can say besides: the trace, as
    /// `X-Amzn-Trace-Id` has it, and the client's context, as JSON.
    pub async fn invoke_with(
        &self,
        payload: impl Into<Bytes>,
        trace: Option<String>,
        client_context: Option<String>,
    ) -> Invocation {
        self.platform
            .invoke(payload.into(), trace, client_context)
            .await
    }

    /// Invokes the function and returns its answer, JSON or else `null`.
    ///
    /// # Errors
    /// [`LambdaError::Failed`] when the function failed.
    pub async fn answer(&self, event: &Value) -> Result<Value, LambdaError> {
        let invocation = self.invoke(event).await;
        match invocation.function_error() {
            None => Ok(invocation.json.unwrap_or_default()),
            Some(error) => Err(LambdaError::Failed {
                error,
                log: self.log().text(),
            }),
        }
    }

    /// The environments there are, oldest first.
    #[must_use]
    pub fn environments(&self) -> Vec<Arc<Environment>> {
        let mut environments = self.platform.pool().environments.clone();
        environments.retain(|environment| environment.state() != State::Gone);
        environments
    }

    /// The newest environment, `None` while there is none.
    #[must_use]
    pub fn environment(&self) -> Option<Arc<Environment>> {
        self.environments().pop()
    }

    /// START, END and REPORT lines and what both sides wrote, as `CloudWatch` would show it.
    #[must_use]
    pub fn log(&self) -> &LogCapture {
        &self.platform.ledger.log
    }

    /// The reports of all invocations that have ended, in that order.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.platform.ledger.reports.all()
    }

    /// Waits until `count` invocations have ended, and returns all reports.
    ///
    /// # Errors
    /// [`NotSeen`] when fewer have within [`crate::WAIT_LIMIT`].
    pub async fn wait_for_reports(&self, count: usize) -> Result<Vec<Report>, NotSeen> {
        let wanted = format!("{count} reports");
        let reports = &self.platform.ledger.reports;
        reports
            .wait_until(&wanted, |reports| reports.len() >= count)
            .await
    }

    /// Ends every environment, with SHUTDOWN and 2 s, and returns the log, complete by then.
    pub async fn shutdown(&self) -> LogCapture {
        let environments = self.environments();
        let ends = environments
            .iter()
            .map(|environment| environment.shutdown(ShutdownReason::Spindown));
        // One that has gone meanwhile has been shut down as well.
        join_all(ends).await;
        self.log().end();
        self.log().clone()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        for environment in self.environments() {
            environment.destroy();
        }
    }
}

impl Platform {
    async fn invoke(
        &self,
        payload: Bytes,
        trace: Option<String>,
        client_context: Option<String>,
    ) -> Invocation {
        let id = Uuid::new_v4().to_string();
        if payload.len() > MAX_REQUEST {
            return Invocation::too_long(&id);
        }
        let event = Event {
            id: id.clone(),
            payload,
            trace: trace.unwrap_or_else(new_trace),
            client_context,
        };
        loop {
            let environment = match self.place().await {
                Ok(Some(environment)) => environment,
                Ok(None) => return Invocation::throttled(&id),
                Err(error) => return Invocation::not_started(&id, &error.to_string()),
            };
            match environment.invoke(event.clone()).await {
                Outcome::Answered { body, failed } => {
                    return Invocation::answered(&id, body, failed);
                }
                Outcome::NotTaken => {}
            }
        }
    }

    /// An environment with a place for one more invocation, reserved.
    async fn place(&self) -> Result<Option<Arc<Environment>>, LambdaError> {
        let mut stirred = self.ledger.stirred.subscribe();
        let mut waits = None;
        loop {
            stirred.borrow_and_update();
            match self.find() {
                Place::Found(environment) => return Ok(Some(environment)),
                Place::ToBeMade => {
                    let made = self.make().await;
                    let mut pool = self.pool();
                    pool.making -= 1;
                    if let Ok(environment) = &made {
                        environment.reserve();
                        pool.environments.push(Arc::clone(environment));
                    }
                    drop(pool);
                    self.ledger.stir();
                    return made.map(Some);
                }
                Place::None if waits.is_none() => return Ok(None),
                Place::None | Place::ToWaitFor => {
                    waits.get_or_insert_with(|| Waits::new(self));
                    // The sender is in `self`.
                    let _ = stirred.changed().await;
                }
            }
        }
    }

    fn find(&self) -> Place {
        let mut pool = self.pool();
        pool.environments
            .retain(|environment| environment.state() != State::Gone);
        // Counted first: one that is no longer winding up by now has a place, and one that has
        // none yet stirs everyone when it has.
        let winding_up = pool
            .environments
            .iter()
            .filter(|one| one.is_winding_up())
            .count();
        if let Some(free) = pool
            .environments
            .iter()
            .find(|environment| environment.reserve())
        {
            return Place::Found(Arc::clone(free));
        }
        let most = match self.builder.managed_instances {
            Some(_) => 1,
            None => self.builder.most_environments,
        };
        let ending = |environment: &&Arc<Environment>| environment.state() == State::Ending;
        if pool.environments.len() + pool.making < most {
            pool.making += 1;
            return Place::ToBeMade;
        }
        let room = match self.builder.managed_instances {
            // Whoever comes while the only environment is made anew finds it in a moment.
            Some(each) if pool.making > 0 || pool.environments.iter().any(|one| ending(&one)) => {
                each as usize
            }
            _ => winding_up,
        };
        if pool.waiting < room {
            Place::ToWaitFor
        } else {
            Place::None
        }
    }

    async fn make(&self) -> Result<Arc<Environment>, LambdaError> {
        let number = self.made.fetch_add(1, Ordering::AcqRel);
        let environment = Environment::make(&self.builder, number, &self.ledger).await?;
        Ok(Arc::new(environment))
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One invocation that waits for an environment.
struct Waits<'a> {
    platform: &'a Platform,
}

impl<'a> Waits<'a> {
    fn new(platform: &'a Platform) -> Self {
        platform.pool().waiting += 1;
        Self { platform }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.platform.pool().waiting -= 1;
    }
}

/// As X-Ray's header is, of an invocation that is not sampled.
fn new_trace() -> String {
    let root = Uuid::new_v4().simple().to_string();
    let parent = Uuid::new_v4().simple().to_string();
    let (time, rest) = root.split_at(8);
    format!(
        "Root=1-{time}-{rest};Parent={};Sampled=0",
        parent.get(..16).unwrap_or_default()
    )
}
