//! `modelctl`: prepares ONNX models for the model sidecar.
//!
//! Each command is a module with its arguments and a `run`. A command that fails prints the reason
//! to standard error, exits with 1, and leaves no partial output.

mod compare;
mod inputs;
mod library;
mod load;
mod optimize;
mod units;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use model_sidecar::sys;

#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Optimize(optimize::Arguments),
    #[command(hide = true)]
    Load(load::Arguments),
}

fn main() -> ExitCode {
    disable_telemetry();
    let result = match Arguments::parse().command {
        Command::Optimize(arguments) => optimize::run(&arguments),
        Command::Load(arguments) => load::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("modelctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(
    unsafe_code,
    reason = "the environment must be changed while there is one thread"
)]
fn disable_telemetry() {
    // SAFETY: called first in main; no other thread exists.
    unsafe { sys::disable_onnxruntime_telemetry() }
}
