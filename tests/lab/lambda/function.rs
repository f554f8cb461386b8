//! A function: accepts invocations and assigns them to environments.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::Value;
use uuid::Uuid;

use super::builder::{Builder, ON_DEMAND};
use super::command::InvocationOutcome;
use super::function_state::FunctionState;
use super::machine::Event;
use super::{
    Environment, EnvironmentChange, Invocation, LambdaError, MAX_REQUEST, Report, ShutdownReason,
    State,
};
use crate::artifacts::{self, ArtifactError};
use crate::cloudwatch::Datapoint;
use crate::log_capture::LogCapture;
use crate::records::NotSeen;

/// A function that accepts invocations. Its environments' processes are killed when it is dropped.
#[derive(Debug)]
pub struct Function {
    platform: Arc<Platform>,
}

/// Environments of the function, and the assignment of invocations.
#[derive(Debug)]
struct Platform {
    builder: Builder,
    state: Arc<FunctionState>,
    made: AtomicUsize,
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    environments: Vec<Arc<Environment>>,
    /// Number of environments that are being created.
    creating: usize,
    /// Number of invocations that wait for an environment.
    waiting: usize,
}

/// Assignment of an invocation.
enum Assignment {
    Found(Arc<Environment>),
    /// A new environment must be created.
    Create,
    /// An environment is about to become free.
    Wait,
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
        let name = builder.function_name();
        let state = FunctionState::new(name, builder.echo, builder.memory_mb);
        let ahead = builder.initialization_type != ON_DEMAND;
        let function = Self {
            platform: Arc::new(Platform {
                builder,
                state: Arc::new(state),
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
        &self.platform.state.log
    }

    /// Reports of all ended invocations, in order of their end.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.platform.state.reports.all()
    }

    /// Name of the function, and the value of the dimension `FunctionName`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.platform.builder.function_name()
    }

    /// Lambda's own metrics, in the namespace `AWS/Lambda`.
    #[must_use]
    pub fn metrics(&self) -> Vec<Datapoint> {
        self.platform.state.metrics.all()
    }

    /// Changes of all environments so far, the last ones if there are many.
    #[must_use]
    pub fn history(&self) -> Vec<EnvironmentChange> {
        self.platform.state.history.all()
    }

    /// Waits until `count` invocations have ended, and returns all reports.
    ///
    /// # Errors
    /// [`NotSeen`] if fewer have ended within [`crate::WAIT_LIMIT`].
    pub async fn wait_for_reports(&self, count: usize) -> Result<Vec<Report>, NotSeen> {
        let wanted = format!("{count} reports");
        let reports = &self.platform.state.reports;
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
        let _running = self.state.metrics.run();
        loop {
            let environment = match self.place().await {
                Ok(Some(environment)) => environment,
                Ok(None) => {
                    self.state.metrics.throttled();
                    return Invocation::throttled(&id);
                }
                Err(error) => return Invocation::not_started(&id, &error.to_string()),
            };
            match environment.invoke(event.clone()).await {
                InvocationOutcome::Answered { body, failed } => {
                    return Invocation::answered(&id, body, failed);
                }
                InvocationOutcome::NotAccepted => {}
            }
        }
    }

    /// Reserves capacity for an invocation in an environment.
    async fn place(&self) -> Result<Option<Arc<Environment>>, LambdaError> {
        let mut changes = self.state.subscribe();
        let mut waits = None;
        loop {
            changes.borrow_and_update();
            match self.find() {
                Assignment::Found(environment) => return Ok(Some(environment)),
                Assignment::Create => {
                    let made = self.make().await;
                    let mut pool = self.pool();
                    pool.creating -= 1;
                    if let Ok(environment) = &made {
                        environment.reserve();
                        pool.environments.push(Arc::clone(environment));
                    }
                    drop(pool);
                    self.state.wake_waiters();
                    return made.map(Some);
                }
                Assignment::None if waits.is_none() => return Ok(None),
                Assignment::None | Assignment::Wait => {
                    waits.get_or_insert_with(|| Waits::new(self));
                    // The sender is owned by `self`.
                    let _ = changes.changed().await;
                }
            }
        }
    }

    fn find(&self) -> Assignment {
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
            return Assignment::Found(Arc::clone(free));
        }
        let most = match self.builder.managed_instances {
            Some(_) => 1,
            None => self.builder.max_environments,
        };
        let ending = |environment: &&Arc<Environment>| environment.state() == State::Ending;
        if pool.environments.len() + pool.creating < most {
            pool.creating += 1;
            return Assignment::Create;
        }
        let capacity = match self.builder.managed_instances {
            // The only environment is being replaced: the invocation waits for the new one.
            Some(each) if pool.creating > 0 || pool.environments.iter().any(|one| ending(&one)) => {
                each as usize
            }
            _ => winding_up,
        };
        if pool.waiting < capacity {
            Assignment::Wait
        } else {
            Assignment::None
        }
    }

    async fn make(&self) -> Result<Arc<Environment>, LambdaError> {
        let number = self.made.fetch_add(1, Ordering::AcqRel);
        let environment = Environment::make(&self.builder, number, &self.state).await?;
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
