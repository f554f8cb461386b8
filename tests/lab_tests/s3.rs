//! The lab's S3 without faults, through a client.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use bytes::Bytes;
use lab::credentials::{ACCESS_KEY, SECRET_KEY};
use lab::s3::{Checksum, S3Server};

/// Status and error code of a failed call.
fn failure<E: ProvideErrorMetadata>(
    error: &SdkError<E, aws_sdk_s3::config::http::HttpResponse>,
) -> (u16, Option<&str>) {
    let status = error.raw_response().unwrap().status().as_u16();
    (status, error.as_service_error().unwrap().code())
}

#[tokio::test]
async fn a_get_returns_the_object_with_its_version_and_etag() {
    let s3 = S3Server::start().await.unwrap();
    let version = s3.put("models", "fraud/a model.onnx", "one");
    let client = s3.client();
    let get = client
        .get_object()
        .bucket("models")
        .key("fraud/a model.onnx");
    let answer = get.send().await.unwrap();
    assert_eq!(answer.version_id(), Some(version.as_str()));
    assert_eq!(answer.e_tag(), Some("\"f97c5d29941bfb1b2fdab0874906ab82\""));
    assert_eq!(answer.content_length(), Some(3));
    assert_eq!(answer.body.collect().await.unwrap().to_vec(), b"one");

    let head = client
        .head_object()
        .bucket("models")
        .key("fraud/a model.onnx");
    let answer = head.send().await.unwrap();
    assert_eq!(answer.content_length(), Some(3));
    assert!(answer.last_modified().is_some());

    let seen = s3
        .wait_for_requests("both answered", |all| {
            all.iter().filter(|one| one.took.is_some()).count() == 2
        })
        .await
        .unwrap();
    assert_eq!(
        (seen[0].method.as_str(), seen[0].status, seen[0].sent),
        ("GET", Some(200), 3)
    );
    assert_eq!(seen[0].key, "fraud/a model.onnx");
    assert_eq!(
        (seen[1].method.as_str(), seen[1].status, seen[1].sent),
        ("HEAD", Some(200), 0)
    );
}

#[tokio::test]
async fn an_unchanged_object_is_not_sent_again() {
    let s3 = S3Server::start().await.unwrap();
    s3.put("models", "m", "one");
    let client = s3.client();
    let etag = s3.get("models", "m").unwrap().etag;
    let quoted = format!("\"{etag}\"");

    let get = client.get_object().bucket("models").key("m");
    let error = get.clone().if_none_match(&quoted).send().await.unwrap_err();
    let raw = error.raw_response().unwrap();
    assert_eq!(raw.status().as_u16(), 304);
    assert_eq!(raw.headers().get("etag"), Some(quoted.as_str()));

    let head = client.head_object().bucket("models").key("m");
    let error = head.if_none_match(&quoted).send().await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 304);

    let modified = get
        .clone()
        .send()
        .await
        .unwrap()
        .last_modified()
        .copied()
        .unwrap();
    let error = get
        .clone()
        .if_modified_since(modified)
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 304);

    s3.put("models", "m", "two");
    let answer = get.if_none_match(&quoted).send().await.unwrap();
    assert_eq!(answer.body.collect().await.unwrap().to_vec(), b"two");
    assert_eq!(s3.requests()[0].if_none_match, Some(quoted));
}

#[tokio::test]
async fn parts_are_pinned_to_one_version() {
    let s3 = S3Server::start().await.unwrap();
    let first = s3.put("models", "m", "0123456789");
    let client = s3.client();
    let get = client.get_object().bucket("models").key("m");
    let etag = format!("\"{}\"", s3.get("models", "m").unwrap().etag);

    let part = get
        .clone()
        .if_match(&etag)
        .range("bytes=2-4")
        .send()
        .await
        .unwrap();
    assert_eq!(part.content_range(), Some("bytes 2-4/10"));
    assert_eq!(part.body.collect().await.unwrap().to_vec(), b"234");
    let tail = get.clone().range("bytes=-3").send().await.unwrap();
    assert_eq!(tail.body.collect().await.unwrap().to_vec(), b"789");
    let error = get.clone().range("bytes=10-").send().await.unwrap_err();
    assert_eq!(failure(&error), (416, Some("InvalidRange")));

    s3.put("models", "m", "abcdefghij");
    let error = get
        .clone()
        .if_match(&etag)
        .range("bytes=5-9")
        .send()
        .await
        .unwrap_err();
    assert_eq!(failure(&error), (412, Some("PreconditionFailed")));
    let old = get
        .version_id(&first)
        .range("bytes=5-9")
        .send()
        .await
        .unwrap();
    assert_eq!(old.body.collect().await.unwrap().to_vec(), b"56789");
    let last = s3.requests().pop().unwrap();
    assert_eq!(
        (last.status, last.version_id, last.range.as_deref()),
        (Some(206), Some(first), Some("bytes=5-9"))
    );
}

