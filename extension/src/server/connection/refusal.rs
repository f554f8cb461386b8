//! Answers to requests that hyper refuses before they become any.
//!
//! hyper writes a status without a body and does not say what it found. So the beginning of each head is kept, a copy of
//! a few hundred bytes, and is read when the request was refused.

use hyper::StatusCode;

use super::MAX_HEAD;
use crate::excerpt::Excerpt;
use crate::server::HEAD_TIME;

/// Maximum number of bytes of a head that are kept.
const MAX_KEPT: usize = 1024;

/// The beginning of a request's head.
pub(super) struct Head {
    bytes: [u8; MAX_KEPT],
    length: usize,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            bytes: [0; MAX_KEPT],
            length: 0,
        }
    }
}

impl Head {
    /// Another head begins.
    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// Keeps what there is room for of the head's next part.
    pub(super) fn keep(&mut self, part: &[u8]) {
        let free = &mut self.bytes[self.length..];
        let length = free.len().min(part.len());
        free[..length].copy_from_slice(&part[..length]);
        self.length += length;
    }

    /// The value of the header `content-length`, where it is among what was kept.
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

/// The status of an error without a body.
pub(super) fn refused_by_hyper(data: &[u8]) -> Option<StatusCode> {
    let code = data.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    let status = StatusCode::from_bytes(code).ok()?;
    let has_no_body = || {
        let empty = b"\r\ncontent-length: 0\r\n";
        data.windows(empty.len()).any(|part| part == empty)
    };
    (status.is_client_error() && data.ends_with(b"\r\n\r\n") && has_no_body()).then_some(status)
}

/// The answer to a request with this head, which hyper refused with this status.
pub(super) fn refusal(status: StatusCode, head: &Head) -> Vec<u8> {
    let (status, error) = match wrong_length(status, head) {
        Some(refused) => refused,
        None => (status, words(status)),
    };
    let body = serde_json::json!({ "error": error }).to_string();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The status and the text for a head whose `content-length` is the reason. hyper answers the largest numbers of 64 bits
/// as it answers headers that are too large, and those beyond as what is no HTTP.
fn wrong_length(status: StatusCode, head: &Head) -> Option<(StatusCode, String)> {
    /// hyper has a meaning of its own for the numbers from here on.
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
            "header content-length is {}, and no body of that size is taken",
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

fn words(status: StatusCode) -> String {
    match status {
        StatusCode::REQUEST_TIMEOUT => format!(
            "the head of the request came too slowly: {} s may pass from its first byte to its end",
            HEAD_TIME.as_secs()
        ),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            format!("the headers are too large: {MAX_HEAD} bytes and 100 headers are taken")
        }
        StatusCode::URI_TOO_LONG => "the path is too long: 65,534 bytes are taken".to_owned(),
        _ => "this is no HTTP/1.1 request: a request line and headers are expected".to_owned(),
    }
}
