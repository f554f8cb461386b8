//! ONNX Runtime in a Python process, as in the tutorials' functions: `growth.py`, one command a line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::inference::contenders::InferenceArtifacts;
use crate::inference::subject::Subject;

/// The process.
pub(super) struct Python {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Python {
    /// Starts the process with one session of the model.
    pub(super) fn start(artifacts: &InferenceArtifacts, subject: &Subject) -> Result<Self> {
        let mut child = Command::new(artifacts.python())
            .arg(artifacts.script("growth.py"))
            .arg(subject.file())
            .arg(subject.numbers())
            .env("PYTHONPATH", artifacts.packages())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start Python")?;
        let commands = child.stdin.take().context("no input")?;
        let answers = BufReader::new(child.stdout.take().context("no output")?);
        let mut python = Self {
            child,
            commands,
            answers,
        };
        python.command("ready")?;
        Ok(python)
    }

    pub(super) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Median time of a request in this form, in microseconds.
    pub(super) fn median(&mut self, form: &str, rows: usize, calls: usize) -> Result<f64> {
        self.command(&format!("{form} {rows} {calls}"))
    }

    /// Loads the model until there are this many sessions, and runs each once.
    pub(super) fn load(&mut self, models: usize) -> Result<f64> {
        self.command(&format!("load {models}"))
    }

    fn command(&mut self, command: &str) -> Result<f64> {
        writeln!(self.commands, "{command}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        match line.trim().parse() {
            Ok(number) => Ok(number),
            Err(_) => bail!("unexpected output of growth.py to {command}: {line:?}"),
        }
    }
}