#[tokio::test]
async fn a_delete_leaves_a_marker_and_the_versions() {
    let s3 = S3Server::start().await.unwrap();
    let first = s3.put("models", "m", "one");
    let client = s3.client();
    let deleted = client
        .delete_object()
        .bucket("models")
        .key("m")
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.delete_marker(), Some(true));
    let get = client.get_object().bucket("models").key("m");
    let error = get.clone().send().await.unwrap_err();
    assert_eq!(failure(&error), (404, Some("NoSuchKey")));
    assert_eq!(
        error
            .raw_response()
            .unwrap()
            .headers()
            .get("x-amz-delete-marker"),
        Some("true")
    );
    get.clone().version_id(&first).send().await.unwrap();
    let error = get.version_id("no-such-version").send().await.unwrap_err();
    assert_eq!(failure(&error), (404, Some("NoSuchVersion")));

    let marker = s3.versions("models", "m").pop().unwrap();
    assert!(marker.is_delete_marker);
    s3.delete_version("models", "m", &marker.version_id);
    assert_eq!(s3.get("models", "m").unwrap().version_id, first);
}

#[tokio::test]
async fn versions_are_listed_the_newest_first_with_their_markers() {
    let s3 = S3Server::start().await.unwrap();
    let first = s3.put("models", "m", "one");
    let second = s3.put("models", "m", "two");
    s3.put("models", "m.zst", "other");
    let list = s3.client().list_object_versions().bucket("models");
    let list = list.prefix("m");
    let page = list.clone().max_keys(2).send().await.unwrap();
    let of_page = page.versions().iter();
    let seen: Vec<_> = of_page
        .map(|version| (version.version_id(), version.is_latest(), version.e_tag()))
        .collect();
    let etag = "\"f97c5d29941bfb1b2fdab0874906ab82\"";
    assert_eq!(seen[0].0, Some(second.as_str()));
    assert_eq!(seen[1], (Some(first.as_str()), Some(false), Some(etag)));
    assert_eq!((seen[0].1, page.is_truncated()), (Some(true), Some(true)));

    s3.delete("models", "m");
    let page = list.send().await.unwrap();
    let [marker] = page.delete_markers() else {
        panic!("one marker: {page:?}")
    };
    assert_eq!((marker.key(), marker.is_latest()), (Some("m"), Some(true)));
    let latest = page
        .versions()
        .iter()
        .filter(|one| one.is_latest() == Some(true));
    let latest: Vec<_> = latest.map(|one| one.key()).collect();
    assert_eq!(latest, [Some("m.zst")]);
}

#[tokio::test]
async fn an_unversioned_bucket_drops_overwritten_objects() {
    let s3 = S3Server::start().await.unwrap();
    s3.keep_versions("models", false);
    s3.put("models", "m", "one");
    s3.put("models", "m", "two");
    assert_eq!(s3.versions("models", "m").len(), 1);
    let client = s3.client();
    let answer = client
        .get_object()
        .bucket("models")
        .key("m")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.version_id(), None);
    s3.delete("models", "m");
    assert!(s3.versions("models", "m").is_empty());
}

