//! Configuration of an execution environment under RIE, and its sandbox.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::Mutex;

use super::{ExecutionEnvironment, RieError};
use crate::artifacts;
use crate::bubblewrap;
use crate::child::Child;
use crate::http::Client;
use crate::ports::Port;

/// Name of RIE's process inside.
pub(super) const RIE: &str = "rie";

/// Configuration of an execution environment with Lambda's defaults: a timeout of 3 s, 128 MB
/// (which RIE reports and does not enforce), the handler `bootstrap`.
#[derive(Debug)]
pub struct Builder {
    layer: PathBuf,
    function: PathBuf,
    variables: BTreeMap<String, String>,
    timeout_seconds: u32,
    memory_mb: u32,
    handler: String,
    tmp: Option<Arc<TempDir>>,
    rie: Option<PathBuf>,
    echo: bool,
}

impl Builder {
    pub(super) fn new(layer: &Path, function: &Path) -> Self {
        Self {
            layer: layer.to_owned(),
            function: function.to_owned(),
            variables: BTreeMap::new(),
            timeout_seconds: 3,
            memory_mb: 128,
            handler: "bootstrap".into(),
            tmp: None,
            rie: None,
            echo: false,
        }
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

    /// Sets the function's timeout, in whole seconds.
    #[must_use]
    pub fn timeout_seconds(mut self, seconds: u32) -> Self {
        self.timeout_seconds = seconds;
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

    /// Reuses the `/tmp` of an earlier environment.
    #[must_use]
    pub fn tmp(mut self, tmp: Arc<TempDir>) -> Self {
        self.tmp = Some(tmp);
        self
    }

    /// Replaces the RIE that `make rie` fetches.
    #[must_use]
    pub fn rie(mut self, program: impl AsRef<Path>) -> Self {
        self.rie = Some(program.as_ref().to_owned());
        self
    }

    /// Also prints the log's lines to the terminal.
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.echo = true;
        self
    }

    /// Starts RIE in a sandbox, and returns when it listens.
    ///
    /// # Errors
    /// [`RieError`] if an artifact is missing, or RIE does not start.
    pub async fn start(self) -> Result<ExecutionEnvironment, RieError> {
        let tmp = match &self.tmp {
            Some(tmp) => Arc::clone(tmp),
            None => Arc::new(new_tmp()?),
        };
        let ports = [Port::lease()?, Port::lease()?];
        let command = self.command(tmp.path(), &ports)?;
        let child = Child::spawn(command, "lambda", self.echo).map_err(|source| RieError::Io {
            what: "start bwrap",
            source,
        })?;
        let environment = ExecutionEnvironment {
            child,
            client: Client::tcp(ports[0].number()),
            one_at_a_time: Mutex::new(()),
            tmp,
            ports,
        };
        environment.wait_ready().await?;
        Ok(environment)
    }

    fn command(&self, tmp: &Path, [invoke, api]: &[Port; 2]) -> Result<Command, RieError> {
        let rie = match &self.rie {
            Some(rie) => rie.clone(),
            None => artifacts::rie()?,
        };
        let mut command = Command::new(bubblewrap::program().ok_or(RieError::NoBubblewrap)?);
        command.env_clear();
        command.args(["--die-with-parent", "--unshare-pid", "--unshare-ipc"]);
        command.args(["--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc"]);
        command.args([
            "--symlink",
            "usr/bin",
            "/bin",
            "--symlink",
            "usr/lib",
            "/lib",
        ]);
        command.args(["--symlink", "usr/lib64", "/lib64"]);
        command.args(["--proc", "/proc", "--dev", "/dev"]);
        command.arg("--bind").arg(tmp).arg("/tmp");
        command.arg("--ro-bind").arg(&self.layer).arg("/opt");
        // bwrap would create it for root alone; for managed instances RIE runs a function as
        // another user.
        command.args(["--perms", "0755", "--dir", "/var"]);
        command
            .arg("--ro-bind")
            .arg(&self.function)
            .arg("/var/task");
        command.arg("--ro-bind").arg(rie).arg(format!("/{RIE}"));
        command.args(["--chdir", "/", "--clearenv"]);
        for (name, value) in self.environment() {
            command.arg("--setenv").arg(name).arg(value);
        }
        command.arg(format!("/{RIE}"));
        command.arg("--runtime-interface-emulator-address");
        command.arg(format!("127.0.0.1:{}", invoke.number()));
        command.arg("--runtime-api-address");
        command.arg(format!("127.0.0.1:{}", api.number()));
        Ok(command)
    }

    /// Variables for RIE, which it passes on; those that the test sets come last and override.
    fn environment(&self) -> BTreeMap<String, String> {
        let mut environment: BTreeMap<String, String> = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin:/opt/bin".to_owned()),
            ("LAMBDA_TASK_ROOT", "/var/task".to_owned()),
            ("_HANDLER", self.handler.clone()),
            ("TZ", ":UTC".to_owned()),
            ("AWS_LAMBDA_FUNCTION_NAME", "lab".to_owned()),
            (
                "AWS_LAMBDA_FUNCTION_TIMEOUT",
                self.timeout_seconds.to_string(),
            ),
            (
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
                self.memory_mb.to_string(),
            ),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        environment.extend(self.variables.clone());
        environment
    }
}

fn new_tmp() -> Result<TempDir, RieError> {
    // Short, because tests may open a Unix socket in it, whose path has 108 bytes at most.
    let tmp = tempfile::Builder::new().prefix("lab").tempdir();
    tmp.map_err(|source| RieError::Io {
        what: "create a folder for /tmp",
        source,
    })
}
