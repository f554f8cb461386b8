//! Helper for unit tests: runs one test in a process of its own.
//!
//! Used where a test reads the process's environment (the AWS SDK does) or measures the process's memory.

use std::process::Command;

/// Runs the ignored test with the full name `test` and only `environment` set; panics if that test fails.
pub(crate) fn run_alone(test: &str, environment: &[(&str, &str)]) {
    let output = Command::new("/proc/self/exe")
        .args(["--ignored", "--exact", test, "--nocapture"])
        .env_clear()
        .env("AWS_REGION", "eu-central-1")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let output_text =
        String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && output_text.contains("1 passed"),
        "{output_text}"
    );
}
