//! A server that has its answer ready: what two wake-ups and four calls of the operating system cost by themselves.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::thread;

use anyhow::Result;
use tempfile::TempDir;

use super::client::Address;
use super::contenders::folder;

/// A Unix socket at which one caller is answered, always with the same.
pub(super) struct Echo {
    pub(super) address: Address,
    _folder: TempDir,
}

impl Echo {
    /// Answers each `request_length` bytes with a response of this body.
    pub(super) fn start(request_length: usize, body: &[u8]) -> Result<Self> {
        let folder = folder()?;
        let path = folder.path().join("echo");
        let listener = UnixListener::bind(&path)?;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let answer = [head.as_bytes(), body].concat();
        thread::spawn(move || -> std::io::Result<()> {
            let (mut caller, _) = listener.accept()?;
            let mut request = vec![0; request_length];
            // Until the caller hangs up.
            loop {
                caller.read_exact(&mut request)?;
                caller.write_all(&answer)?;
            }
        });
        Ok(Self {
            address: Address::Unix(path),
            _folder: folder,
        })
    }
}
