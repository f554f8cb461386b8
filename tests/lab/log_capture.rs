//! Captured standard output and error of processes, line by line, for tests to search and to wait
//! on.

use std::io::{BufRead, BufReader, Read};
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::WAIT_LIMIT;

/// An expected line did not arrive; the message contains the whole log.
#[derive(Debug, thiserror::Error)]
#[error("{name} {reason} without the line: {wanted}\n---- its log ----\n{log}\n---- end ----")]
pub struct NoSuchLine {
    name: String,
    reason: String,
    wanted: String,
    log: String,
}

/// Log of one or several processes. Clones share their lines.
#[derive(Clone, Debug)]
pub struct LogCapture {
    name: String,
    echo: bool,
    state: watch::Sender<LogState>,
}

#[derive(Debug, Default)]
struct LogState {
    lines: Vec<String>,
    ended: bool,
}

impl LogCapture {
    /// Returns an empty log. With `echo` its lines are also printed, prefixed with the name.
    #[must_use]
    pub fn new(name: &str, echo: bool) -> Self {
        Self {
            name: name.to_owned(),
            echo,
            state: watch::Sender::new(LogState::default()),
        }
    }

    /// Reads a stream to its end on a thread of its own.
    pub(crate) fn read(&self, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let log = self.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while let Ok(1..) = reader.read_until(b'\n', &mut line) {
                log.push(String::from_utf8_lossy(&line).trim_end());
                line.clear();
            }
        })
    }

    /// Adds a line, as if it had been read.
    pub(crate) fn push(&self, line: &str) {
        if self.echo {
            println!("{}: {line}", self.name);
        }
        self.state
            .send_modify(|state| state.lines.push(line.to_owned()));
    }

    /// Marks the log as complete.
    pub(crate) fn end(&self) {
        self.state.send_modify(|state| state.ended = true);
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.state.borrow().lines.clone()
    }

    /// Waits for lines after a mark and returns them; returns none only if the log is complete.
    pub async fn lines_after(&self, mark: usize) -> Vec<String> {
        let mut state = self.state.subscribe();
        let more = state
            .wait_for(|state| state.lines.len() > mark || state.ended)
            .await;
        // The sender is owned by this value, so waiting cannot fail.
        more.map_or_else(
            |_| Vec::new(),
            |state| state.lines.get(mark..).unwrap_or_default().to_vec(),
        )
    }

    /// The whole log as one text.
    #[must_use]
    pub fn text(&self) -> String {
        self.state.borrow().lines.join("\n")
    }

    /// Number of lines, a mark for [`Self::wait_for_line_after`].
    #[must_use]
    pub fn mark(&self) -> usize {
        self.state.borrow().lines.len()
    }

    /// Waits for a line that contains `text`, and returns it; earlier lines count.
    ///
    /// # Errors
    /// [`NoSuchLine`] if it does not arrive within [`WAIT_LIMIT`], or the process exits.
    pub async fn wait_for(&self, text: &str) -> Result<String, NoSuchLine> {
        self.wait_for_line(text, |line| line.contains(text)).await
    }

    /// Waits for a line for which `is_it` holds, and returns it; earlier lines count. `wanted`
    /// describes the line in the error message.
    ///
    /// # Errors
    /// [`NoSuchLine`] if it does not arrive within [`WAIT_LIMIT`], or the process exits.
    pub async fn wait_for_line(
        &self,
        wanted: &str,
        is_it: impl Fn(&str) -> bool,
    ) -> Result<String, NoSuchLine> {
        self.wait_for_line_after(0, wanted, is_it).await
    }

    /// Like [`Self::wait_for_line`], but considers only lines after a mark.
    ///
    /// # Errors
    /// [`NoSuchLine`] if it does not arrive within [`WAIT_LIMIT`], or the process exits.
    pub async fn wait_for_line_after(
        &self,
        mark: usize,
        wanted: &str,
        is_it: impl Fn(&str) -> bool,
    ) -> Result<String, NoSuchLine> {
        let mut seen = mark;
        let mut found = None;
        let mut state = self.state.subscribe();
        let wait = state.wait_for(|state| {
            let new = state.lines.get(seen..).unwrap_or_default();
            found = new.iter().find(|line| is_it(line)).cloned();
            seen = state.lines.len().max(mark);
            found.is_some() || state.ended
        });
        let in_time = tokio::time::timeout(WAIT_LIMIT, wait).await.is_ok();
        found.ok_or_else(|| NoSuchLine {
            name: self.name.clone(),
            reason: if in_time {
                "ended".to_owned()
            } else {
                format!("went on for {} s", WAIT_LIMIT.as_secs())
            },
            wanted: wanted.to_owned(),
            log: self.text(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn earlier_and_later_lines_are_found() {
        let log = LogCapture::new("probe", false);
        let (mut writer, reader) = pipe();
        let thread = log.read(reader);
        writeln(&mut writer, "ready 1");
        assert_eq!(log.wait_for("ready").await.unwrap(), "ready 1");
        assert_eq!(log.wait_for("ready").await.unwrap(), "ready 1");
        let mark = log.mark();
        let waiting = log.wait_for_line_after(mark, "ready again", |line| line.contains("ready"));
        writeln(&mut writer, "ready 2");
        assert_eq!(waiting.await.unwrap(), "ready 2");
        drop(writer);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn the_end_of_the_process_ends_the_wait_and_shows_the_log() {
        let log = LogCapture::new("probe", false);
        let (mut writer, reader) = pipe();
        let thread = log.read(reader);
        writeln(&mut writer, "only this");
        drop(writer);
        thread.join().unwrap();
        log.end();
        let error = log.wait_for("something else").await.unwrap_err();
        assert!(error.to_string().contains("only this"), "{error}");
    }

    fn pipe() -> (std::io::PipeWriter, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        (writer, reader)
    }

    fn writeln(writer: &mut std::io::PipeWriter, line: &str) {
        use std::io::Write as _;
        writeln!(writer, "{line}").unwrap();
    }
}
