//! A case: its actors, installed as a layer and a function, its run on either platform, and the traces.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use lab::lambda::Function;
use lab::rie::ExecutionEnvironment;
use serde_json::Value;
use tempfile::TempDir;

use crate::normalize::normalize;
use lab::script::{Step, file_of, trace_of};

/// Name of the caller's trace.
pub(crate) const CALLER: &str = "caller";

/// Actors and invocations to compare.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    extensions: Vec<(&'static str, Vec<Step>)>,
    function: Vec<Step>,
    invocations: Vec<Value>,
    timeout_seconds: u32,
    managed: Option<u32>,
}

impl Case {
    /// Returns a case without extensions, whose function responds to every event.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            extensions: Vec::new(),
            function: crate::steps::runtime(),
            invocations: Vec::new(),
            // Long enough for a slow machine.
            timeout_seconds: 60,
            managed: None,
        }
    }

    pub(crate) fn extension(mut self, name: &'static str, steps: Vec<Step>) -> Self {
        self.extensions.push((name, steps));
        self
    }

    pub(crate) fn function(mut self, steps: Vec<Step>) -> Self {
        self.function = steps;
        self
    }

    pub(crate) fn invoke(mut self, event: Value) -> Self {
        self.invocations.push(event);
        self
    }

    pub(crate) fn timeout_seconds(mut self, seconds: u32) -> Self {
        self.timeout_seconds = seconds;
        self
    }

    /// Runs the case on managed instances with this concurrency.
    pub(crate) fn managed(mut self, concurrency: u32) -> Self {
        self.managed = Some(concurrency);
        self
    }

    /// Returns the reason if the case needs root.
    pub(crate) fn needs_root(&self) -> Option<&'static str> {
        self.managed
            .map(|_| "RIE runs a managed instance's processes as other users")
    }
}

/// Traces by the name of the actor or [`CALLER`].
pub(crate) type Traces = BTreeMap<String, String>;

/// Folders of an installed case.
pub(crate) struct Installation<'a> {
    case: &'a Case,
    root: TempDir,
    tmp: Arc<TempDir>,
}

impl<'a> Installation<'a> {
    pub(crate) fn install(case: &'a Case) -> anyhow::Result<Self> {
        // World-writable as on Lambda: on managed instances RIE runs the processes as another user.
        let tmp = tempfile::Builder::new().prefix("lab").tempdir()?;
        std::fs::set_permissions(tmp.path(), Permissions::from_mode(0o1777))?;
        let installation = Self {
            case,
            root: tempfile::tempdir()?,
            tmp: Arc::new(tmp),
        };
        let (layer, function) = (installation.layer(), installation.function());
        for folder in [&layer.join("extensions"), &layer.join("scripts"), &function] {
            std::fs::create_dir_all(folder)?;
        }
        for (name, steps) in &case.extensions {
            install_actor(&layer.join("extensions").join(name))?;
            let script = layer.join("scripts").join(file_of(name));
            std::fs::write(script, serde_json::to_vec(steps)?)?;
        }
        install_actor(&function.join("bootstrap"))?;
        let script = function.join(file_of("bootstrap"));
        std::fs::write(script, serde_json::to_vec(&case.function)?)?;
        Ok(installation)
    }

    fn layer(&self) -> PathBuf {
        self.root.path().join("layer")
    }

    fn function(&self) -> PathBuf {
        self.root.path().join("function")
    }

    /// Runs the case on AWS's emulator.
    pub(crate) async fn on_rie(&self) -> anyhow::Result<Traces> {
        let case = self.case;
        let mut builder = ExecutionEnvironment::of(self.layer(), self.function())
            .tmp(Arc::clone(&self.tmp))
            .timeout_seconds(case.timeout_seconds);
        if let Some(concurrency) = case.managed {
            builder = builder.env("AWS_LAMBDA_MAX_CONCURRENCY", concurrency.to_string());
        }
        let lambda = builder.start().await?;
        let mut caller = Caller::default();
        for event in &case.invocations {
            let answer = lambda.invoke(event).await?;
            let error = answer.function_error();
            let error = error.map(|error| error.error_type);
            caller.record(event, answer.status.as_u16(), error, &answer.text());
        }
        self.wait_for_runtime().await?;
        lambda.shutdown().await?;
        Ok(self.traces(&caller))
    }

    /// Runs the case on the lab's platform.
    pub(crate) async fn on_the_lab(&self) -> anyhow::Result<Traces> {
        let case = self.case;
        let mut builder = Function::of(self.layer(), self.function())
            .tmp(Arc::clone(&self.tmp))
            .max_environments(1)
            .timeout(Duration::from_secs(case.timeout_seconds.into()));
        if let Some(concurrency) = case.managed {
            builder = builder.managed_instances(concurrency);
        }
        let lambda = builder.start().await?;
        let mut caller = Caller::default();
        for event in &case.invocations {
            let answer = lambda.invoke(event).await;
            let error = answer.function_error();
            let error = error.map(|error| error.error_type);
            caller.record(event, answer.status.as_u16(), error, &answer.text());
        }
        // The caller gets its response before the invocation ends; the traces include the end.
        lambda.wait_for_reports(case.invocations.len()).await?;
        self.wait_for_runtime().await?;
        lambda.shutdown().await;
        Ok(self.traces(&caller))
    }

    /// Waits on managed instances until the runtime has called `next` again.
    ///
    /// There an invocation ends with its response, before the runtime's call of `response` returns.
    async fn wait_for_runtime(&self) -> anyhow::Result<()> {
        if self.case.managed.is_none() {
            return Ok(());
        }
        let path = self.tmp.path().join(trace_of("bootstrap"));
        let waits = async {
            loop {
                let trace = std::fs::read_to_string(&path).unwrap_or_default();
                let nexts = trace.matches("/runtime/invocation/next").count();
                if nexts > self.case.invocations.len() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let in_time = tokio::time::timeout(lab::WAIT_LIMIT, waits).await;
        in_time.context("the runtime did not call next again")
    }

    fn traces(&self, caller: &Caller) -> Traces {
        let mut traces = Traces::from([(CALLER.to_owned(), normalize(&caller.lines))]);
        let extensions = self.case.extensions.iter().map(|(name, _)| *name);
        for name in extensions.chain(["bootstrap"]) {
            // An actor that was never started has no trace.
            let trace = std::fs::read_to_string(self.tmp.path().join(trace_of(name)));
            traces.insert(name.to_owned(), normalize(&trace.unwrap_or_default()));
        }
        traces
    }
}

#[derive(Default)]
struct Caller {
    lines: String,
}

impl Caller {
    fn record(&mut self, event: &Value, status: u16, error: Option<String>, body: &str) {
        let error = error.map_or(String::new(), |error| format!(" [error: {error}]"));
        let line = format!("> {event}\n< {status}{error} {body}");
        self.lines.push_str(line.trim_end());
        self.lines.push('\n');
    }
}

/// Installs an actor's binary by a child process.
///
/// A file that this process has open for writing could be inherited by a process that another test starts. It could not
/// be executed while that process runs.
fn install_actor(path: &Path) -> anyhow::Result<()> {
    let program = env!("CARGO_BIN_EXE_actor");
    let status = std::process::Command::new("cp")
        .arg(program)
        .arg(path)
        .status()?;
    anyhow::ensure!(
        status.success(),
        "cp {program} {}: {status}",
        path.display()
    );
    Ok(())
}
