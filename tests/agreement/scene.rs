//! A case on a stage: its actors laid out as a layer and a function, run on either platform, and
//! the traces that come of it.

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

use crate::normal::normal;
use crate::script::{Step, file_of, trace_of};

/// The name under which the caller's side of a case stands among the traces.
pub(crate) const CALLER: &str = "caller";

/// One situation: who is on the stage, and what the caller asks.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    extensions: Vec<(&'static str, Vec<Step>)>,
    function: Vec<Step>,
    invocations: Vec<Value>,
    timeout_seconds: u32,
    managed: Option<u32>,
}

impl Case {
    /// A case without extensions whose function answers every event.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            extensions: Vec::new(),
            function: crate::acts::runtime(),
            invocations: Vec::new(),
            // So long that a slow machine doesn't reach it.
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

    /// On managed instances, with so many invocations at once.
    pub(crate) fn managed(mut self, concurrency: u32) -> Self {
        self.managed = Some(concurrency);
        self
    }

    /// The reason why a user without root rights cannot run the case, if there is one.
    pub(crate) fn needs_root(&self) -> Option<&'static str> {
        self.managed
            .map(|_| "RIE runs a managed instance's processes as other users")
    }
}

/// What each of a case's actors and its caller saw: their names, and their lines.
pub(crate) type Traces = BTreeMap<String, String>;

/// A case's folders.
pub(crate) struct Stage<'a> {
    case: &'a Case,
    root: TempDir,
    tmp: Arc<TempDir>,
}

impl<'a> Stage<'a> {
    pub(crate) fn set(case: &'a Case) -> anyhow::Result<Self> {
        // Everybody's, as on Lambda: on managed instances RIE runs the processes as another user.
        let tmp = tempfile::Builder::new().prefix("lab").tempdir()?;
        std::fs::set_permissions(tmp.path(), Permissions::from_mode(0o1777))?;
        let stage = Self {
            case,
            root: tempfile::tempdir()?,
            tmp: Arc::new(tmp),
        };
        let (layer, function) = (stage.layer(), stage.function());
        for folder in [&layer.join("extensions"), &layer.join("scripts"), &function] {
            std::fs::create_dir_all(folder)?;
        }
        for (name, steps) in &case.extensions {
            actor(&layer.join("extensions").join(name))?;
            let script = layer.join("scripts").join(file_of(name));
            std::fs::write(script, serde_json::to_vec(steps)?)?;
        }
        actor(&function.join("bootstrap"))?;
        let script = function.join(file_of("bootstrap"));
        std::fs::write(script, serde_json::to_vec(&case.function)?)?;
        Ok(stage)
    }

    fn layer(&self) -> PathBuf {
        self.root.path().join("layer")
    }

    fn function(&self) -> PathBuf {
        self.root.path().join("function")
    }

    /// Plays the case under AWS's emulator.
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
            caller.saw(event, answer.status.as_u16(), error, &answer.text());
        }
        self.worker_waits().await?;
        lambda.shutdown().await?;
        Ok(self.traces(&caller))
    }

    /// Plays the case on the lab's platform.
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
            caller.saw(event, answer.status.as_u16(), error, &answer.text());
        }
        // Callers have their answers early: what comes after belongs to the traces too.
        lambda.wait_for_reports(case.invocations.len()).await?;
        self.worker_waits().await?;
        lambda.shutdown().await;
        Ok(self.traces(&caller))
    }

    /// On managed instances an invocation is over with its answer. Waits until the runtime has heard that its answer
    /// was taken, and calls `next` again.
    async fn worker_waits(&self) -> anyhow::Result<()> {
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
        let mut traces = Traces::from([(CALLER.to_owned(), normal(&caller.lines))]);
        let extensions = self.case.extensions.iter().map(|(name, _)| *name);
        for name in extensions.chain(["bootstrap"]) {
            // One that was never started has written nothing.
            let trace = std::fs::read_to_string(self.tmp.path().join(trace_of(name)));
            traces.insert(name.to_owned(), normal(&trace.unwrap_or_default()));
        }
        traces
    }
}

#[derive(Default)]
struct Caller {
    lines: String,
}

impl Caller {
    fn saw(&mut self, event: &Value, status: u16, error: Option<String>, body: &str) {
        let error = error.map_or(String::new(), |error| format!(" [error: {error}]"));
        let line = format!("> {event}\n< {status}{error} {body}");
        self.lines.push_str(line.trim_end());
        self.lines.push('\n');
    }
}

/// Lays an actor's program, by a process of its own: a file that this one has open for writing,
/// another test's thread can hand down to a process that it starts at that moment, and the file
/// cannot be run as long as that one has it.
fn actor(path: &Path) -> anyhow::Result<()> {
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
