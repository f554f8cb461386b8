//! X-Ray's daemon: receives documents by UDP, and checks them against X-Ray's format.
//!
//! Sources: <https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html> for the datagrams, and
//! [`document`] for the documents.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::records::{NotSeen, Records};

pub mod document;

/// First line of a datagram, as JSON.
const HEADER: &str = r#"{"format":"json","version":1}"#;
/// Maximum size of a datagram, in bytes.
const MAX_DATAGRAM: usize = 64 * 1024;

/// Received datagram.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Document; `null` if the datagram has none.
    pub document: Value,
    /// Deviations from X-Ray's format.
    pub errors: Vec<String>,
}

impl Datagram {
    fn read(datagram: &[u8]) -> Self {
        let mut errors = Vec::new();
        if datagram.len() >= MAX_DATAGRAM {
            errors.push(format!("a datagram of {} bytes", datagram.len()));
        }
        let text = String::from_utf8_lossy(datagram);
        let (header, document) = text.split_once('\n').unwrap_or((&text, ""));
        let header = serde_json::from_str::<Value>(header).ok();
        if header != serde_json::from_str(HEADER).ok() {
            errors.push("no header of the daemon's protocol".to_owned());
        }
        match serde_json::from_str::<Value>(document) {
            Ok(document) => {
                errors.extend(document::errors(&document));
                Self { document, errors }
            }
            Err(problem) => {
                errors.push(format!("no JSON: {problem}"));
                Self {
                    document: Value::Null,
                    errors,
                }
            }
        }
    }

    /// Name of the subsegment.
    #[must_use]
    pub fn name(&self) -> &str {
        self.document["name"].as_str().unwrap_or_default()
    }
}

/// Daemon that keeps what it receives.
#[derive(Debug)]
pub struct XRayDaemon {
    address: SocketAddr,
    datagrams: Arc<Records<Datagram>>,
    task: JoinHandle<()>,
}

impl XRayDaemon {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        let datagrams = Arc::new(Records::default());
        let received = Arc::clone(&datagrams);
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; MAX_DATAGRAM];
            while let Ok(length) = socket.recv(&mut buffer).await {
                received.push(Datagram::read(&buffer[..length]));
            }
        });
        Ok(Self {
            address,
            datagrams,
            task,
        })
    }

    /// Address, for `AWS_XRAY_DAEMON_ADDRESS`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Datagrams so far.
    #[must_use]
    pub fn datagrams(&self) -> Vec<Datagram> {
        self.datagrams.all()
    }

    /// Waits until `holds` is true for the datagrams, and returns them. `wanted` describes the condition.
    ///
    /// # Errors
    /// [`NotSeen`] after [`crate::WAIT_LIMIT`].
    pub async fn wait_until(
        &self,
        wanted: &str,
        holds: impl FnMut(&[Datagram]) -> bool,
    ) -> Result<Vec<Datagram>, NotSeen> {
        self.datagrams.wait_until(wanted, holds).await
    }
}

impl Drop for XRayDaemon {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_has_a_header_and_a_document() {
        let document = r#"{"name":"a","id":"53995c3f42cd8ad8","start_time":1.5,"end_time":2.5,"type":"subsegment",
            "trace_id":"1-581cf771-a006649127e371903a2de979","parent_id":"defdfd9912dc5a56"}"#;
        let read = |text: String| Datagram::read(text.as_bytes()).errors;
        assert_eq!(read(format!("{HEADER}\n{document}")), [""; 0]);
        let spaced = r#"{"format": "json", "version": 1}"#;
        assert_eq!(read(format!("{spaced}\n{document}")), [""; 0]);
        assert!(read(document.to_owned())[0].contains("no header"));
        assert!(read(format!("{HEADER}\n"))[0].contains("no JSON"));
        let long = " ".repeat(MAX_DATAGRAM);
        assert!(read(format!("{HEADER}\n{document}{long}"))[0].contains("bytes"));
    }
}
