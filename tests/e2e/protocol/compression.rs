//! Compression of request and response bodies.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use http::HeaderValue;
use lab::http::HttpResponse;
use serde_json::{Value, json};

use crate::support::{Alone, features, http_event, lambda, s3_with};
use lab::reference::WINE;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

async fn send(
    alone: &Alone,
    body: Vec<u8>,
    headers: &[(&'static str, &'static str)],
) -> HttpResponse {
    let mut request = lab::http::request(http::Method::POST, "/predict", body).unwrap();
    for &(name, value) in headers {
        let value = HeaderValue::from_static(value);
        request.headers_mut().insert(name, value);
    }
    alone.client().send(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_requests() {
    let s3 = s3_with("wine-v1.onnx").await;
    let alone = Alone::ready(&s3, &[]).await;
    let plain = features(9).to_string().into_bytes();
    for (coding, body) in [
        ("gzip", gzip(&plain)),
        ("deflate", zlib(&plain)),
        ("deflate", deflate(&plain)),
        ("identity", plain.clone()),
    ] {
        let answer = send(&alone, body, &[("content-encoding", coding)]).await;
        WINE.v1.check(&answer.json().unwrap(), 0..9);
    }
    for (coding, body, status, words) in [
        ("br", plain.clone(), 415, "gzip, deflate, identity"),
        ("gzip", plain, 400, "content-encoding"),
        // 64 KB that decompress to more than the limit.
        (
            "gzip",
            gzip(&vec![b' '; (64 << 20) + 1]),
            413,
            "67108864 bytes",
        ),
    ] {
        let answer = send(&alone, body, &[("content-encoding", coding)]).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(words), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_responses_are_compressed_if_accepted() {
    let s3 = s3_with("wine-v1.onnx").await;
    let alone = Alone::ready(&s3, &[]).await;
    let rows: Vec<_> = WINE.rows.iter().cycle().take(5_000).collect();
    let large = json!({ "features": rows }).to_string().into_bytes();
    let plain = send(&alone, large.clone(), &[]).await;
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(plain.header("vary"), Some("accept-encoding"));
    let accepts = [("accept-encoding", "gzip, deflate")];
    let answer = send(&alone, large, &accepts).await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(answer.header("x-model-version").is_some());
    assert!(answer.body.len() < plain.body.len() / 2);
    let mut text = Vec::new();
    GzDecoder::new(&*answer.body)
        .read_to_end(&mut text)
        .unwrap();
    assert_eq!(text, plain.body);

    let small = send(&alone, features(1).to_string().into_bytes(), &accepts).await;
    assert_eq!(small.header("content-encoding"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bodies_through_the_handler() {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    let s3 = s3_with("wine-v1.onnx").await;
    let lambda = lambda(&s3).start().await.unwrap();
    let rows: Vec<_> = WINE.rows.iter().cycle().take(5_000).collect();
    let mut event = http_event("POST", "/predict", &Value::Null);
    event["headers"]["content-encoding"] = "gzip".into();
    event["headers"]["accept-encoding"] = "gzip".into();
    let body = gzip(json!({ "features": rows }).to_string().as_bytes());
    event["body"] = BASE64_STANDARD.encode(body).into();
    event["isBase64Encoded"] = true.into();
    let reply = lambda.answer(&event).await.unwrap();
    assert_eq!(reply["statusCode"], 200, "{reply}");
    assert_eq!(reply["headers"]["content-encoding"], "gzip");
    assert_eq!(reply["isBase64Encoded"], true);
    let body = BASE64_STANDARD
        .decode(reply["body"].as_str().unwrap())
        .unwrap();
    let answer: Value = serde_json::from_reader(GzDecoder::new(&*body)).unwrap();
    assert_eq!(answer["prediction"].as_array().unwrap().len(), 5_000);
}
