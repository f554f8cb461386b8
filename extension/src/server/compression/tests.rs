use flate2::read::GzDecoder;
use hyper::StatusCode;
use std::io::Read as _;

use super::*;
use crate::server::response::json;

#[test]
fn accept_encoding_says_whether_gzip_is_accepted() {
    let headers = |value| {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
        headers
    };
    for (value, expected) in [
        ("gzip", true),
        ("deflate, GZIP;q=0.5", true),
        ("br;q=1.0, gzip; q=0.8", true),
        ("gzip;q=0", false),
        ("gzip; q=0.000", false),
        ("deflate, br", false),
        ("", false),
    ] {
        let accepts = accepts_gzip(&headers(value));
        assert_eq!(accepts, expected, "{value}");
    }
    assert!(!accepts_gzip(&HeaderMap::new()));
}

#[tokio::test]
async fn a_large_response_is_compressed_if_its_caller_accepts_gzip() {
    let large = vec![b'1'; usize::try_from(MIN_COMPRESSED).unwrap()];
    let response =
        async |body: &[u8], accepts| compress(json(StatusCode::OK, body.to_vec()), accepts).await;
    let compressed = response(&large, true).await;
    assert_eq!(compressed.headers()[CONTENT_ENCODING], "gzip");
    let Ok(body) = compressed.into_body().collect().await;
    let body = body.to_bytes();
    assert!(body.len() < large.len() / 10);
    let mut restored = Vec::new();
    GzDecoder::new(&*body).read_to_end(&mut restored).unwrap();
    assert_eq!(restored, large);

    for (body, accepts) in [(&large[..], false), (&large[1..], true)] {
        let plain = response(body, accepts).await;
        assert_eq!(plain.headers().get(CONTENT_ENCODING), None);
    }
}
