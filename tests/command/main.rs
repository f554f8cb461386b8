//! `lab`: a Lambda platform in the terminal. `lab serve` runs any layer and any function on this
//! machine and answers invocations over HTTP; `lab status`, `freeze`, `thaw`, `reset` and
//! `shutdown` act on it from another terminal, over the same port.
//!
//! Standard output has what the command is asked for: the function's log as CloudWatch would show
//! it, or a table. What the lab itself has to say goes to standard error. The exit code is 0, 1
//! when something failed, 2 for arguments that cannot be.

mod arguments;
mod control;
mod follow;
mod front;
mod invoke;
mod links;
mod serve;
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
