//! Errors of the source in responses: a short reason without names of buckets, keys, accounts, roles and paths.
//!
//! The log has the details.

use std::fmt::Write as _;

use http::Method;
use lab::s3::{Rule, S3Server};
use serde_json::json;

use crate::support::layout::manifest;
use crate::support::{Alone, model, now_ms};

const BUCKET: &str = "acme-prod-artifacts";
const KEY: &str = "teams/riskdesk/scoring-net.onnx";
const MANIFEST: &str = "teams/riskdesk/published.json";
/// Strings that no response may contain: bucket, folder and file of the key, account, role, session, key and request.
const SECRETS: [&str; 9] = [
    BUCKET,
    "riskdesk",
    "scoring-net",
    "published.json",
    "111122223333",
    "arn:aws",
    "risk-role",
    "1234abcd",
    "REQ4442587FB7D0A2F9",
];
const MESSAGE: &str = "User: arn:aws:sts::111122223333:assumed-role/risk-role/i-1 is not authorized to perform: \
                       s3:GetObject on resource: arn:aws:s3:::acme-prod-artifacts/teams/riskdesk/scoring-net.onnx";

const PATHS: [&str; 15] = [
    "/",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/stats",
    "/v2/models/wine",
    "/v2/models/wine/config",
    "/v2/models/wine/ready",
    "/v2/models/wine/stats",
    "/v2/models/wine/versions/1",
    "/v2/models/wine/versions/1/ready",
    "/v1/models/wine",
    "/v1/models/wine/metadata",
    "/v1/models/wine/versions/1",
    "/openapi.json",
];
const POSTS: [&str; 5] = [
    "/predict",
    "/v2/models/wine/infer",
    "/v1/models/wine:predict",
    "/v2/repository/index",
    "/v2/repository/models/wine/load",
];

/// Sends a request to every path, and returns all responses.
async fn responses(alone: &Alone) -> String {
    let mut all = String::new();
    let get = PATHS.iter().map(|path| (Method::GET, path, Vec::new()));
    let body = json!({"features": [1.0]}).to_string().into_bytes();
    let post = POSTS.iter().map(|path| match *path {
        "/v2/repository/index" | "/v2/repository/models/wine/load" => {
            (Method::POST, path, b"{}".to_vec())
        }
        _ => (Method::POST, path, body.clone()),
    });
    for (method, path, body) in get.chain(post) {
        let mut request = lab::http::request(method.clone(), path, body).unwrap();
        let deadline = http::HeaderValue::from(now_ms() + 5_000);
        request
            .headers_mut()
            .insert("lambda-runtime-deadline-ms", deadline);
        let answer = alone.client().send(request).await.unwrap();
        let (status, text) = (answer.status, answer.text());
        let _ = writeln!(all, "{method} {path}: {status} {text}");
    }
    all
}

