//! Command line: `--help`, `--version`, and an error for any other argument.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::config::VARIABLES;

/// Output of a command line that does not start the sidecar.
#[derive(Debug, PartialEq, Eq)]
pub enum CommandOutput {
    /// Text for standard output.
    Text(String),
    /// Usage error for standard error.
    UsageError(String),
}

/// Returns the output for these arguments; `None` without arguments, which start the sidecar.
#[must_use]
pub fn output(arguments: impl IntoIterator<Item = String>) -> Option<CommandOutput> {
    let first = arguments.into_iter().next()?;
    Some(match first.as_str() {
        "-h" | "--help" => CommandOutput::Text(help()),
        "-V" | "--version" => {
            CommandOutput::Text(format!("model-sidecar {}\n", env!("CARGO_PKG_VERSION")))
        }
        other => CommandOutput::UsageError(format!(
            "unknown argument {other:?}: model-sidecar is configured by environment variables, which --help lists\n"
        )),
    })
}

impl CommandOutput {
    /// Prints the output, and returns the exit code.
    #[must_use]
    #[expect(
        clippy::print_stdout,
        clippy::print_stderr,
        reason = "the output of a command"
    )]
    pub fn print(&self) -> ExitCode {
        match self {
            CommandOutput::Text(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            CommandOutput::UsageError(text) => {
                eprint!("{text}");
                ExitCode::from(64)
            }
        }
    }
}

fn help() -> String {
    let mut text = String::from(
        "Serves ONNX models from S3 on a local socket.\n\n\
         In AWS Lambda, model-sidecar runs as an extension from a layer. On other machines it serves until SIGTERM or\n\
         Ctrl-C, and checks for new versions on a timer.\n\n\
         Environment variables, with their defaults in brackets (the standard variables of the AWS SDKs, such as\n\
         AWS_REGION and AWS_ENDPOINT_URL, apply as well):\n\n",
    );
    for variable in VARIABLES {
        let default = if variable.default.is_empty() {
            String::new()
        } else {
            format!(" [{}]", variable.default)
        };
        let _ = writeln!(
            text,
            "  {:<24} {}{default}",
            variable.name,
            variable.meaning.replace('`', "")
        );
    }
    text.push_str(
        "\nExample:\n  MODEL_URI=s3://models/fraud/model.onnx AWS_REGION=eu-central-1 \\\n  \
         ORT_DYLIB_PATH=/usr/lib/libonnxruntime.so model-sidecar\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(arguments: &[&str]) -> Option<CommandOutput> {
        output(arguments.iter().map(|&argument| argument.to_owned()))
    }

    #[test]
    fn help_names_every_variable() {
        let Some(CommandOutput::Text(help)) = given(&["--help"]) else {
            panic!("--help prints text")
        };
        for variable in VARIABLES {
            assert!(help.contains(variable.name), "{}", variable.name);
        }
    }

    #[test]
    fn unknown_argument_is_an_error_and_no_argument_serves() {
        assert!(
            matches!(given(&["serve"]), Some(CommandOutput::UsageError(text)) if text.contains("\"serve\""))
        );
        assert_eq!(given(&[]), None);
    }
}
