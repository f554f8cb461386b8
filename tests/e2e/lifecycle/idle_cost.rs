//! With nothing due the sidecar does nothing: at an invocation no system call but those by which it
//! reads the event and asks for the next, and those of serving where it is called; between
//! invocations, where it is not frozen, none at all.
//!
//! Invocations are counted by strace, which knows nothing of the sidecar's insides. It wakes whom it
//! attaches to, so that sleep is shown by the kernel's own counters instead: a thread that has had no
//! turn on a CPU has made no call.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use lab::lambda::{Function, State};
use lab::s3::S3Server;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

use crate::support::{BUCKET, KEY, features, s3_with, until};

/// Invocations in a row.
const MANY: usize = 100;

/// What may be called how often in [`MANY`] invocations.
type Bounds = [(&'static str, usize)];

/// The event comes in one piece, the call of `next` goes out in one. The runtime's thread waits for
/// the event, and looks once more whether anything else has come when it has asked for the next.
const NEXT: &Bounds = &[
    ("recvfrom", MANY),
    ("writev", MANY),
    ("epoll_wait", 2 * MANY),
];

/// The same for a request besides. A run that was slow the last time is handed to another thread and back: one is woken,
/// the other waits again (`futex`), and the server's thread is told by writing to a descriptor of its own. Two threads
/// that meet at a queue let each other pass (`sched_yield`), and a heap grows by pages until it has its size. After a run
/// that took long, the sidecar reads how much memory it has (`statx` to `close`).
const SERVING: &Bounds = &[
    ("recvfrom", 2 * MANY),
    ("writev", 2 * MANY),
    ("epoll_wait", 4 * MANY),
    ("futex", 3 * MANY),
    ("write", MANY),
    ("sched_yield", MANY / 10),
    ("mprotect", MANY / 10),
    ("statx", MANY / 10),
    ("openat", MANY / 10),
    ("read", MANY / 5),
    ("close", MANY / 10),
];

/// A function with a model, and nothing due for a day.
fn at_rest(s3: &S3Server, function: &Path) -> lab::lambda::Builder {
    Function::of(lab::artifacts::layer().unwrap(), function)
        .envs(s3.env())
        .env("MODEL_URI", format!("s3://{BUCKET}/{KEY}"))
        .env("MODEL_PORT", "0")
        .env("MODEL_REFRESH_INTERVAL", "24h")
        .env("MODEL_METRICS", "emf")
        .env("MODEL_METRICS_INTERVAL", "24h")
        .timeout(Duration::from_secs(30))
        .max_environments(1)
        .freeze_when_idle(false)
}

/// The staged function, which has the sidecar predict.
fn calls_the_sidecar() -> PathBuf {
    lab::artifacts::function().unwrap()
}

/// The lab's probe as a function, which calls no sidecar.
fn calls_nobody() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut install = Command::new("install");
    install
        .args(["-m", "755", env!("CARGO_BIN_EXE_probe")])
        .arg(folder.path().join("bootstrap"));
    assert!(install.status().unwrap().success());
    folder
}

/// Invokes the function [`MANY`] times.
async fn invoke(function: &Function, event: &Value) {
    for _ in 0..MANY {
        function.answer(event).await.unwrap();
    }
    let environment = function.environment().unwrap();
    environment.wait_until(State::Idle).await.unwrap();
}

/// The process id of the function's sidecar.
fn sidecar(function: &Function) -> i32 {
    let pids = function.environment().unwrap().processes("model-sidecar");
    let [pid] = pids.as_slice() else {
        panic!("one sidecar: {pids:?}");
    };
    *pid
}

/// What a file in `/proc` says of each thread of a process.
fn threads(pid: i32, file: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    // One may end while it is looked at.
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join(file)).ok())
        .collect()
}

/// Whether a thread is in a system call that time does not end. Of both that there are, `epoll_wait`
/// and `futex`, it is the fourth argument: -1 and no address.
fn waits_for_ever(syscall: &str) -> bool {
    let limit = syscall.split_whitespace().nth(4).unwrap_or_default();
    limit == "0x0" || limit.ends_with("ffffffff")
}

/// Waits until nothing but an event can make the sidecar do anything: connections that S3 would have
/// closed are closed, and threads that nobody needs are gone.
async fn settled(pid: i32) {
    until("every thread waits without a limit", || {
        threads(pid, "syscall")
            .iter()
            .all(|one| waits_for_ever(one))
    })
    .await;
}

