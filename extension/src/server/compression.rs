//! Compression of responses.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes};
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, VARY,
};

use super::limits::MIN_COMPRESSED;
use super::response::ApiResponse;
use super::response_body::ResponseBody;
use crate::request_memory::Charge;

/// Returns `true` if the caller accepts gzip.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let is_gzip = ["gzip", "x-gzip"]
            .iter()
            .any(|it| name.trim().eq_ignore_ascii_case(it));
        // A weight of zero, in up to four digits, means that the coding is not accepted.
        let is_accepted =
            weight.is_empty() || weight.contains(|digit| ('1'..='9').contains(&digit));
        is_gzip && is_accepted
    })
}

/// Compresses a response of JSON that is large enough, if its caller accepts gzip.
pub(super) async fn compress(mut response: ApiResponse, accepts_gzip: bool) -> ApiResponse {
    let json = HeaderValue::from_static("application/json");
    let is_large = response.body().size_hint().lower() >= MIN_COMPRESSED;
    let is_compressed = response.headers().contains_key(CONTENT_ENCODING);
    if !is_large || is_compressed || response.headers().get(CONTENT_TYPE) != Some(&json) {
        return response;
    }
    let vary = HeaderValue::from_static("accept-encoding");
    response.headers_mut().insert(VARY, vary);
    if !accepts_gzip {
        return response;
    }
    let (mut head, mut body) = response.into_parts();
    let charge = body.take_charge();
    let Ok(whole) = body.collect().await;
    let plain = whole.to_bytes();
    let mut charge = charge.unwrap_or_else(Charge::unlimited);
    // The compressed body is at most about as long. Without memory for it, the plain body is sent.
    if charge.grow(plain.len()).is_err() {
        return ApiResponse::from_parts(head, ResponseBody::from(plain).with_charge(charge));
    }
    let given = plain.clone();
    // CPU time in proportion to the body.
    let compressed = tokio::task::spawn_blocking(move || gzip(&given)).await;
    let body = match compressed {
        Ok(Ok(compressed)) => {
            let gzip = HeaderValue::from_static("gzip");
            head.headers.insert(CONTENT_ENCODING, gzip);
            Bytes::from(compressed)
        }
        // Without a thread, the plain body is sent.
        Ok(Err(_)) | Err(_) => plain,
    };
    charge.shrink(charge.used().saturating_sub(body.len()));
    charge.settle();
    ApiResponse::from_parts(head, ResponseBody::from(body).with_charge(charge))
}

fn gzip(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish()
}

#[cfg(test)]
mod tests;
