//! Command line: options of all commands, and one variant per command.

use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::console::Console;
use crate::context::Context;
use crate::failure::EXIT_CODES;
use crate::{
    baseline, call, canary, check, completion, diff, golden, history, init, label, list, load,
    optimize, promote, prune, publish, rollback, status, tune, verify,
};

/// Command line of the program.
#[derive(Parser)]
#[command(name = "modelctl", version, about, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// Print the result, or the error, as one JSON object
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Commands.
#[derive(Subcommand)]
pub(crate) enum Command {
    Optimize(optimize::Arguments),
    Check(check::Arguments),
    Golden(golden::Arguments),
    Baseline(baseline::Arguments),
    Publish(Box<publish::Arguments>),
    Promote(promote::Arguments),
    Rollback(rollback::Arguments),
    Canary(canary::Arguments),
    Label(label::Arguments),
    List(list::Arguments),
    Status(status::Arguments),
    History(history::Arguments),
    Verify(verify::Arguments),
    Prune(prune::Arguments),
    Diff(diff::Arguments),
    Call(call::Arguments),
    Init(Box<init::Arguments>),
    Tune(Box<tune::Arguments>),
    Completion(completion::Arguments),
    #[command(hide = true)]
    Load(load::Arguments),
}

impl Command {
    /// Runs the command, and returns its result as JSON; `null` if it has none.
    pub(crate) async fn run(self, context: &Context, console: &Console) -> anyhow::Result<Value> {
        match self {
            Command::Optimize(arguments) => optimize::run(&arguments, console),
            Command::Check(arguments) => check::run(&arguments, context, console),
            Command::Diff(arguments) => diff::run(&arguments, context, console).await,
            Command::Call(arguments) => call::run(&arguments, context, console).await,
            Command::Init(arguments) => init::run(&arguments, console),
            Command::Tune(arguments) => tune::run(&arguments, context, console).await,
            Command::Golden(arguments) => golden::run(&arguments, context, console),
            Command::Baseline(arguments) => baseline::run(&arguments, context, console),
            Command::Publish(arguments) => publish::run(&arguments, context, console).await,
            Command::Promote(arguments) => promote::run(&arguments, context, console).await,
            Command::Rollback(arguments) => rollback::run(&arguments, context, console).await,
            Command::Canary(arguments) => canary::run(&arguments, context, console).await,
            Command::Label(arguments) => label::run(&arguments, context, console).await,
            Command::List(arguments) => list::run(&arguments, context, console).await,
            Command::Status(arguments) => status::run(&arguments, context, console).await,
            Command::History(arguments) => history::run(&arguments, context, console).await,
            Command::Verify(arguments) => verify::run(&arguments, context, console).await,
            Command::Prune(arguments) => prune::run(&arguments, context, console).await,
            Command::Completion(arguments) => completion::run(&arguments),
            Command::Load(arguments) => load::run(&arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        let arguments = Arguments::command();
        for command in arguments
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
        {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string);
            let example = format!("modelctl {name} ");
            assert!(help.is_some_and(|help| help.contains(&example)), "{name}");
        }
    }
}
