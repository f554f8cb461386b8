//! What a function is made of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::{Clock, Function, INIT_LIMIT, LambdaError};

/// `AWS_LAMBDA_INITIALIZATION_TYPE` as it is unless something else is asked for.
pub(super) const ON_DEMAND: &str = "on-demand";
const MANAGED_INSTANCES: &str = "lambda-managed-instances";

/// How to run a function. As it is, it has Lambda's own defaults: 3 s an invocation, 128 MB, the
/// handler `bootstrap`, 10 s of Init; memory and CPU are not limited.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(super) layer: PathBuf,
    pub(super) function: PathBuf,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) timeout: Duration,
    pub(super) memory_mb: u32,
    pub(super) handler: String,
    pub(super) tmp: Option<Arc<TempDir>>,
    pub(super) tmp_mb: Option<u32>,
    pub(super) init_limit: Option<Duration>,
    pub(super) clock: Clock,
    pub(super) most_environments: usize,
    pub(super) idle_limit: Option<Duration>,
    pub(super) managed_instances: Option<u32>,
    pub(super) freeze_when_idle: bool,
    pub(super) initialization_type: String,
    pub(super) limit_resources: bool,
    pub(super) echo: bool,
}

impl Builder {
    pub(super) fn new(layer: &Path, function: &Path) -> Self {
        Self {
            layer: layer.to_owned(),
            function: function.to_owned(),
            variables: BTreeMap::new(),
            timeout: Duration::from_secs(3),
            memory_mb: 128,
            handler: "bootstrap".into(),
            tmp: None,
            tmp_mb: None,
            init_limit: Some(INIT_LIMIT),
            clock: Clock::Real,
            most_environments: 10,
            idle_limit: None,
            managed_instances: None,
            freeze_when_idle: true,
            initialization_type: ON_DEMAND.into(),
            limit_resources: false,
            echo: false,
        }
    }

    /// Sets a variable of the function's configuration; function and extensions see it.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Sets several variables.
    #[must_use]
    pub fn envs<N: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        for (name, value) in variables {
            self.variables.insert(name.into(), value.into());
        }
        self
    }

    /// The function's timeout.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The function's memory size, in MB.
    #[must_use]
    pub fn memory_mb(mut self, megabytes: u32) -> Self {
        self.memory_mb = megabytes;
        self
    }

    /// The function's handler setting, which `_HANDLER` tells the runtime.
    #[must_use]
    pub fn handler(mut self, handler: impl Into<String>) -> Self {
        self.handler = handler.into();
        self
    }

    /// Takes the `/tmp` of an earlier environment for the first one.
    #[must_use]
    pub fn tmp(mut self, tmp: Arc<TempDir>) -> Self {
        self.tmp = Some(tmp);
        self
    }

    /// Gives `/tmp` a size, in MB; takes root.
    #[must_use]
    pub fn tmp_mb(mut self, megabytes: u32) -> Self {
        self.tmp_mb = Some(megabytes);
        self
    }

    /// How long Init may take on demand, in place of [`INIT_LIMIT`].
    #[must_use]
    pub fn init_limit(mut self, limit: Duration) -> Self {
        self.init_limit = Some(limit);
        self
    }

    /// What the clocks do while an environment is frozen.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How many environments there may be at once.
    #[must_use]
    pub fn most_environments(mut self, most: usize) -> Self {
        self.most_environments = most;
        self
    }

    /// After what time without an invocation an environment is taken away. Time that
    /// [`super::Environment::let_pass`] lets pass counts.
    #[must_use]
    pub fn idle_limit(mut self, limit: Option<Duration>) -> Self {
        self.idle_limit = limit;
        self
    }

    /// Runs it on Lambda Managed Instances, with so many invocations at once: one environment,
    /// made at the start, never frozen.
    #[must_use]
    pub fn managed_instances(mut self, concurrency: u32) -> Self {
        self.managed_instances = Some(concurrency);
        self.initialization_type = MANAGED_INSTANCES.into();
        self
    }

    /// Whether an environment is frozen when all in it have called `next`, as on Lambda.
    #[must_use]
    pub fn freeze_when_idle(mut self, freeze: bool) -> Self {
        self.freeze_when_idle = freeze;
        self
    }

    /// `AWS_LAMBDA_INITIALIZATION_TYPE`, `on-demand` or `provisioned-concurrency`. Anything but
    /// `on-demand` has its first environment made at the start, and no limit to its Init.
    #[must_use]
    pub fn initialization_type(mut self, kind: impl Into<String>) -> Self {
        self.initialization_type = kind.into();
        self
    }

    /// Gives environments the memory and CPU of the memory size, and no more. Where that is not
    /// possible the log says why, and they run without limits.
    #[must_use]
    pub fn limit_resources(mut self, limit: bool) -> Self {
        self.limit_resources = limit;
        self
    }

    /// Prints the log's lines as they come, too.
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.echo = true;
        self
    }

    /// Makes the function ready for invocations. On demand nothing runs before the first one.
    ///
    /// # Errors
    /// [`LambdaError`] when the first environment is to be made now and cannot be.
    pub async fn start(self) -> Result<Function, LambdaError> {
        Function::start(self).await
    }
}
