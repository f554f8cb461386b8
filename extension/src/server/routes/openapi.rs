//! `GET /openapi.json`: the `OpenAPI` document, which is checked in as `docs/openapi.json`.

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, HeaderValue, VARY};

use crate::request_memory::Charge;
use crate::server::decompression::Coding;
use crate::server::error::ApiError;
use crate::server::limits::MAX_BODY;
use crate::server::response::{ApiResponse, json};

/// The document, compressed at build time.
const COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz"));

/// Returns the document, compressed if the caller accepts gzip.
pub(in crate::server) fn openapi(accepts_gzip: bool) -> Result<ApiResponse, ApiError> {
    let compressed = Bytes::from_static(COMPRESSED);
    let mut response = if accepts_gzip {
        let mut response = json(StatusCode::OK, compressed);
        let gzip = HeaderValue::from_static("gzip");
        response.headers_mut().insert(CONTENT_ENCODING, gzip);
        response
    } else {
        // Tens of KB: not worth a blocking thread.
        let mut charge = Charge::unlimited();
        let plain = Coding::Gzip.decompress(&compressed, MAX_BODY, &mut charge)?;
        json(StatusCode::OK, plain)
    };
    let vary = HeaderValue::from_static("accept-encoding");
    response.headers_mut().insert(VARY, vary);
    Ok(response)
}

#[cfg(test)]
mod tests;
