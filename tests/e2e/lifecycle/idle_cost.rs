//! System calls of a sidecar with nothing due.
//!
//! An invocation costs the calls that read the event and ask for the next one, and a request costs those that serve
//! it. Between invocations an environment that is not frozen makes none.
//!
//! strace counts the calls during invocations. Attaching strace wakes threads, so idleness is measured by the context
//! switches in `/proc` instead: a thread without one has made no call.

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

/// Number of consecutive invocations.
const MANY: usize = 100;

/// Maximum number of each system call in [`MANY`] invocations.
type Bounds = [(&'static str, usize)];

/// Calls of an invocation: the event arrives in one read, and `next` is sent in one write. The runtime's thread waits
/// for the event, and polls once more after `next`.
const NEXT: &Bounds = &[
    ("recvfrom", MANY),
    ("writev", MANY),
    ("epoll_wait", 2 * MANY),
];

/// Calls of an invocation with a request. A model whose last run was slow runs on another thread: `futex` wakes it, and
/// a write to an event descriptor wakes the server's thread. Threads that contend for a queue yield (`sched_yield`),
/// and the heap grows by pages (`mprotect`). After a slow run the sidecar reads its free memory (`statx` to `close`).
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

/// Function with a model and nothing due for a day.
fn idle_function(s3: &S3Server, function: &Path) -> lab::lambda::Builder {
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

/// Staged function, which sends requests to the sidecar.
fn staged_function() -> PathBuf {
    lab::artifacts::function().unwrap()
}

/// The lab's probe as a function, which never calls the sidecar.
fn probe_function() -> TempDir {
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

/// Process id of the function's sidecar.
fn sidecar(function: &Function) -> i32 {
    let pids = function.environment().unwrap().processes("model-sidecar");
    let [pid] = pids.as_slice() else {
        panic!("one sidecar: {pids:?}");
    };
    *pid
}

/// Contents of a file in `/proc/PID/task/TID` for each thread of a process.
fn threads(pid: i32, file: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    // A thread may end during the listing.
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join(file)).ok())
        .collect()
}

/// Returns `true` if a thread is in a system call without a timeout. The fourth argument of `epoll_wait` is -1, or that
/// of `futex` is null.
fn waits_without_timeout(syscall: &str) -> bool {
    let limit = syscall.split_whitespace().nth(4).unwrap_or_default();
    limit == "0x0" || limit.ends_with("ffffffff")
}

/// Waits until the sidecar can only be woken by an event: idle connections are closed and idle threads have ended.
async fn settled(pid: i32) {
    until("every thread waits without a timeout", || {
        threads(pid, "syscall")
            .iter()
            .all(|one| waits_without_timeout(one))
    })
    .await;
}

/// Context switches of each thread.
fn context_switches(pid: i32) -> Vec<String> {
    let statuses = threads(pid, "status").into_iter();
    statuses
        .map(|status| {
            let lines = status.lines();
            let context_switches: Vec<&str> = lines
                .filter(|line| line.contains("ctxt_switches"))
                .collect();
            context_switches.join(" ")
        })
        .collect()
}

/// Trace of a process's system calls by strace.
struct Strace {
    child: Child,
    file: NamedTempFile,
    /// Kept open: strace reports each new thread there, and a closed pipe would end it.
    stderr: BufReader<ChildStderr>,
}

impl Strace {
    /// Attaches strace; prints the reason and returns `None` where strace is missing or may not trace.
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

    /// Ends the trace, and returns the number of each system call.
    fn end(mut self) -> BTreeMap<String, usize> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
        drop(self.stderr);
        counts(self.file.path())
    }
}

/// Counts the lines `PID NAME(…`. A call that another thread's call interrupts has a second line, `<... resumed>`.
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

/// Asserts that [`MANY`] invocations make no system call beyond the bounds.
async fn assert_calls_only(function: &Function, event: &Value, bounds: &Bounds) {
    invoke(function, event).await;
    let pid = sidecar(function);
    settled(pid).await;
    // Starts what is created on demand, such as a thread for runs.
    invoke(function, event).await;
    let attached = threads(pid, "comm").len();
    let Some(strace) = Strace::attach(pid) else {
        return;
    };
    invoke(function, event).await;
    let mut calls = strace.end();
    eprintln!("system calls in {MANY} invocations: {calls:?}");
    // Attaching strace interrupts one call of each thread.
    let restarts = calls.remove("restart_syscall").unwrap_or_default();
    assert!(restarts <= attached, "{restarts} calls resumed");
    for (name, count) in &calls {
        let name = name.replace("epoll_pwait", "epoll_wait");
        let bound = bounds.iter().find(|(allowed, _)| *allowed == name);
        let bound = bound
            .unwrap_or_else(|| panic!("{name} is called: {calls:?}"))
            .1;
        // Each thread repeats up to two calls because of strace.
        assert!(*count <= bound + 2 * attached, "{name}: {calls:?}");
    }
    let writes = calls.get("writev").copied().unwrap_or_default();
    assert!(writes >= MANY, "the trace is incomplete: {calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_makes_only_the_calls_of_next() {
    let s3 = s3_with("wine-v1.onnx").await;
    let folder = probe_function();
    let function = idle_function(&s3, folder.path()).start().await.unwrap();
    assert_calls_only(&function, &json!({}), NEXT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_makes_only_the_calls_that_serve_it() {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = idle_function(&s3, &staged_function())
        .start()
        .await
        .unwrap();
    assert_calls_only(&function, &features(9), SERVING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_thread_wakes_between_invocations() {
    let s3 = s3_with("wine-v1.onnx").await;
    // Two threads, so that ONNX Runtime has a worker thread.
    let function = idle_function(&s3, &staged_function())
        .env("MODEL_THREADS", "2")
        .start()
        .await
        .unwrap();
    invoke(&function, &features(100)).await;
    let pid = sidecar(&function);
    settled(pid).await;
    let before = context_switches(pid);
    assert_eq!(
        before.len(),
        4,
        "threads: main, server, model, ONNX Runtime"
    );

    // Another function works in the meantime.
    let (folder, layer) = (probe_function(), tempfile::tempdir().unwrap());
    let other = Function::of(layer.path(), folder.path())
        .start()
        .await
        .unwrap();
    invoke(&other, &json!({})).await;
    assert_eq!(context_switches(pid), before);

    function.answer(&features(9)).await.unwrap();
    assert_ne!(context_switches(pid), before, "an invocation does wake it");
}
