//! Demo of the main use case in the terminal. Its steps are a model in S3, a cold start,
//! predictions, a new version under traffic, an hour frozen, a clean shutdown and metrics.
//!
//! Everything runs for real: the staged extension and handler are processes that the lab's Lambda
//! platform starts, freezes and ends. The AWS SDKs use the lab's servers over their own protocols.
//! Only the hour is simulated: it passes on the clock that those processes see. Every step verifies
//! its claims; the exit code is 0 only if all hold. On a failure the step, the reason and the log
//! are printed.

mod console;
mod keep;
mod lambda;
mod metrics;
mod steps;
mod timeline;
mod traffic;
mod wine;

use std::process::ExitCode;
use std::sync::Arc;

use console::Console;
use lambda::Lambda;
use steps::Demo;

#[tokio::main]
async fn main() -> ExitCode {
    let mut console = Console::begin();
    let mut demo = match Demo::new() {
        Ok(demo) => demo,
        Err(problem) => {
            console.failed(&format!("{problem:#}"));
            return ExitCode::FAILURE;
        }
    };
    match demo.run(&mut console).await {
        Ok(cloudwatch) => {
            console.end();
            if !keep::is_wanted() {
                return ExitCode::SUCCESS;
            }
            let functions = demo.lambdas().map(|lambda| Arc::clone(&lambda.function));
            match keep::until_interrupted(&console, functions.collect(), cloudwatch).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(problem) => {
                    console.failed(&format!("{problem:#}"));
                    ExitCode::FAILURE
                }
            }
        }
        Err(problem) => {
            console.failed(&without_log(&format!("{problem:#}")));
            for lambda in demo.lambdas() {
                print_log(&console, lambda);
            }
            ExitCode::FAILURE
        }
    }
}

/// Removes the log from a message. Some messages of the lab contain it; it is printed once, after
/// them.
fn without_log(text: &str) -> String {
    let end = "---- end ----";
    match (text.find("\n---- "), text.rfind(end)) {
        (Some(from), Some(to)) if from < to => {
            format!("{}{}", &text[..from], &text[to + end.len()..])
        }
        _ => text.to_owned(),
    }
}

/// Prints a log without the platform's lines about successful invocations.
fn print_log(console: &Console, lambda: &Lambda) {
    let went_well = |line: &str| {
        let frame = ["START RequestId", "END RequestId", "REPORT RequestId"];
        frame.iter().any(|begin| line.starts_with(begin)) && !line.contains("Status:")
    };
    console.line(&format!(
        "Log of the function whose clock {}, without START, END and REPORT of successful invocations:",
        lambda.clock
    ));
    for line in lambda.function.log().lines() {
        if !went_well(&line) {
            console.line(&line);
        }
    }
}