/// Asserts that responses contain `words` and none of [`SECRETS`], and that the log contains `in_log`.
async fn assert_reported(alone: &Alone, words: &str, in_log: &str) {
    alone.process.wait_for(in_log).await.unwrap();
    let said = responses(alone).await;
    assert!(said.contains(words), "{words}: {said}");
    let folder = alone.cache();
    let folder = folder.to_str().unwrap();
    for secret in SECRETS.iter().chain([&folder]) {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
}

fn variables(uri: &str) -> Vec<(&str, &str)> {
    vec![
        ("MODEL_URI", uri),
        ("MODEL_REFRESH_INTERVAL", "100ms"),
        ("MODEL_REPOSITORY_API", "true"),
    ]
}

fn error(status: u16, code: &str) -> Rule {
    let id = "<RequestId>REQ4442587FB7D0A2F9</RequestId>";
    let rule = Rule::any().error(status, code, MESSAGE, id);
    rule.header("x-amz-request-id", "REQ4442587FB7D0A2F9")
}

#[tokio::test]
async fn errors_of_s3_are_for_the_log() {
    let uri = format!("s3://{BUCKET}/{KEY}");
    for (status, code, words) in [
        (403, "AccessDenied", "access denied by S3 (403)"),
        (403, "111122223333", "access denied by S3 (403)"),
        (
            400,
            "KMS.DisabledException",
            "cannot use the KMS key of the object (400)",
        ),
        (
            301,
            "PermanentRedirect",
            "the bucket is in another region (301)",
        ),
        (404, "NoSuchBucket", "S3 has no such bucket (404)"),
        (404, "NoSuchKey", "S3 has no such object (404)"),
        (403, "InvalidObjectState", "the object is archived (403)"),
        (400, "arn:aws:risk-role", "S3 rejected the request (400)"),
        (500, "InternalError", "internal error of S3 (500)"),
        (503, "SlowDown", "S3 is throttling (503)"),
    ] {
        let s3 = S3Server::start().await.unwrap();
        s3.fail(error(status, code));
        let alone = Alone::start(&s3, &variables(&uri));
        assert_reported(&alone, words, "risk-role").await;
    }
}

#[tokio::test]
async fn an_active_model_reveals_no_more() {
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, KEY, model("wine-v1.onnx"));
    let uri = format!("s3://{BUCKET}/{KEY}");
    let alone = Alone::ready(&s3, &variables(&uri)).await;
    s3.fail(error(403, "AccessDenied"));
    assert_reported(&alone, "access denied by S3 (403)", "risk-role").await;
}

#[tokio::test]
async fn an_invalid_model_is_reported_without_its_key() {
    let uri = format!("s3://{BUCKET}/{KEY}");
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, KEY, model("garbage.onnx"));
    let alone = Alone::start(&s3, &variables(&uri));
    assert_reported(
        &alone,
        "ONNX Runtime cannot load the model",
        "no version is loaded",
    )
    .await;

    let archive = format!("{uri}.zst");
    s3.put(BUCKET, &format!("{KEY}.zst"), "not an archive");
    let alone = Alone::start(&s3, &variables(&archive));
    assert_reported(&alone, "cannot decompress a file of the model", KEY).await;
}

#[tokio::test]
async fn an_invalid_manifest_is_reported_without_its_key() {
    let uri = format!("s3://{BUCKET}/{MANIFEST}");
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, MANIFEST, "{\"arn:aws\": 1}");
    let alone = Alone::start(&s3, &variables(&uri));
    assert_reported(&alone, "cannot apply the manifest", MANIFEST).await;

    s3.put(BUCKET, MANIFEST, manifest("1", &[("1", "wine-v1.onnx")]));
    s3.put(BUCKET, "teams/riskdesk/1/model.onnx", "other bytes");
    assert_reported(&alone, "but the manifest declares", "riskdesk/1/model.onnx").await;
}

#[tokio::test]
async fn an_empty_repository_is_reported_without_its_folders() {
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, "teams/riskdesk/notes.txt", "x");
    let uri = format!("s3://{BUCKET}/teams/");
    let alone = Alone::start(&s3, &variables(&uri));
    assert_reported(&alone, "the repository has no version to serve", "riskdesk").await;
}

#[tokio::test]
async fn a_missing_file_is_reported_without_its_path() {
    let s3 = S3Server::start().await.unwrap();
    let uri = "file:///mnt/riskdesk/scoring-net.onnx";
    let alone = Alone::start(&s3, &variables(uri));
    assert_reported(&alone, "there is no such file", "riskdesk").await;
}

#[tokio::test]
async fn an_unreachable_source_is_reported_without_its_address() {
    let mut s3 = S3Server::start().await.unwrap();
    s3.down().await;
    let uri = format!("s3://{BUCKET}/{KEY}");
    let alone = Alone::start(&s3, &variables(&uri));
    assert_reported(&alone, "no connection to S3", BUCKET).await;
    let said = responses(&alone).await;
    assert!(!said.contains(&s3.port().to_string()), "{said}");
}
