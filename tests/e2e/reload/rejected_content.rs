//! Damaged or unexpected content: downloaded at most twice, and not again until the source changes.

use bytes::Bytes;
use lab::s3::{Rule, S3Server};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::layout::{BUCKET, answer, manifest, swap_after};
use crate::support::{Alone, error, model};
use lab::reference::WINE;

const MANIFEST: &str = "wine/manifest.json";
const MANIFEST_URI: &str = "s3://forms/wine/manifest.json";
const SECOND: &str = "wine/2/model.onnx";
const PACKED: &str = "wine.onnx.zst";
const GOOD: [(&str, &str); 2] = [("1", "wine-v1.onnx"), ("2", "wine-v2.onnx")];
/// Number of polls that reveal a sidecar which downloads at every poll.
const CHECKS: usize = 6;

fn variables(uri: &str) -> [(&str, &str); 2] {
    [("MODEL_URI", uri), ("MODEL_REFRESH_INTERVAL", "100ms")]
}

/// Starts an S3 server with two versions; the second one's bytes differ from the digest in the manifest.
async fn damaged(current: &str) -> S3Server {
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, "wine/1/model.onnx", model("wine-v1.onnx"));
    let mut other = model("wine-v2.onnx").to_vec();
    *other.last_mut().unwrap() ^= 1;
    s3.put(BUCKET, SECOND, other);
    s3.put(BUCKET, MANIFEST, manifest(current, &GOOD));
    s3
}

/// Number of downloads of `key`.
fn transfers(s3: &S3Server, key: &str) -> usize {
    let requests = s3.requests();
    let sends = |status| matches!(status, Some(200 | 206));
    let sent = requests
        .iter()
        .filter(|one| one.key == key && sends(one.status));
    sent.count()
}

/// Waits for [`CHECKS`] more polls of `key`.
async fn polled_again(s3: &S3Server, key: &str) {
    let count = |requests: &[lab::s3::RequestRecord]| {
        let asked = requests
            .iter()
            .filter(|one| one.key == key && one.status.is_some());
        asked.count()
    };
    let before = count(&s3.requests());
    s3.wait_for_requests("more checks", |requests| count(requests) >= before + CHECKS)
        .await
        .unwrap();
}

async fn reason(alone: &Alone) -> String {
    let said = alone.predict(1).await;
    assert_eq!(said.status, 503, "{}", said.text());
    let said: Value = said.json().unwrap();
    error(&said).to_owned()
}

/// Waits for a log line with these words and for more polls; asserts that the line is not repeated.
async fn logged_once(alone: &Alone, s3: &S3Server, key: &str, words: &str) {
    alone.process.wait_for(words).await.unwrap();
    polled_again(s3, key).await;
    let log = alone.process.log().text();
    let failures = log
        .lines()
        .filter(|line| line.contains(words) && !line.contains("restarting the download"));
    assert_eq!(failures.count(), 1, "{log}");
}

#[tokio::test]
async fn a_digest_mismatch_is_downloaded_twice_until_the_file_changes() {
    let s3 = damaged("1").await;
    let alone = Alone::ready(&s3, &variables(MANIFEST_URI)).await;
    s3.put(BUCKET, MANIFEST, manifest("2", &GOOD));
    logged_once(&alone, &s3, SECOND, "but the manifest declares").await;
    assert_eq!(transfers(&s3, SECOND), 2, "{:?}", s3.requests());
    WINE.v1.check(&answer(&alone).await, 0..9);
    swap_after(&alone, || s3.put(BUCKET, SECOND, model("wine-v2.onnx"))).await;
    WINE.v2.check(&answer(&alone).await, 0..9);
    assert_eq!(transfers(&s3, SECOND), 3);
}

#[tokio::test]
async fn a_corrected_digest_triggers_a_download() {
    let s3 = damaged("1").await;
    let alone = Alone::ready(&s3, &variables(MANIFEST_URI)).await;
    s3.put(BUCKET, SECOND, model("wine-v2.onnx"));
    let wrong = manifest("2", &[("1", "wine-v1.onnx"), ("2", "wine-names.onnx")]);
    let mut wrong: Value = serde_json::from_slice(&wrong).unwrap();
    wrong["versions"]["2"]["files"][0]["size"] = model("wine-v2.onnx").len().into();
    s3.put(BUCKET, MANIFEST, wrong.to_string());
    logged_once(&alone, &s3, SECOND, "but the manifest declares").await;
    assert_eq!(transfers(&s3, SECOND), 2, "{:?}", s3.requests());
    swap_after(&alone, || s3.put(BUCKET, MANIFEST, manifest("2", &GOOD))).await;
    WINE.v2.check(&answer(&alone).await, 0..9);
}