#[tokio::test]
async fn uploads_keep_the_checksum_that_came_with_them() {
    let s3 = S3Server::start().await.unwrap();
    s3.create_bucket("models");
    let client = s3.client();
    let put = |key: &str| client.put_object().bucket("models").key(key);
    // The SDK adds a CRC32, in a header for a body in memory and in a trailer for a stream.
    put("memory")
        .body(ByteStream::from_static(b"abc"))
        .send()
        .await
        .unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![7; 300_000]).unwrap();
    let stream = ByteStream::from_path(file.path()).await.unwrap();
    put("stream").body(stream).send().await.unwrap();
    let crc64 = put("crc64").checksum_algorithm(ChecksumAlgorithm::Crc64Nvme);
    crc64
        .body(ByteStream::from_static(b"abc"))
        .send()
        .await
        .unwrap();

    let stored = s3.get("models", "memory").unwrap();
    assert_eq!(stored.checksum, Checksum::Crc32("NSRBwg==".into()));
    let stored = s3.get("models", "stream").unwrap();
    assert_eq!(stored.bytes.len(), 300_000);
    assert!(matches!(stored.checksum, Checksum::Crc32(_)));
    assert!(matches!(
        s3.get("models", "crc64").unwrap().checksum,
        Checksum::Crc64Nvme(_)
    ));

    for key in ["memory", "stream", "crc64"] {
        let get = client.get_object().bucket("models").key(key);
        let answer = get
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.checksum_type().unwrap().as_str(), "FULL_OBJECT");
        answer.body.collect().await.unwrap();
    }
    let head = client.head_object().bucket("models").key("crc64");
    let answer = head
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await
        .unwrap();
    assert!(answer.checksum_crc64_nvme().is_some());
    let part = client.get_object().bucket("models").key("crc64");
    let part = part.checksum_mode(ChecksumMode::Enabled).range("bytes=0-9");
    let part = part.send().await.unwrap();
    assert_eq!(part.checksum_type(), None, "a part of an object has none");
    assert_eq!(part.checksum_crc64_nvme(), None);

    let wrong = put("wrong")
        .checksum_crc32("AAAAAA==")
        .body(ByteStream::from_static(b"abc"));
    let error = wrong.send().await.unwrap_err();
    assert_eq!(failure(&error), (400, Some("BadDigest")));
    assert!(s3.get("models", "wrong").is_none());
}

#[tokio::test]
async fn of_two_conditional_uploads_one_wins() {
    let s3 = S3Server::start().await.unwrap();
    s3.create_bucket("models");
    let client = s3.client();
    let put = || {
        client
            .put_object()
            .bucket("models")
            .key("m")
            .body(ByteStream::from_static(b"x"))
    };
    put().if_none_match("*").send().await.unwrap();
    let error = put().if_none_match("*").send().await.unwrap_err();
    assert_eq!(failure(&error), (412, Some("PreconditionFailed")));
    let error = put().if_match("\"other\"").send().await.unwrap_err();
    assert_eq!(failure(&error), (412, Some("PreconditionFailed")));
}

#[tokio::test]
async fn only_the_right_keys_are_accepted() {
    let s3 = S3Server::start().await.unwrap();
    s3.put("models", "m", "one");
    let client = s3.client_with(ACCESS_KEY, "not the secret");
    let error = client
        .get_object()
        .bucket("models")
        .key("m")
        .send()
        .await
        .unwrap_err();
    assert_eq!(failure(&error), (403, Some("SignatureDoesNotMatch")));
    let client = s3.client_with("AKIASOMEBODYELSE0000", SECRET_KEY);
    let error = client
        .get_object()
        .bucket("models")
        .key("m")
        .send()
        .await
        .unwrap_err();
    assert_eq!(failure(&error), (403, Some("InvalidAccessKeyId")));
    let unsigned = lab::http::Client::tcp(s3.port());
    assert_eq!(unsigned.get("/models/m").await.unwrap().status, 403);
}

#[tokio::test]
async fn a_missing_key_may_look_forbidden() {
    let s3 = S3Server::start().await.unwrap();
    s3.put("models", "there", "one");
    let client = s3.client();
    let get = |bucket: &str| client.get_object().bucket(bucket).key("missing");
    let head = client.head_object().bucket("models").key("missing");
    assert_eq!(
        failure(&get("models").send().await.unwrap_err()),
        (404, Some("NoSuchKey"))
    );
    assert_eq!(
        failure(&get("nowhere").send().await.unwrap_err()),
        (404, Some("NoSuchBucket"))
    );
    let error = head.clone().send().await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 404);
    assert_eq!(error.raw_response().unwrap().body().bytes(), Some(&b""[..]));

    s3.list_permission(false);
    assert_eq!(
        failure(&get("models").send().await.unwrap_err()),
        (403, Some("AccessDenied"))
    );
    let error = head.send().await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 403);
    assert_eq!(error.raw_response().unwrap().body().bytes(), Some(&b""[..]));
    let list = client
        .list_objects_v2()
        .bucket("models")
        .send()
        .await
        .unwrap_err();
    assert_eq!(failure(&list), (403, Some("AccessDenied")));
}

