//! `lab`: a Lambda platform in the terminal. `lab serve` runs any layer and any function on this
//! machine and accepts invocations over HTTP. `lab status`, `freeze`, `thaw`, `reset` and
//! `shutdown` control it from another terminal, over the same port.
//!
//! Standard output has the command's result: the function's log in CloudWatch's form, or a table.
//! Messages of the lab itself go to standard error. The exit code is 0, 1 after a failure, 2 for
//! invalid arguments.

mod arguments;
mod control;
mod follow;
mod invoke;
mod links;
mod response;
mod serve;
mod server;
mod status;
mod units;

use std::process::ExitCode;

use arguments::{Command, Lab};
use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Lab::parse().command {
        Command::Serve(serve) => serve::run(*serve).await,
        Command::Status(server) => control::status(server.port).await,
        Command::Freeze(freeze) => control::freeze(&freeze).await,
        Command::Thaw(target) => control::thaw(&target).await,
        Command::Reset(reset) => control::reset(&reset).await,
        Command::Shutdown(shutdown) => control::shutdown(&shutdown).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("lab: {problem:#}");
            ExitCode::FAILURE
        }
    }
}
