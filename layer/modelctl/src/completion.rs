//! `modelctl completion`: a script that completes commands and options in a shell.

use std::io::Write as _;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use serde_json::Value;

use crate::cli;

/// Print the completion script of a shell
#[derive(clap::Args)]
#[command(after_help = "Example:
  modelctl completion bash > ~/.local/share/bash-completion/completions/modelctl")]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let mut script = Vec::new();
    let mut command = cli::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "modelctl", &mut script);
    std::io::stdout()
        .write_all(&script)
        .context("cannot print the script")?;
    Ok(Value::Null)
}
