//! The command `lab`, as a user runs it: the real program, `lab serve` in one process and the other
//! commands against it.

mod dashboard;
mod runtimes;
mod serving;
mod wrong;

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};

use http::Request;
use lab::WAIT_LIMIT;
use lab::http::{Client, HttpResponse};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Path of invocations.
const INVOKE: &str = "/2015-03-31/functions/function/invocations";

/// A running `lab serve`, killed when dropped.
struct Served {
    child: Child,
    port: u16,
    out: Lines,
}

/// Lines of a stream so far.
type Lines = watch::Receiver<Vec<String>>;

impl Served {
    /// Starts it with these arguments, on a free port, and waits until it listens.
    async fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.args(["serve", "--port", "0"]).args(arguments);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let out = follow(child.stdout.take().unwrap());
        let err = follow(child.stderr.take().unwrap());
        let listening = wait_for(&err, "listening on 127.0.0.1:").await;
        let (_, rest) = listening.split_once("127.0.0.1:").unwrap();
        let (port, _) = rest.split_once(';').unwrap();
        let port = port.parse().unwrap();
        Self { child, port, out }
    }

    async fn invoke(&self, event: &str) -> HttpResponse {
        self.invoke_with(event, &[]).await
    }

    async fn invoke_with(&self, event: &str, headers: &[(&str, &str)]) -> HttpResponse {
        let mut request = Request::post(INVOKE);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(event.to_owned().into()).unwrap();
        Client::tcp(self.port).send(request).await.unwrap()
    }

    /// Runs another command against it.
    async fn command(&self, arguments: &[&str]) -> Output {
        let port = self.port.to_string();
        lab(&[arguments, &["--port", &port]].concat()).await
    }

    /// Like [`Self::command`], for a command that must succeed: returns its output.
    async fn done(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(WAIT_LIMIT, self.child.wait());
        ended.await.unwrap().unwrap()
    }
}

/// Runs a command to its end.
async fn lab(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    let output = command.args(arguments).kill_on_drop(true).output();
    tokio::time::timeout(WAIT_LIMIT, output)
        .await
        .unwrap()
        .unwrap()
}

fn follow(stream: impl AsyncRead + Unpin + Send + 'static) -> Lines {
    let (sender, receiver) = watch::channel(Vec::new());
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            sender.send_modify(|lines| lines.push(line));
        }
    });
    receiver
}

/// Waits for a line with the text.
async fn wait_for(lines: &Lines, text: &str) -> String {
    let mut lines = lines.clone();
    let find = |lines: &Vec<String>| lines.iter().find(|line| line.contains(text)).cloned();
    let wait = lines.wait_for(|lines| find(lines).is_some());
    let found = tokio::time::timeout(WAIT_LIMIT, wait).await;
    let found = found
        .ok()
        .and_then(|found| found.ok().and_then(|lines| find(&lines)));
    found.unwrap_or_else(|| {
        panic!(
            "no line with {text:?} among:\n{}",
            lines.borrow().join("\n")
        )
    })
}

/// A layer and a function made of the probe.
struct Folders {
    root: TempDir,
}

impl Folders {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (layer, function) = (
            root.path().join("layer/extensions"),
            root.path().join("function"),
        );
        std::fs::create_dir_all(&layer).unwrap();
        std::fs::create_dir_all(&function).unwrap();
        for to in [layer.join("probe-extension"), function.join("bootstrap")] {
            copy(env!("CARGO_BIN_EXE_probe").as_ref(), &to);
        }
        Self { root }
    }

    fn layer(&self) -> String {
        self.root.path().join("layer").display().to_string()
    }

    fn function(&self) -> String {
        self.root.path().join("function").display().to_string()
    }

    async fn serve(&self, more: &[&str]) -> Served {
        let (layer, function) = (self.layer(), self.function());
        let folders = ["--layer", &layer, "--function", &function];
        Served::start(&[&folders, more].concat()).await
    }
}

/// Copies in a child process. Another test's thread could start a process while this one has the
/// file open for writing. That process would inherit the open file, and the file could not be
/// executed.
fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .args(["-R"])
        .arg(from)
        .arg(to)
        .status();
    assert!(status.unwrap().success());
}

fn workspace(path: &str) -> PathBuf {
    lab::artifacts::workspace().join(path)
}
