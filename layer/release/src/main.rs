//! `release`: packs what `make layer` built into the artefacts of a release.
//!
//! The same inputs give the same bytes on every machine. Each command is a module with its arguments and a `run`.

mod arch;
mod digest;
mod notices;
mod operators;
mod pack;
mod packages;
mod sbom;
mod wheel;
mod zip;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Version of the artefacts: that of all packages of this workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Pack(pack::Arguments),
    Operators(operators::Arguments),
    Wheel(wheel::Arguments),
}

fn main() -> ExitCode {
    // The sources that were built: descriptions and licences come from them.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let result = match Arguments::parse().command {
        Command::Pack(arguments) => pack::run(&arguments, &root),
        Command::Operators(arguments) => operators::run(&arguments, &root),
        Command::Wheel(arguments) => wheel::run(&arguments, &root),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("release: {error:#}");
            ExitCode::FAILURE
        }
    }
}
