//! `--help`, `--version`, and what is said to anything else.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::config::VARIABLES;

/// What the command line asks for instead of serving.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A text for standard output.
    Text(String),
    /// A mistake, for standard error.
    Mistake(String),
}

/// The answer to these arguments; `None` when there are none, and the sidecar is to serve.
#[must_use]
pub fn answer(arguments: impl IntoIterator<Item = String>) -> Option<Answer> {
    let first = arguments.into_iter().next()?;
    Some(match first.as_str() {
        "-h" | "--help" => Answer::Text(help()),
        "-V" | "--version" => {
            Answer::Text(format!("model-sidecar {}\n", env!("CARGO_PKG_VERSION")))
        }
        other => Answer::Mistake(format!(
            "model-sidecar takes no arguments but --help and --version, not {other:?}: it is configured by \
             environment variables\n"
        )),
    })
}

impl Answer {
    /// Prints it, and gives the exit code.
    #[must_use]
    #[expect(
        clippy::print_stdout,
        clippy::print_stderr,
        reason = "the answer to a person at a terminal"
    )]
    pub fn print(&self) -> ExitCode {
        match self {
            Answer::Text(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Answer::Mistake(text) => {
                eprint!("{text}");
                ExitCode::from(64)
            }
        }
    }
}

fn help() -> String {
    let mut text = String::from(
        "Serves ONNX models from S3 on a local socket.\n\n\
         Inside AWS Lambda it is an extension: attach the layer that holds it. Anywhere else it serves until\n\
         SIGTERM or Ctrl-C, with checks and metrics on timers. It is configured by environment variables; AWS's\n\
         standard ones (AWS_REGION, credentials, AWS_ENDPOINT_URL) mean what they always mean.\n\n",
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

    fn given(arguments: &[&str]) -> Option<Answer> {
        answer(arguments.iter().map(|&argument| argument.to_owned()))
    }

    #[test]
    fn help_names_every_variable() {
        let Some(Answer::Text(help)) = given(&["--help"]) else {
            panic!("help is a text")
        };
        for variable in VARIABLES {
            assert!(help.contains(variable.name), "{}", variable.name);
        }
    }

    #[test]
    fn an_unknown_argument_is_a_mistake_and_none_serves() {
        assert!(
            matches!(given(&["serve"]), Some(Answer::Mistake(text)) if text.contains("\"serve\""))
        );
        assert_eq!(given(&[]), None);
    }
}
