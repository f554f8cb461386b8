//! A function: accepts invocations and assigns them to environments.

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

/// A function that accepts invocations. Its environments' processes are killed when it is dropped.
#[derive(Debug)]
pub struct Function {
    platform: Arc<Platform>,
}

/// Log and reports shared by the environments of a function.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) log: LogCapture,
    pub(super) reports: Records<Report>,
    pub(super) memory_mb: u32,
    /// Changes whenever an invocation ends or an environment is removed.
    stirred: watch::Sender<u64>,
}

impl Ledger {
    /// Wakes invocations that wait for an environment.
    pub(super) fn stir(&self) {
        self.stirred.send_modify(|count| *count += 1);
    }
}

/// Environments of the function, and the assignment of invocations.
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
    /// Number of environments that are being created.
    making: usize,
    /// Number of invocations that wait for an environment.
    waiting: usize,
}

/// Assignment of an invocation.
enum Place {
    Found(Arc<Environment>),
    /// A new environment must be created.
    ToBeMade,
    /// An environment is about to become free.
    ToWaitFor,
    /// No environment may be created.
    None,
}

impl Function {
    /// Configures a function from the folders `layer` (at `/opt`) and `function` (at `/var/task`).
    #[must_use]
    pub fn of(layer: impl AsRef<Path>, function: impl AsRef<Path>) -> Builder {
        Builder::new(layer.as_ref(), function.as_ref())
    }

    /// Configures a function from the staged layer and function.
    ///
    /// # Errors
    /// [`ArtifactError`] if they must be built first.
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

    /// Invokes the function, in a free environment or a new one.
    pub async fn invoke(&self, event: &Value) -> Invocation {
        self.platform
            .invoke(event.to_string().into(), None, None)
            .await
    }

    /// Invokes the function with an unchanged payload, which need not be JSON.
    pub async fn invoke_raw(&self, payload: impl Into<Bytes>) -> Invocation {
        self.platform.invoke(payload.into(), None, None).await
    }

    /// Like [`Self::invoke_raw`], with further headers of the Invoke API: the trace, in the form of
    /// `X-Amzn-Trace-Id`, and the client context as JSON.
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

    /// Invokes the function and returns its response, or `null` if that is no JSON.
    ///
    /// # Errors
    /// [`LambdaError::Failed`] if the function failed.
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

    /// Current environments, oldest first.
    #[must_use]
    pub fn environments(&self) -> Vec<Arc<Environment>> {
        let mut environments = self.platform.pool().environments.clone();
        environments.retain(|environment| environment.state() != State::Gone);
        environments
    }

    /// The newest environment, `None` if there is none.
    #[must_use]
    pub fn environment(&self) -> Option<Arc<Environment>> {
        self.environments().pop()
    }

    /// Log with the START, END and REPORT lines and the output of all processes, as `CloudWatch`
    /// shows it.
    #[must_use]
    pub fn log(&self) -> &LogCapture {
        &self.platform.ledger.log
    }

    /// Reports of all ended invocations, in order of their end.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.platform.ledger.reports.all()
    }

    /// Waits until `count` invocations have ended, and returns all reports.
    ///
    /// # Errors
    /// [`NotSeen`] if fewer have ended within [`crate::WAIT_LIMIT`].
    pub async fn wait_for_reports(&self, count: usize) -> Result<Vec<Report>, NotSeen> {
        let wanted = format!("{count} reports");
        let reports = &self.platform.ledger.reports;
        reports
            .wait_until(&wanted, |reports| reports.len() >= count)
            .await
    }

    /// Shuts down every environment, with SHUTDOWN and 2 s, and returns the complete log.
    pub async fn shutdown(&self) -> LogCapture {
        let environments = self.environments();
        let ends = environments
            .iter()
            .map(|environment| environment.shutdown(ShutdownReason::Spindown));
        // An error means that the environment was already shut down.
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

    /// Reserves capacity for an invocation in an environment.
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
                    // The sender is owned by `self`.
                    let _ = stirred.changed().await;
                }
            }
        }
    }

    fn find(&self) -> Place {
        let mut pool = self.pool();
        pool.environments
            .retain(|environment| environment.state() != State::Gone);
        // Counted before reserving: an environment that ends its invocation in between has capacity
        // by now, and one that ends it later wakes all waiters.
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
            // The only environment is being replaced: the invocation waits for the new one.
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

/// Counts one invocation that waits for an environment.
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

/// Value of X-Ray's header for an invocation that is not sampled.
fn new_trace() -> String {
    let root = Uuid::new_v4().simple().to_string();
    let parent = Uuid::new_v4().simple().to_string();
    let (time, rest) = root.split_at(8);
    format!(
        "Root=1-{time}-{rest};Parent={};Sampled=0",
        parent.get(..16).unwrap_or_default()
    )
}
