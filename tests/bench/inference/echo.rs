//! A server that has its answer ready: what two wake-ups and the calls of the operating system cost by themselves. In a
//! process of its own, as every server is.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::client::Address;
use super::contenders::folder;

/// What it says when it can be called.
const LISTENING: &str = "listening";

/// A Unix socket at which one caller is answered, always with the same.
pub(super) struct Echo {
    pub(super) address: Address,
    process: Child,
    _folder: TempDir,
}

impl Echo {
    /// Answers each `request_length` bytes with a response of this body.
    pub(super) fn start(request_length: usize, body: &[u8]) -> Result<Self> {
        let folder = folder()?;
        let (socket, answer) = (folder.path().join("echo"), folder.path().join("answer"));
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        std::fs::write(&answer, [head.as_bytes(), body].concat())?;
        let mut process = Command::new(std::env::current_exe()?)
            .arg("echo")
            .args([&socket, &answer])
            .arg(request_length.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = process.stdout.take().context("a pipe")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        let echo = Self {
            address: Address::Unix(socket),
            process,
            _folder: folder,
        };
        ensure!(line.trim() == LISTENING, "the socket says {line:?}");
        Ok(echo)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The process: answers each so many bytes of its one caller with what stands in `answer`, until the caller hangs up.
pub(crate) fn serve(socket: &Path, answer: &Path, request_length: usize) -> Result<()> {
    let answer = std::fs::read(answer)?;
    let listener = UnixListener::bind(socket)?;
    println!("{LISTENING}");
    let (mut caller, _) = listener.accept()?;
    let mut request = vec![0; request_length];
    while caller.read_exact(&mut request).is_ok() {
        caller.write_all(&answer)?;
    }
    Ok(())
}