#[tokio::test]
async fn without_a_fallback_requests_get_the_reason() {
    let s3 = damaged("2").await;
    let only = manifest("2", &GOOD[1..]);
    s3.put(BUCKET, MANIFEST, only);
    let cache = TempDir::new().unwrap();
    let cache_dir = ("MODEL_CACHE_DIR", cache.path().to_str().unwrap());
    let variables = [&variables(MANIFEST_URI)[..], &[cache_dir]].concat();
    let alone = Alone::start(&s3, &variables);
    logged_once(&alone, &s3, SECOND, "but the manifest declares").await;
    assert_eq!(transfers(&s3, SECOND), 2, "{:?}", s3.requests());
    let said = reason(&alone).await;
    assert!(said.contains("but the manifest declares"), "{said}");
    alone.process.terminate().await.unwrap();

    // The next start in the same environment remembers the rejection.
    let again = Alone::start(&s3, &variables);
    polled_again(&s3, SECOND).await;
    assert_eq!(transfers(&s3, SECOND), 2, "{:?}", s3.requests());
    s3.put(BUCKET, SECOND, model("wine-v2.onnx"));
    again.process.wait_for("the model is loaded").await.unwrap();
    WINE.v2.check(&answer(&again).await, 0..9);
}

#[tokio::test]
async fn a_size_mismatch_is_not_downloaded() {
    let s3 = damaged("1").await;
    let alone = Alone::ready(&s3, &variables(MANIFEST_URI)).await;
    s3.put(BUCKET, SECOND, model("wine-names.onnx"));
    s3.put(BUCKET, MANIFEST, manifest("2", &GOOD));
    logged_once(&alone, &s3, SECOND, "but the manifest declares").await;
    assert_eq!(transfers(&s3, SECOND), 1, "{:?}", s3.requests());
    WINE.v1.check(&answer(&alone).await, 0..9);
}

fn packed(file: &str) -> Vec<u8> {
    let plain = model(file);
    let mut packed = vec![0; zstd_safe::compress_bound(plain.len())];
    let length = zstd_safe::compress(&mut packed[..], &plain, 3).unwrap();
    packed.truncate(length);
    packed
}

#[tokio::test]
async fn a_damaged_archive_is_downloaded_twice_until_it_changes() {
    let whole = packed("wine-v1.onnx");
    let cut = whole[..whole.len() - 9].to_vec();
    let more = [&whole[..], b"more"].concat();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0xff;
    let mut checked = whole.clone();
    checked.truncate(whole.len() / 3);
    let plain = model("wine-v1.onnx").to_vec();
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03not a whole stream".to_vec();
    for (what, bytes) in [
        ("truncated", cut),
        ("with more behind it", more),
        ("flipped", flipped),
        ("a third", checked),
        ("not compressed", plain),
        ("compressed with gzip", gzip),
        ("empty", Vec::new()),
    ] {
        let s3 = S3Server::start().await.unwrap();
        s3.put(BUCKET, PACKED, bytes);
        let alone = Alone::start(&s3, &variables("s3://forms/wine.onnx.zst"));
        alone
            .process
            .wait_for("no version is loaded")
            .await
            .unwrap();
        polled_again(&s3, PACKED).await;
        let transferred = transfers(&s3, PACKED);
        assert!(transferred <= 2, "{what}: {:?}", s3.requests());
        reason(&alone).await;
        s3.put(BUCKET, PACKED, whole.clone());
        alone.process.wait_for("the model is loaded").await.unwrap();
        WINE.v1.check(&answer(&alone).await, 0..9);
    }
}

#[tokio::test]
async fn a_damaged_archive_keeps_the_active_version() {
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, PACKED, packed("wine-v1.onnx"));
    let alone = Alone::ready(&s3, &variables("s3://forms/wine.onnx.zst")).await;
    let mut bad = packed("wine-v2.onnx");
    bad.truncate(bad.len() - 1);
    s3.put(BUCKET, PACKED, bad);
    logged_once(&alone, &s3, PACKED, "check that the upload was complete").await;
    assert_eq!(transfers(&s3, PACKED), 3, "{:?}", s3.requests());
    WINE.v1.check(&answer(&alone).await, 0..9);

    s3.put(BUCKET, PACKED, packed("wine-v1.onnx"));
    polled_again(&s3, PACKED).await;
    WINE.v1.check(&answer(&alone).await, 0..9);
    let settled = transfers(&s3, PACKED);
    polled_again(&s3, PACKED).await;
    assert_eq!(transfers(&s3, PACKED), settled, "{:?}", s3.requests());
    swap_after(&alone, || s3.put(BUCKET, PACKED, packed("wine-v2.onnx"))).await;
    WINE.v2.check(&answer(&alone).await, 0..9);
}

