//! The main job from nothing, as a story in the terminal: a model in S3, a cold start, predictions,
//! a new version under traffic, metrics, a clean end.
//!
//! What runs is real: the staged extension and handler under AWS's own emulator of Lambda, and
//! servers that the AWS SDKs talk to over their own protocols. Every step checks what it says; the
//! exit code is 0 only if all of them held. On a failure the step, the reason and the environment's
//! log are printed.

mod metrics;
mod steps;
mod story;
mod timeline;
mod traffic;
mod wine;

use std::process::ExitCode;

use lab::rie::ExecutionEnvironment;
use steps::Demo;
use story::Story;

#[tokio::main]
async fn main() -> ExitCode {
    let mut story = Story::begin();
    let mut demo = match Demo::new() {
        Ok(demo) => demo,
        Err(problem) => {
            story.failed(&format!("{problem:#}"));
            return ExitCode::FAILURE;
        }
    };
    match demo.run(&mut story).await {
        Ok(()) => {
            story.end();
            ExitCode::SUCCESS
        }
        Err(problem) => {
            story.failed(&without_log(&format!("{problem:#}")));
            if let Some(lambda) = demo.lambda() {
                print_log(&story, lambda);
            }
            ExitCode::FAILURE
        }
    }
}

/// Some of the lab's messages carry the whole log. It is printed once, after them.
fn without_log(text: &str) -> String {
    let end = "---- end ----";
    match (text.find("\n---- "), text.rfind(end)) {
        (Some(from), Some(to)) if from < to => {
            format!("{}{}", &text[..from], &text[to + end.len()..])
        }
        _ => text.to_owned(),
    }
}

/// The log of the environment, without the emulator's lines about each of some thousand invocations.
fn print_log(story: &Story, lambda: &ExecutionEnvironment) {
    let of_each = [
        "START RequestId",
        "END RequestId",
        "REPORT RequestId",
        "(rapid) INVOKE",
    ];
    let lines = lambda.log().lines();
    let telling = lines
        .iter()
        .filter(|line| !of_each.iter().any(|text| line.contains(text)));
    story.line("The environment's log, without the emulator's lines about each invocation:");
    for line in telling {
        story.line(line);
    }
}
