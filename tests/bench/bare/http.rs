//! A minimal HTTP/1.1 and TLS client: one GET into a file, and Lambda's Runtime API.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};
use serde_json::Value;

/// Number of bytes per read of a body.
const BUFFER: usize = 256 * 1024;

/// A connection, with TLS or without.
trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// Downloads a URL into a file.
pub(crate) fn get(url: &str, file: &mut File) -> Result<()> {
    let (scheme, rest) = url.split_once("://").context("no URL")?;
    let (authority, path) = rest.split_once('/').context("no path")?;
    let connect = || TcpStream::connect(authority).context("cannot connect");
    let stream: Box<dyn Stream> = match scheme {
        "http" => Box::new(connect()?),
        "https" => {
            // Certificates are read before the connection is open, as in the sidecar.
            let session = session(authority)?;
            Box::new(StreamOwned::new(session, connect()?))
        }
        _ => bail!("neither http nor https"),
    };
    let mut answer = ask(stream, &format!("GET /{path}"), authority, "")?;
    ensure!(answer.status == 200, "status {}", answer.status);
    let mut buffer = vec![0; BUFFER];
    let mut left = answer.length;
    while left > 0 {
        let most = BUFFER.min(left);
        let count = answer
            .body
            .read(buffer.get_mut(..most).unwrap_or_default())?;
        ensure!(count > 0, "{left} bytes are missing");
        file.write_all(buffer.get(..count).unwrap_or_default())?;
        left -= count;
    }
    Ok(())
}

/// Client side of TLS, which trusts the authorities in the file that `SSL_CERT_FILE` names.
fn session(authority: &str) -> Result<ClientConnection> {
    let file = std::env::var("SSL_CERT_FILE").context("SSL_CERT_FILE is not set")?;
    let mut roots = RootCertStore::empty();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)?.collect();
    roots.add_parsable_certificates(certificates?);
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let host = authority.split(':').next().unwrap_or_default().to_owned();
    let session = ClientConnection::new(Arc::new(config), ServerName::try_from(host)?)?;
    Ok(session)
}

/// Handles the platform's events until the process is ended.
pub(crate) fn serve(mut answer: impl FnMut(&Value) -> Result<Value>) -> Result<()> {
    const ROOT: &str = "/2018-06-01/runtime/invocation";
    let authority = std::env::var("AWS_LAMBDA_RUNTIME_API").context("not on Lambda")?;
    loop {
        let stream = TcpStream::connect(&authority)?;
        let mut event = ask(stream, &format!("GET {ROOT}/next"), &authority, "")?;
        let mut payload = vec![0; event.length];
        event.body.read_exact(&mut payload)?;
        let result = answer(&serde_json::from_slice(&payload)?)?;
        let path = format!("POST {ROOT}/{}/response", event.request_id);
        let stream = TcpStream::connect(&authority)?;
        ask(stream, &path, &authority, &result.to_string())?;
    }
}

struct ResponseHead<S> {
    status: u16,
    length: usize,
    request_id: String,
    body: BufReader<S>,
}

/// Sends a request and reads the status and headers of the response.
fn ask<S: Stream>(
    mut stream: S,
    what: &str,
    authority: &str,
    body: &str,
) -> Result<ResponseHead<S>> {
    let length = body.len();
    let request = format!(
        "{what} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let mut answer = ResponseHead {
        status: status.context("no status")?,
        length: 0,
        request_id: String::new(),
        body: reader,
    };
    loop {
        line.clear();
        answer.body.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            return Ok(answer);
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => answer.length = value.parse()?,
            "lambda-runtime-aws-request-id" => value.clone_into(&mut answer.request_id),
            _ => {}
        }
    }
}
