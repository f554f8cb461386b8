//! Expected lengths and digests, and compressed files.

use super::*;

fn expected(bytes: &[u8]) -> Expected {
    Expected {
        size: bytes.len() as u64,
        digest: Digest::of(Sha256::new().chain_update(bytes)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_of_an_unexpected_length_is_rejected_before_the_transfer() {
    let source = ScriptedSource::new(b"0123456789", []);
    let mut environment = TestEnvironment::new();
    environment.expected = Some(expected(b"012345678"));
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    let message = "s3://b/m.onnx has 10 bytes, but the manifest declares 9";
    assert_eq!(
        (error.to_string().as_str(), error.is_transient()),
        (message, false)
    );
    assert_eq!(source.take_requests(), [SourceRequest::Open(None)]);
    assert_eq!((source.delivered(), environment.partials()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn bytes_with_an_unexpected_digest_are_fetched_once_more() {
    let mut environment = TestEnvironment::new();
    environment.expected = Some(expected(b"0123456789"));
    let source = ScriptedSource::new(b"012345678!", []);
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    let (declared, found) = (
        expected(b"0123456789").digest,
        expected(b"012345678!").digest,
    );
    let message =
        format!("s3://b/m.onnx has the SHA-256 {found}, but the manifest declares {declared}");
    assert_eq!((error.to_string(), error.is_transient()), (message, false));
    assert_eq!(
        source.take_requests(),
        [SourceRequest::Open(None), SourceRequest::Open(None)]
    );
    assert_eq!(environment.partials(), 0);

    // The bytes of an earlier process are compared too.
    let source = ScriptedSource::new(b"!12345678!", [ScriptedEvent::Killed(4)]);
    environment.fetch_killed(&source).await;
    source.set_object("1", b"0123456789");
    let (fetched, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!(
        (bytes.as_slice(), fetched.transferred),
        (&b"0123456789"[..], 6 + 10)
    );
}

/// Returns a source that has `bytes` in one frame, and an environment that decompresses them.
fn compressed(
    bytes: &[u8],
    script: impl IntoIterator<Item = ScriptedEvent>,
) -> (ScriptedSource, TestEnvironment) {
    let mut environment = TestEnvironment::with(THREE_CONNECTIONS);
    environment.compression = Compression::Zstd;
    let source = ScriptedSource::with_encoding(|bytes| DEFAULT.compress(bytes), bytes, script);
    (source, environment)
}

#[tokio::test(start_paused = true)]
async fn only_the_decompressed_file_is_kept() {
    let bytes = vec![7; 5_000];
    let (source, mut environment) = compressed(&bytes, []);
    environment.expected = Some(expected(&bytes));
    let size = lock(&source.0.object).1.len() as u64;
    let (fetched, arrived) = environment.fetch(&source).await.unwrap().unwrap();
    assert!(arrived == bytes && size < 100);
    assert_eq!((fetched.size, fetched.transferred), (5_000, size));
    let files = environment.directory.path().join("files");
    assert_eq!(
        (
            std::fs::read_dir(files).unwrap().count(),
            environment.partials()
        ),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_compressed_download_resumes_after_a_kill() {
    let bytes: Vec<u8> = (0..=255).collect();
    let (source, environment) = compressed(
        &bytes,
        [
            ScriptedEvent::Stalls(4),
            ScriptedEvent::Killed(6),
            ScriptedEvent::Stalls(8),
        ],
    );
    let size = lock(&source.0.object).1.len() as u64;
    assert!(environment.fetch(&source).await.is_none());
    let before = source.delivered();
    let (fetched, arrived) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!((arrived, fetched.transferred), (bytes, size - before));
}

#[tokio::test(start_paused = true)]
async fn invalid_data_are_fetched_once_more_unless_the_header_is_the_cause() {
    let (source, environment) = compressed(&[7; 500], []);
    source.set_object("1", b"this is no zstd at all");
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    let message = "cannot decompress s3://b/m.onnx: there is no zstd frame at byte 0; a name that ends in .zst requires zstd data";
    assert_eq!(
        (error.to_string().as_str(), error.is_transient()),
        (message, false)
    );
    let opened = |requests: Vec<SourceRequest>| {
        requests
            .iter()
            .filter(|request| **request == SourceRequest::Open(None))
            .count()
    };
    assert_eq!(
        (opened(source.take_requests()), environment.partials()),
        (2, 0)
    );

    // A window of 16 MB.
    source.set_object("1", &[0x28, 0xB5, 0x2F, 0xFD, 0, 14 << 3, 1, 0, 0]);
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("without --long"), "{error}");
    assert_eq!(
        (opened(source.take_requests()), environment.partials()),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn the_manifest_describes_the_decompressed_file_and_the_checksum_the_compressed_one() {
    let bytes = vec![7; 5_000];
    let (source, mut environment) = compressed(&bytes, []);
    environment.expected = Some(expected(&[8; 5_000]));
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    assert!(
        error.to_string().contains("but the manifest declares"),
        "{error}"
    );
    environment.expected = Some(expected(&[7; 4_999]));
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    assert!(
        error.to_string().contains("4999 bytes that the manifest"),
        "{error}"
    );

    environment.expected = None;
    let sum = |bytes: &[u8]| {
        let sha256 = Sha256::digest(bytes);
        Some(Checksum {
            algorithm: ChecksumAlgorithm::Sha256,
            value: aws_smithy_types::base64::encode(sha256),
        })
    };
    *lock(&source.0.checksum) = sum(&bytes);
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("Sha256 checksum"), "{error}");
    *lock(&source.0.checksum) = sum(&lock(&source.0.object).1);
    let (_, arrived) = environment.fetch(&source).await.unwrap().unwrap();
    assert!(arrived == bytes);
}

#[tokio::test(start_paused = true)]
async fn a_compressed_file_requires_space_for_both_files_before_the_transfer() {
    let (source, mut environment) = compressed(&[7; 500], []);
    environment.expected = Some(Expected {
        size: 1 << 60,
        ..expected(&[])
    });
    let required = (1_u64 << 60) + lock(&source.0.object).1.len() as u64;
    let error = environment
        .fetch(&source)
        .await
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&format!("{required} bytes are required")),
        "{error}"
    );
    assert_eq!((source.delivered(), environment.partials()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cached_file_with_an_unexpected_digest_is_not_used() {
    let mut environment = TestEnvironment::new();
    let source = ScriptedSource::new(b"first", []);
    environment.fetch(&source).await.unwrap().unwrap();
    environment.expected = Some(expected(b"other"));
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    assert!(
        error.to_string().contains("but the manifest declares"),
        "{error}"
    );
}
