//! Responses to requests that hyper rejects before they reach the router.
//!
//! hyper writes a status without a body and does not name the cause. The beginning of each head is therefore kept, a
//! copy of a few hundred bytes, and is parsed when hyper rejects the request.

use hyper::StatusCode;

use crate::excerpt::Excerpt;
use crate::server::limits::{HEAD_TIMEOUT, MAX_BODY, MAX_HEAD};

/// Maximum number of bytes of a head that are kept.
const MAX_KEPT: usize = 1024;

/// Beginning of the head of a request.
pub(super) struct RequestHead {
    bytes: [u8; MAX_KEPT],
    length: usize,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            bytes: [0; MAX_KEPT],
            length: 0,
        }
    }
}

impl RequestHead {
    /// Starts another head.
    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// Keeps the next part of the head, up to the maximum.
    pub(super) fn keep(&mut self, part: &[u8]) {
        let free = &mut self.bytes[self.length..];
        let length = free.len().min(part.len());
        free[..length].copy_from_slice(&part[..length]);
        self.length += length;
    }

    /// Returns the value of the header `content-length`, if the kept bytes contain it.
    fn content_length(&self) -> Option<String> {
        let lines = self.bytes[..self.length].split(|byte| *byte == b'\n');
        let headers = lines
            .map(<[u8]>::trim_ascii)
            .take_while(|line| !line.is_empty());
        headers.skip(1).find_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = line.split_at(colon);
            let value = String::from_utf8_lossy(value[1..].trim_ascii());
            name.eq_ignore_ascii_case(b"content-length")
                .then(|| value.into_owned())
        })
    }
}

/// Returns the status of a response that is an error without a body, as hyper writes it.
pub(super) fn rejected_by_hyper(data: &[u8]) -> Option<StatusCode> {
    let code = data.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    let status = StatusCode::from_bytes(code).ok()?;
    let has_no_body = || {
        let empty = b"\r\ncontent-length: 0\r\n";
        data.windows(empty.len()).any(|part| part == empty)
    };
    (status.is_client_error() && data.ends_with(b"\r\n\r\n") && has_no_body()).then_some(status)
}

/// Returns the response to a request with this head, which hyper rejected with this status.
pub(super) fn rejection(status: StatusCode, head: &RequestHead) -> Vec<u8> {
    let (status, error) = match invalid_length(status, head) {
        Some(rejection) => rejection,
        None => (status, cause(status)),
    };
    let body = serde_json::json!({ "error": error }).to_string();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Returns the status and the error of a head that was rejected for its `content-length`. hyper rejects the largest
/// 64-bit numbers like headers that are too large, and larger numbers like malformed heads.
fn invalid_length(status: StatusCode, head: &RequestHead) -> Option<(StatusCode, String)> {
    /// Smallest number that hyper reserves for its own use.
    const RESERVED: u64 = u64::MAX - 1;
    let length = head.content_length()?;
    let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let number = length.parse::<u64>().ok().filter(|_| is_number);
    let is_large = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => number.is_some_and(|it| it >= RESERVED),
        StatusCode::BAD_REQUEST => is_number && number.is_none(),
        _ => return None,
    };
    if is_large {
        let error = format!(
            "header content-length is {}, expected at most {MAX_BODY} bytes (64 MiB)",
            Excerpt(&length)
        );
        return Some((StatusCode::PAYLOAD_TOO_LARGE, error));
    }
    (status == StatusCode::BAD_REQUEST && !is_number).then(|| {
        let error = format!(
            "header content-length is {:?}, expected a whole number of bytes",
            Excerpt(&length)
        );
        (status, error)
    })
}

fn cause(status: StatusCode) -> String {
    match status {
        StatusCode::REQUEST_TIMEOUT => format!(
            "the head of the request arrived too slowly: {} s may pass from its first byte to its end",
            HEAD_TIMEOUT.as_secs()
        ),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            format!("the headers are too large: the maximum is {MAX_HEAD} bytes and 100 headers")
        }
        StatusCode::URI_TOO_LONG => "the path is too long: the maximum is 65,534 bytes".to_owned(),
        _ => "the request is not HTTP/1.1: expected a request line and headers".to_owned(),
    }
}