/// How often each thread has been given a CPU.
fn turns(pid: i32) -> Vec<String> {
    let statuses = threads(pid, "status").into_iter();
    statuses
        .map(|status| {
            let lines = status.lines();
            let turns: Vec<&str> = lines
                .filter(|line| line.contains("ctxt_switches"))
                .collect();
            turns.join(" ")
        })
        .collect()
}

/// The system calls of a process, written down by strace from here on.
struct Strace {
    child: Child,
    file: NamedTempFile,
    /// It tells of each thread that begins, and would end where nobody could hear it.
    stderr: BufReader<ChildStderr>,
}

impl Strace {
    /// `None`, having said why, where strace is missing or may not trace.
    fn attach(pid: i32) -> Option<Self> {
        let file = NamedTempFile::new().unwrap();
        let mut command = Command::new("strace");
        command.args(["-f", "-o"]).arg(file.path());
        command.args(["-p", &pid.to_string()]);
        let mut child = match command.stderr(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => {
                eprintln!("left out: strace cannot be started: {error}");
                return None;
            }
        };
        let mut said = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut said).unwrap();
        if !said.contains("attached") {
            eprintln!("left out: {said}");
            child.wait().unwrap();
            return None;
        }
        Some(Self {
            child,
            file,
            stderr,
        })
    }

    /// Ends it. How often each system call was made.
    fn end(mut self) -> BTreeMap<String, usize> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
        drop(self.stderr);
        counts(self.file.path())
    }
}

/// `PID NAME(…`; a call that another thread's interrupts is said to be resumed in a second line.
fn counts(trace: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(trace).unwrap().lines() {
        let Some((_, call)) = line.split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        match call.split_once('(') {
            Some((name, _)) if !call.starts_with("<...") => {
                *counts.entry(name.to_owned()).or_default() += 1;
            }
            _ => {}
        }
    }
    counts
}

/// Counts the sidecar's system calls in [`MANY`] invocations, and holds them against the bounds.
async fn assert_calls_only(function: &Function, event: &Value, bounds: &Bounds) {
    invoke(function, event).await;
    let pid = sidecar(function);
    settled(pid).await;
    // Whatever begins again by being used, such as a thread for the runs, has begun.
    invoke(function, event).await;
    let attached = threads(pid, "comm").len();
    let Some(strace) = Strace::attach(pid) else {
        return;
    };
    invoke(function, event).await;
    let mut calls = strace.end();
    eprintln!("system calls in {MANY} invocations: {calls:?}");
    // strace interrupts each thread's once, when it attaches.
    let restarts = calls.remove("restart_syscall").unwrap_or_default();
    assert!(restarts <= attached, "{restarts} calls resumed");
    for (name, count) in &calls {
        let name = name.replace("epoll_pwait", "epoll_wait");
        let bound = bounds.iter().find(|(allowed, _)| *allowed == name);
        let bound = bound
            .unwrap_or_else(|| panic!("{name} is called: {calls:?}"))
            .1;
        // And twice more, what strace makes a thread repeat.
        assert!(*count <= bound + 2 * attached, "{name}: {calls:?}");
    }
    let writes = calls.get("writev").copied().unwrap_or_default();
    assert!(writes >= MANY, "not all was seen: {calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_costs_no_system_call_but_those_for_next() {
    let s3 = s3_with("wine-v1.onnx").await;
    let folder = calls_nobody();
    let function = at_rest(&s3, folder.path()).start().await.unwrap();
    assert_calls_only(&function, &json!({}), NEXT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_costs_only_what_it_takes_to_serve_it() {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = at_rest(&s3, &calls_the_sidecar()).start().await.unwrap();
    assert_calls_only(&function, &features(9), SERVING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn between_invocations_no_thread_wakes() {
    let s3 = s3_with("wine-v1.onnx").await;
    // So that ONNX Runtime has a thread of its own, too.
    let function = at_rest(&s3, &calls_the_sidecar())
        .env("MODEL_THREADS", "2")
        .start()
        .await
        .unwrap();
    invoke(&function, &features(100)).await;
    let pid = sidecar(&function);
    settled(pid).await;
    let before = turns(pid);
    assert_eq!(
        before.len(),
        4,
        "the sidecar's own, the server's, the model's and ONNX Runtime's"
    );

    // Meanwhile others work.
    let (folder, layer) = (calls_nobody(), tempfile::tempdir().unwrap());
    let other = Function::of(layer.path(), folder.path())
        .start()
        .await
        .unwrap();
    invoke(&other, &json!({})).await;
    assert_eq!(turns(pid), before);

    function.answer(&features(9)).await.unwrap();
    assert_ne!(turns(pid), before, "an invocation does wake it");
}
