//! A client with minimal CPU use: one blocking connection, prepared requests, and of a response
//! only its length is parsed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use socket2::SockRef;

/// Longer than any response takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Address of a server.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Unix(PathBuf),
    /// Unix socket to which the client sends with a buffer of [`LARGE_BUFFER`].
    BufferedUnix(PathBuf),
    /// Port on 127.0.0.1.
    Tcp(u16),
}

/// Send buffer in bytes that holds a request of hundreds of KB. Linux limits it to twice `net.core.wmem_max`.
const LARGE_BUFFER: usize = 1 << 20;

trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// A connection.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: &Address) -> Result<Self> {
        let stream: Box<dyn Stream> = match address {
            Address::Unix(path) | Address::BufferedUnix(path) => {
                let stream = UnixStream::connect(path)
                    .with_context(|| format!("cannot connect to {}", path.display()))?;
                if matches!(address, Address::BufferedUnix(_)) {
                    SockRef::from(&stream).set_send_buffer_size(LARGE_BUFFER)?;
                }
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            Address::Tcp(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))
                    .with_context(|| format!("cannot connect to port {port}"))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        };
        Ok(Self {
            stream,
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Sends a request, and returns the response body. Any status but 200 is an error.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.stream.write_all(request)?;
        let mut filled = 0;
        let (start, end) = loop {
            if let Some(whole) = whole(&self.buffer[..filled])? {
                break whole;
            }
            filled += self.read(filled)?;
        };
        while filled < end {
            filled += self.read(filled)?;
        }
        let body = &self.buffer[start..end];
        if !self.buffer.starts_with(b"HTTP/1.1 200") {
            let head = String::from_utf8_lossy(&self.buffer[..start]);
            let status = head.lines().next().unwrap_or_default();
            bail!("{status}: {}", String::from_utf8_lossy(body));
        }
        Ok(body)
    }

    fn read(&mut self, filled: usize) -> Result<usize> {
        if filled == self.buffer.len() {
            self.buffer.resize(2 * filled, 0);
        }
        let count = self.stream.read(&mut self.buffer[filled..])?;
        ensure!(count > 0, "the server closed the connection");
        Ok(count)
    }
}

/// Start and end of the body, once the headers are complete.
pub(crate) fn whole(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end])?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>())
    });
    let length = length.with_context(|| format!("no content-length in {head}"))??;
    Ok(Some((end + 4, end + 4 + length)))
}

/// A POST, ready to be sent.
pub(crate) fn post(path: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{lines}content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