#[tokio::test]
async fn content_encoding_of_an_object_is_ignored() {
    for encoding in ["gzip", "aws-chunked", "zstd", "br"] {
        let s3 = S3Server::start().await.unwrap();
        s3.put(BUCKET, "wine.onnx", model("wine-v1.onnx"));
        s3.fail(Rule::on("GET").answer_header("content-encoding", encoding));
        let alone = Alone::ready(&s3, &variables("s3://forms/wine.onnx")).await;
        WINE.v1.check(&answer(&alone).await, 0..9);
        assert_eq!(transfers(&s3, "wine.onnx"), 1, "{encoding}");
    }
}

#[tokio::test]
async fn a_file_of_another_format_is_named_and_downloaded_once() {
    let plain = model("wine-v1.onnx");
    for (bytes, word) in [
        (gzip(&plain), "compressed with gzip (it begins with 1f 8b)"),
        (packed("wine-v1.onnx"), "compressed with Zstandard"),
        (b"PK\x03\x04 and more".to_vec(), "a zip archive"),
        (
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            "Git LFS",
        ),
    ] {
        let s3 = S3Server::start().await.unwrap();
        s3.put(BUCKET, "wine.onnx", bytes);
        s3.fail(Rule::on("GET").answer_header("content-encoding", "gzip"));
        let alone = Alone::start(&s3, &variables("s3://forms/wine.onnx"));
        logged_once(&alone, &s3, "wine.onnx", word).await;
        assert_eq!(
            transfers(&s3, "wine.onnx"),
            1,
            "{word}: {:?}",
            s3.requests()
        );
        let said = reason(&alone).await;
        assert!(said.contains(word), "{said}");
    }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn object_versions_are_listed_once_until_a_change() {
    let s3 = S3Server::start().await.unwrap();
    let key = "wine.onnx";
    for bytes in [Bytes::from_static(b"bad"), Bytes::from_static(b"worse")] {
        s3.put(BUCKET, key, bytes);
    }
    let alone = Alone::start(&s3, &variables("s3://forms/wine.onnx"));
    alone
        .process
        .wait_for("no version is loaded")
        .await
        .unwrap();
    polled_again(&s3, key).await;
    let listings = |s3: &S3Server| {
        let requests = s3.requests();
        let listed = requests.iter().filter(|one| one.query.contains("versions"));
        listed.count()
    };
    assert_eq!(listings(&s3), 1, "{:?}", s3.requests());
    // A new version triggers another listing, even if it is bad.
    s3.put(BUCKET, key, Bytes::from_static(b"worst"));
    polled_again(&s3, key).await;
    assert_eq!(listings(&s3), 2, "{:?}", s3.requests());
    assert_eq!(transfers(&s3, key), 3, "{:?}", s3.requests());
    s3.put(BUCKET, key, model("wine-v2.onnx"));
    alone.process.wait_for("the model is loaded").await.unwrap();
    WINE.v2.check(&answer(&alone).await, 0..9);
}

#[tokio::test]
async fn rejected_fallbacks_of_a_repository_are_not_downloaded_again() {
    let s3 = S3Server::start().await.unwrap();
    for number in ["1", "2", "3"] {
        s3.put(
            BUCKET,
            &format!("wine/{number}/model.onnx"),
            format!("bad {number}"),
        );
    }
    let alone = Alone::start(&s3, &variables("s3://forms/"));
    alone
        .process
        .wait_for("no version is loaded")
        .await
        .unwrap();
    polled_again(&s3, "wine/3/model.onnx").await;
    let sent = ["1", "2", "3"].map(|number| transfers(&s3, &format!("wine/{number}/model.onnx")));
    assert_eq!(sent, [1, 1, 1], "{:?}", s3.requests());
    s3.put(BUCKET, "wine/1/model.onnx", model("wine-v1.onnx"));
    alone.process.wait_for("the model is loaded").await.unwrap();
    WINE.v1.check(&answer(&alone).await, 0..9);
}