#[tokio::test]
async fn with_a_delimiter_a_folder_is_one_entry_of_the_listing() {
    let s3 = S3Server::start().await.unwrap();
    for key in ["a/1/x", "a/1/y", "a/2/x", "a/file", "b/1/x"] {
        s3.put("models", key, key);
    }
    let list = s3.client().list_objects_v2().bucket("models");
    let list = list.prefix("a/").delimiter("/").max_keys(2);
    let page = list.clone().send().await.unwrap();
    let folders = |page: &aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output| {
        let folders = page.common_prefixes().iter();
        folders
            .map(|folder| folder.prefix().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(folders(&page), ["a/1/", "a/2/"]);
    let next = list.continuation_token(page.next_continuation_token().unwrap());
    let page = next.send().await.unwrap();
    assert_eq!(folders(&page), [""; 0]);
    assert_eq!(page.contents()[0].key(), Some("a/file"));
    assert_eq!(
        (page.key_count(), page.is_truncated()),
        (Some(1), Some(false))
    );
}

#[tokio::test]
async fn a_prefix_is_listed_page_by_page() {
    let s3 = S3Server::start().await.unwrap();
    for key in ["a/1", "a/2", "a/3", "a/4", "b/1"] {
        s3.put("models", key, key);
    }
    s3.delete("models", "a/3");
    let client = s3.client();
    let list = client
        .list_objects_v2()
        .bucket("models")
        .prefix("a/")
        .max_keys(2);
    let page = list.clone().send().await.unwrap();
    let keys = |page: &[aws_sdk_s3::types::Object]| -> Vec<String> {
        page.iter()
            .map(|one| one.key().unwrap().to_owned())
            .collect()
    };
    assert_eq!(keys(page.contents()), ["a/1", "a/2"]);
    let next = list.continuation_token(page.next_continuation_token().unwrap());
    let page = next.send().await.unwrap();
    assert_eq!(keys(page.contents()), ["a/4"]);
    assert_eq!(page.is_truncated(), Some(false));
}

#[tokio::test]
async fn a_large_object_is_sent_complete_and_uncopied() {
    let s3 = S3Server::start().await.unwrap();
    let large = Bytes::from(vec![42; 64 << 20]);
    s3.put("models", "large", large.clone());
    assert_eq!(
        s3.get("models", "large").unwrap().bytes.as_ptr(),
        large.as_ptr()
    );
    let client = s3.client();
    let answer = client
        .get_object()
        .bucket("models")
        .key("large")
        .send()
        .await
        .unwrap();
    let mut body = answer.body;
    let mut size = 0;
    while let Some(chunk) = body.try_next().await.unwrap() {
        assert!(chunk.iter().all(|byte| *byte == 42));
        size += chunk.len();
    }
    assert_eq!(size, 64 << 20);
}

#[tokio::test]
async fn with_tls_clients_that_trust_its_authority_accept_it() {
    let s3 = S3Server::start_tls().await.unwrap();
    s3.put("models", "m", "one");
    assert!(s3.url().starts_with("https://"));
    let trusting = tls::TrustStore::empty()
        .with_native_roots(false)
        .with_pem_certificate(s3.authority().unwrap());
    let trusting = tls::TlsContext::builder().with_trust_store(trusting);
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .tls_context(trusting.build().unwrap())
        .build_https();
    let config = s3.client().config().to_builder().http_client(http);
    let client = aws_sdk_s3::Client::from_conf(config.build());
    let get = client.get_object().bucket("models").key("m");
    let answer = get.send().await.unwrap();
    assert_eq!(answer.body.collect().await.unwrap().to_vec(), b"one");

    // No request was sent: only one was recorded.
    let get = s3.client().get_object().bucket("models").key("m");
    let error = get.send().await.unwrap_err();
    assert!(matches!(error, SdkError::DispatchFailure(_)), "{error:?}");
    assert_eq!(s3.requests().len(), 1);
}
