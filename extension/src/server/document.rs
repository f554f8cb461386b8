//! The `OpenAPI` document: the file that is checked in as `docs/openapi.json`.

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, HeaderValue, VARY};

use super::MAX_BODY;
use super::answer::{Answer, json};
use super::compression::Coding;
use super::error::ApiError;
use crate::request_memory::Charge;

/// The document, compressed while the sidecar was built.
const COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz"));

/// The document, as its caller takes it.
pub(super) fn answer(accepts_gzip: bool) -> Result<Answer, ApiError> {
    let compressed = Bytes::from_static(COMPRESSED);
    let mut answer = if accepts_gzip {
        let mut answer = json(StatusCode::OK, compressed);
        let gzip = HeaderValue::from_static("gzip");
        answer.headers_mut().insert(CONTENT_ENCODING, gzip);
        answer
    } else {
        // Short work: some tens of KB.
        let mut charge = Charge::unlimited();
        let plain = Coding::Gzip.decode_now(&compressed, MAX_BODY, &mut charge)?;
        json(StatusCode::OK, plain)
    };
    let vary = HeaderValue::from_static("accept-encoding");
    answer.headers_mut().insert(VARY, vary);
    Ok(answer)
}

#[cfg(test)]
mod tests;
