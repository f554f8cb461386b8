//! A process run alone.

use std::os::unix::process::ExitStatusExt;

use lab::process::{Process, StartError};

/// Prints its environment and waits.
const SCRIPT: &str = "echo $(env); echo to-stderr >&2; trap 'echo stopping; exit 5' TERM; \
                      echo ready; while :; do sleep 0.01; done";

#[tokio::test]
async fn sigterm_stops_it_and_its_output_is_complete() {
    let shell = Process::of("/bin/sh")
        .arg("-c")
        .arg(SCRIPT)
        .env("GREETING", "hello");
    let process = shell.start().unwrap();
    process.wait_for("ready").await.unwrap();
    process.wait_for("to-stderr").await.unwrap();
    let environment = process.wait_for("GREETING=hello").await.unwrap();
    assert!(!environment.contains("CARGO"), "{environment}");
    assert_eq!(process.ended(), None);
    let status = process.terminate().await.unwrap();
    assert_eq!(status.code(), Some(5));
    assert_eq!(process.log().lines().last().unwrap(), "stopping");
    process.terminate().await.unwrap();
}

#[tokio::test]
async fn it_dies_when_dropped() {
    let shell = Process::of("/bin/sh").arg("-c").arg(SCRIPT);
    let process = shell.start().unwrap();
    process.wait_for("ready").await.unwrap();
    let folder = format!("/proc/{}", process.pid());
    assert!(std::path::Path::new(&folder).exists());
    drop(process);
    assert!(!std::path::Path::new(&folder).exists());
}

#[tokio::test]
async fn a_kill_is_seen_and_ends_every_wait_for_a_line() {
    let shell = Process::of("/bin/sh").arg("-c").arg(SCRIPT);
    let process = shell.start().unwrap();
    process.wait_for("ready").await.unwrap();
    process.signal(nix::sys::signal::Signal::SIGKILL).unwrap();
    let error = process.wait_for("never").await.unwrap_err();
    assert!(error.to_string().contains("ready"), "{error}");
    assert_eq!(process.wait().await.unwrap().signal(), Some(9));
}

#[test]
fn a_missing_program_is_named() {
    let error = Process::of("/no/such/program").start().unwrap_err();
    assert!(matches!(error, StartError::Missing(_)));
    assert_eq!(error.to_string(), "no program at /no/such/program");
}
