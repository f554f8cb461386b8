//! Terminal output: numbered steps, plain lines, ticks, and progress of long operations.
//!
//! Colour and redrawn lines are used on a terminal only, colour only without `NO_COLOR`. Elsewhere
//! progress is at most one line a second. A closed pipe ends the output and not the run.

use std::future::Future;
use std::io::{IsTerminal, Write, stdout};
use std::pin::pin;
use std::time::{Duration, Instant};

/// Maximum width of a line, except in logs.
pub(crate) const WIDTH: usize = 80;
const INDENT: &str = "   ";
const REDRAW: Duration = Duration::from_millis(100);
const SAY_AGAIN: Duration = Duration::from_secs(1);

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";

pub(crate) struct Console {
    begun: Instant,
    step: usize,
    title: String,
    terminal: bool,
    colour: bool,
}

impl Console {
    pub(crate) fn begin() -> Self {
        let terminal = stdout().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            begun: Instant::now(),
            step: 0,
            title: "preparing".to_owned(),
            terminal,
            colour: terminal && !no_colour,
        }
    }

    /// Prints a heading before the first step.
    pub(crate) fn heading(&self, title: &str, about: &str) {
        self.line(&self.paint(BOLD, title));
        for line in wrapped(about.split_whitespace(), WIDTH) {
            self.line(&line);
        }
    }

    /// Prints a numbered step: its title and description.
    pub(crate) fn step(&mut self, title: &str, about: &str) {
        self.step += 1;
        title.clone_into(&mut self.title);
        self.line("");
        self.line(&self.paint(BOLD, &format!("{}. {title}", self.step)));
        self.paragraph(about);
    }

    /// Prints a paragraph.
    pub(crate) fn paragraph(&self, text: &str) {
        self.pieces(text.split_whitespace());
    }

    /// Prints a paragraph with line breaks only between these pieces.
    pub(crate) fn pieces<'a>(&self, pieces: impl IntoIterator<Item = &'a str>) {
        for line in wrapped(pieces, WIDTH - INDENT.len()) {
            self.line(&format!("{INDENT}{line}"));
        }
    }

    /// Prints a line of a table or chart.
    pub(crate) fn row(&self, text: &str) {
        self.line(format!("{INDENT}  {text}").trim_end());
    }

    /// Prints the header of a table.
    pub(crate) fn head(&self, text: &str) {
        self.line(&self.paint(DIM, format!("{INDENT}  {text}").trim_end()));
    }

    /// Prints a verified statement.
    pub(crate) fn verified(&self, text: &str) {
        let mut mark = self.paint(GREEN, "✓");
        for line in wrapped(text.split_whitespace(), WIDTH - INDENT.len() - 2) {
            self.line(&format!("{INDENT}{mark} {line}"));
            " ".clone_into(&mut mark);
        }
    }

    /// Prints the failed step and the reason.
    pub(crate) fn failed(&self, why: &str) {
        let step = match self.step {
            0 => "Before the first step".to_owned(),
            step => format!("Step {step}, \"{}\"", self.title),
        };
        self.line("");
        self.line(&self.paint(RED, &format!("✗ {step} failed:")));
        self.line(why);
        self.line("");
    }

    pub(crate) fn end(&self) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let text = format!("All {} steps succeeded in {seconds:.1} s.", self.step);
        self.line("");
        self.line(&self.paint(BOLD, &text));
    }

    /// Runs `work` and shows `progress` until it completes.
    pub(crate) async fn during<T>(
        &self,
        progress: impl Fn() -> String,
        work: impl Future<Output = T>,
    ) -> T {
        let begun = Instant::now();
        let mut work = pin!(work);
        let every = if self.terminal { REDRAW } else { SAY_AGAIN };
        loop {
            tokio::select! {
                done = &mut work => {
                    if self.terminal {
                        self.write("\r\x1b[K");
                    }
                    return done;
                }
                () = tokio::time::sleep(every) => {
                    let seconds = begun.elapsed().as_secs_f64();
                    let text = format!("{INDENT}… {} ({seconds:.1} s)", progress());
                    let text: String = text.chars().take(WIDTH).collect();
                    if self.terminal {
                        // A wrapped line could not be redrawn, so a narrow terminal truncates it.
                        let text = self.paint(DIM, &text);
                        self.write(&format!("\r\x1b[K\x1b[?7l{text}\x1b[?7h"));
                    } else {
                        self.line(&text);
                    }
                }
            }
        }
    }

    pub(crate) fn line(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    #[expect(clippy::unused_self, reason = "the only place that prints")]
    fn write(&self, text: &str) {
        let mut out = stdout().lock();
        // A write error means that the reader has gone; the exit code still tells the result.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Wraps words into lines of at most `width`.
fn wrapped<'a>(words: impl IntoIterator<Item = &'a str>, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words {
        let line = lines.last_mut().filter(|line| {
            line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width
        });
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Formats a number with thousands separators.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
