//! `modelctl`: prepares, checks and publishes ONNX models for the model sidecar.
//!
//! Each command is a module with its arguments and a `run`. It returns the result as JSON, and writes
//! text for people to the console. A command that fails leaves no partial output. Local
//! files are moved into place when they are complete. A manifest is written last, by one conditional
//! request.

mod aws_error;
mod baseline;
mod call;
mod canary;
mod changes;
mod check;
mod cli;
mod compare;
mod completion;
mod console;
mod content;
mod context;
mod data;
mod deviation;
mod diff;
mod document;
mod failure;
mod golden;
mod history;
mod init;
mod inputs;
mod json_list;
mod label;
mod library;
mod list;
mod load;
mod optimize;
mod promote;
mod prune;
mod publish;
mod published;
mod rollback;
mod s3;
mod status;
mod tune;
mod units;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use cli::Arguments;
use console::{Console, Format};
pub use context::Context;

/// Runs the program with the arguments and the environment of this process.
#[must_use]
pub fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("modelctl: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(std::env::args_os(), &Context::from_environment()));
    ExitCode::from(code)
}

/// Runs one command line, whose first argument is the program's name, and returns its exit code.
pub async fn run(arguments: impl IntoIterator<Item = OsString>, context: &Context) -> u8 {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Fails if the terminal is gone.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(failure::FAILED);
        }
    };
    let format = if context.is_silent {
        Format::Silent
    } else if arguments.json {
        Format::Json
    } else {
        Format::Text
    };
    let console = Console::new(format);
    match arguments.command.run(context, &console).await {
        Ok(result) => {
            console.result(&result);
            0
        }
        Err(error) => {
            let code = failure::exit_code(&error);
            console.error(&error, code);
            code
        }
    }
}
