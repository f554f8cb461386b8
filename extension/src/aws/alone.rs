//! For tests: one test as a process of its own, since the SDK reads its environment from the process.

use std::process::Command;

/// Runs the ignored test of this full name with this environment and nothing else; fails where it fails.
pub(crate) fn run(test: &str, environment: &[(&str, &str)]) {
    let output = Command::new("/proc/self/exe")
        .args(["--ignored", "--exact", test, "--nocapture"])
        .env_clear()
        .env("AWS_REGION", "eu-central-1")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}
