//! Output of a command: text for people, one JSON object for programs, progress on terminals.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

/// Output of one command. With JSON, text is suppressed, and the result or the error is one object.
#[derive(Debug)]
pub(crate) struct Console {
    format: Format,
    colour: bool,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
    Silent,
}

/// Colour of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Green,
    Red,
}

impl Console {
    /// Output to this process's standard output. Colour is used on terminals only, and not if
    /// `NO_COLOR` is set.
    #[must_use]
    pub(crate) fn new(format: Format) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            format,
            colour: io::stdout().is_terminal() && !plain,
        }
    }

    /// Prints a line of text.
    pub(crate) fn line(&self, text: impl std::fmt::Display) {
        if self.format == Format::Text {
            // Fails if the reader is gone, such as `head`.
            let _ = writeln!(io::stdout(), "{text}");
        }
    }

    /// Prints a line in a colour.
    pub(crate) fn coloured(&self, colour: Colour, text: &str) {
        if !self.colour {
            return self.line(text);
        }
        let code = match colour {
            Colour::Green => 32,
            Colour::Red => 31,
        };
        self.line(format_args!("\x1b[{code}m{text}\x1b[0m"));
    }

    /// Prints a warning to standard error, with JSON as well.
    pub(crate) fn warn(&self, text: impl std::fmt::Display) {
        if self.format != Format::Silent {
            eprintln!("modelctl: warning: {text}");
        }
    }

    /// Asks before a write. Programs and pipelines are not asked: the answer is yes.
    pub(crate) fn confirm(&self, question: &str) -> bool {
        if self.format != Format::Text || !io::stdin().is_terminal() || !io::stdout().is_terminal()
        {
            return true;
        }
        print!("{question} [y/N] ");
        let _ = io::stdout().flush();
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    }

    /// Returns a bar for `bytes` of work, visible on terminals only.
    pub(crate) fn progress(&self, what: &str, bytes: u64) -> ProgressBar {
        let style = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        self.bar(what, bytes, style)
    }

    /// Returns a bar for a number of steps, visible on terminals only.
    pub(crate) fn steps(&self, what: &str, steps: u64) -> ProgressBar {
        self.bar(what, steps, "{msg} {wide_bar} {pos}/{len} {eta}")
    }

    fn bar(&self, what: &str, length: u64, style: &str) -> ProgressBar {
        if self.format != Format::Text || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(length).with_message(what.to_owned());
        match ProgressStyle::with_template(style) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }

    /// Prints the result as JSON, if JSON is wanted and the command has one.
    pub(crate) fn result(&self, result: &Value) {
        if self.format == Format::Json && !result.is_null() {
            let _ = writeln!(io::stdout(), "{result}");
        }
    }

    /// Prints an error to standard error, and as JSON to standard output if JSON is wanted.
    pub(crate) fn error(&self, error: &anyhow::Error, code: u8) {
        if self.format != Format::Silent {
            eprintln!("modelctl: {error:#}");
        }
        if self.format == Format::Json {
            let object = json!({"error": format!("{error:#}"), "exit_code": code});
            let _ = writeln!(io::stdout(), "{object}");
        }
    }
}
