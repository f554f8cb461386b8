//! A server with a prepared response, sent after it was busy for the time of a run. Its latency is
//! the cost of two wake-ups and the system calls alone. It is a process of its own, as every server
//! is.
//!
//! The busy time matters: a server that responds at once keeps its caller's CPU, and one that does
//! not wakes another.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::client::{Address, whole};
use super::contenders::folder;

/// Line that reports readiness.
const LISTENING: &str = "listening";
/// Name of the socket in its folder.
pub(super) const SOCKET: &str = "echo";

/// A Unix socket with a constant response.
pub(super) struct Echo {
    process: Child,
    folder: TempDir,
}

impl Echo {
    /// Responds to each request with this body after `busy` of idle spinning.
    pub(super) fn start(body: &[u8], busy: Duration) -> Result<Self> {
        let folder = folder()?;
        let (socket, answer) = (folder.path().join(SOCKET), folder.path().join("answer"));
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        std::fs::write(&answer, [head.as_bytes(), body].concat())?;
        let mut process = Command::new(std::env::current_exe()?)
            .arg("echo")
            .args([&socket, &answer])
            .arg(busy.as_nanos().to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().context("a pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let echo = Self { process, folder };
        ensure!(
            line.trim() == LISTENING,
            "unexpected output of the socket: {line:?}"
        );
        Ok(echo)
    }

    /// Folder of the socket.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn address(&self) -> Address {
        Address::Unix(self.folder().join(SOCKET))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The process: responds to each request with the content of `answer`. Each caller has its own thread.
pub(crate) fn serve(socket: &Path, answer: &Path, busy: Duration) -> Result<()> {
    let answer = std::fs::read(answer)?;
    let listener = UnixListener::bind(socket)?;
    println!("{LISTENING}");
    std::thread::scope(|scope| {
        for caller in listener.incoming() {
            let (caller, answer) = (caller?, &answer);
            scope.spawn(move || respond(caller, answer, busy));
        }
        Ok(())
    })
}

/// Responds to the requests of one caller until it disconnects.
fn respond(mut caller: UnixStream, answer: &[u8], busy: Duration) -> Result<()> {
    let mut request = vec![0; 1 << 20];
    loop {
        let mut filled = 0;
        while whole(&request[..filled])?.is_none_or(|(_, end)| filled < end) {
            let count = caller.read(&mut request[filled..])?;
            if count == 0 {
                return Ok(());
            }
            filled += count;
        }
        let begun = Instant::now();
        while begun.elapsed() < busy {
            std::hint::spin_loop();
        }
        caller.write_all(answer)?;
    }
}
