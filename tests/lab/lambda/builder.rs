//! Configuration of a function.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::{Clock, Function, INIT_LIMIT, LambdaError};

/// Default of `AWS_LAMBDA_INITIALIZATION_TYPE`.
pub(super) const ON_DEMAND: &str = "on-demand";
/// Name of every function of the lab, unless its variables have another.
pub(super) const FUNCTION: &str = "lab";
/// Initialization type of an environment that becomes a snapshot.
pub(super) const SNAP_START: &str = "snap-start";
const MANAGED_INSTANCES: &str = "lambda-managed-instances";

/// Configuration of a function with Lambda's defaults: a timeout of 3 s, 128 MB, the handler
/// `bootstrap`, 10 s of Init. Memory and CPU are unlimited by default.
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
    pub(super) max_environments: usize,
    pub(super) idle_limit: Option<Duration>,
    pub(super) managed_instances: Option<u32>,
    pub(super) freeze_when_idle: bool,
    pub(super) initialization_type: String,
    pub(super) limit_resources: bool,
    pub(super) xray_daemon: Option<String>,
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
            max_environments: 10,
            idle_limit: None,
            managed_instances: None,
            freeze_when_idle: true,
            initialization_type: ON_DEMAND.into(),
            limit_resources: false,
            xray_daemon: None,
            echo: false,
        }
    }

    /// Returns the name of the function.
    pub(super) fn function_name(&self) -> &str {
        let name = self.variables.get("AWS_LAMBDA_FUNCTION_NAME");
        name.map_or(FUNCTION, String::as_str)
    }

    /// Sets a variable of the function's configuration, visible to function and extensions.
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

    /// Sets the function's timeout.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the function's memory size, in MB.
    #[must_use]
    pub fn memory_mb(mut self, megabytes: u32) -> Self {
        self.memory_mb = megabytes;
        self
    }

    /// Sets the function's handler, which the runtime gets as `_HANDLER`.
    #[must_use]
    pub fn handler(mut self, handler: impl Into<String>) -> Self {
        self.handler = handler.into();
        self
    }

    /// Gives the `/tmp` of an earlier environment to the first environment.
    #[must_use]
    pub fn tmp(mut self, tmp: Arc<TempDir>) -> Self {
        self.tmp = Some(tmp);
        self
    }

    /// Limits `/tmp` to a size in MB; requires root.
    #[must_use]
    pub fn tmp_mb(mut self, megabytes: u32) -> Self {
        self.tmp_mb = Some(megabytes);
        self
    }

    /// Sets the maximum duration of Init on demand, instead of [`INIT_LIMIT`].
    #[must_use]
    pub fn init_limit(mut self, limit: Duration) -> Self {
        self.init_limit = Some(limit);
        self
    }

    /// Sets the behaviour of the clocks while an environment is frozen.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the maximum number of concurrent environments.
    #[must_use]
    pub fn max_environments(mut self, most: usize) -> Self {
        self.max_environments = most;
        self
    }

    /// Sets the idle time after which an environment is removed. Time passed by
    /// [`super::Environment::let_pass`] counts.
    #[must_use]
    pub fn idle_limit(mut self, limit: Option<Duration>) -> Self {
        self.idle_limit = limit;
        self
    }

    /// Emulates Lambda Managed Instances with this concurrency: one environment, created at the
    /// start and never frozen.
    #[must_use]
    pub fn managed_instances(mut self, concurrency: u32) -> Self {
        self.managed_instances = Some(concurrency);
        self.initialization_type = MANAGED_INSTANCES.into();
        self
    }

    /// Emulates `SnapStart`: the first environment is created at the start, and frozen at the end of
    /// Init. The first invocation, or [`super::Environment::restore`], restores it.
    #[must_use]
    pub fn snap_start(self) -> Self {
        self.initialization_type(SNAP_START)
    }

    /// Enables freezing when all processes have called `next`, as on Lambda.
    #[must_use]
    pub fn freeze_when_idle(mut self, freeze: bool) -> Self {
        self.freeze_when_idle = freeze;
        self
    }

    /// Sets `AWS_LAMBDA_INITIALIZATION_TYPE`: `on-demand`, `provisioned-concurrency` or
    /// `snap-start`. Any type
    /// but `on-demand` creates its first environment at the start, without a limit of Init.
    #[must_use]
    pub fn initialization_type(mut self, kind: impl Into<String>) -> Self {
        self.initialization_type = kind.into();
        self
    }

    /// Enforces the memory and CPU of the memory size. Where that is not possible the log gives the
    /// reason, and environments run without limits.
    #[must_use]
    pub fn limit_resources(mut self, limit: bool) -> Self {
        self.limit_resources = limit;
        self
    }

    /// Sets the address of the X-Ray daemon, `IP:PORT`, which only the function's process gets. By default nothing
    /// listens on it.
    #[must_use]
    pub fn xray_daemon(mut self, address: impl Into<String>) -> Self {
        self.xray_daemon = Some(address.into());
        self
    }

    /// Also prints the log's lines to the terminal.
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.echo = true;
        self
    }

    /// Makes the function ready for invocations. On demand nothing runs before the first
    /// invocation.
    ///
    /// # Errors
    /// [`LambdaError`] if the first environment must be created now and cannot be.
    pub async fn start(self) -> Result<Function, LambdaError> {
        Function::start(self).await
    }
}
