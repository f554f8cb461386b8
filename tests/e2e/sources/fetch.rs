//! Downloads against the S3 server, without a sidecar: faults are recovered, and no byte is sent twice.

use std::time::Duration;

use lab::gate::Gate;
use lab::s3::{RequestRecord, Rule};
use model_sidecar::clock::Clock as _;

use crate::support::download::{
    BUCKET, Download, KEY, MB, SIZE, SPLIT, bytes, compressed, expected,
};

mod any_s3;

/// Start of each response; asserts that every range request was pinned to an `ETag`.
fn starts(requests: &[RequestRecord]) -> Vec<u64> {
    let start = |request: &RequestRecord| {
        let Some(range) = &request.range else {
            return 0;
        };
        assert!(request.if_match.is_some(), "{request:?}");
        let (start, end) = range
            .strip_prefix("bytes=")
            .unwrap()
            .split_once('-')
            .unwrap();
        assert_eq!(end.parse(), Ok(SIZE - 1), "{range}");
        start.parse().unwrap()
    };
    requests.iter().map(start).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_responses_are_resumed() {
    let download = Download::new().await;
    for n in 1..=3 {
        download.s3.fail(Rule::on("GET").nth(n).truncate_after(MB));
    }
    let (fetched, arrived) = download.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    let requests = download.s3.requests();
    assert_eq!(starts(&requests), [0, MB, 2 * MB, 3 * MB]);
    assert_eq!(
        requests.iter().map(|request| request.sent).sum::<u64>(),
        SIZE
    );
    assert_eq!((fetched.transferred, download.partials()), (SIZE, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reset_and_503_responses_the_download_resumes() {
    let download = Download::new().await;
    download.s3.fail(Rule::on("GET").nth(1).reset_after(2 * MB));
    for n in 2..=5 {
        download
            .s3
            .fail(Rule::on("GET").nth(n).status(503, "SlowDown"));
    }
    let (fetched, arrived) = download.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, SIZE);
    let requests = download.s3.requests();
    assert!(
        starts(&requests)[1..]
            .windows(2)
            .all(|two| two[0] == two[1]),
        "{requests:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_thaw_a_silent_connection_is_replaced_at_once() {
    let download = Download::new().await;
    let gate = Gate::new();
    download
        .s3
        .fail(Rule::on("GET").nth(1).stall_after(2 * MB, &gate));
    let thaw = async {
        download.arrived(2 * MB).await;
        download.wall.advance(Duration::from_secs(3_600));
        download.thaws.note(download.wall.now());
    };
    let (fetched, ()) = tokio::join!(download.fetch(), thaw);
    let (fetched, arrived) = fetched.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, SIZE);
    assert_eq!(starts(&download.s3.requests()), [0, 2 * MB]);
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_download_resumes_with_one_request() {
    let download = Download::new().await;
    let gate = Gate::new();
    download
        .s3
        .fail(Rule::on("GET").nth(1).stall_after(2 * MB, &gate));
    tokio::select! {
        _ = download.fetch() => panic!("the download has stalled"),
        () = download.arrived(2 * MB) => {}
    }
    gate.open();
    let (fetched, arrived) = download.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, SIZE - 2 * MB);
    assert_eq!(starts(&download.s3.requests()), [0, 2 * MB]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_between_responses_restarts_the_download() {
    let download = Download::new().await;
    download
        .s3
        .fail(Rule::on("GET").nth(1).truncate_after(2 * MB));
    download.s3.fail(Rule::on("GET").nth(2).overwrite(bytes(2)));
    let (fetched, arrived) = download.fetch().await.unwrap();
    assert!(arrived == bytes(2));
    let now = download.s3.get(BUCKET, KEY).unwrap();
    assert_eq!(fetched.identity.version_id, Some(now.version_id));
    let statuses: Vec<_> = download
        .s3
        .requests()
        .iter()
        .map(|request| request.status)
        .collect();
    assert_eq!(statuses, [Some(200), Some(412), Some(200)]);
    assert_eq!(download.partials(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_a_resumed_download_is_detected() {
    let download = Download::new().await;
    download
        .s3
        .fail(Rule::on("GET").nth(1).truncate_after(2 * MB));
    download.s3.fail(Rule::on("GET").nth(2).flip(70_000));
    let (fetched, arrived) = download.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, 2 * SIZE);
    download.s3.heal();

    let download = Download::new().await;
    download.s3.fail(Rule::on("GET").flip(70_000));
    let error = download.fetch().await.unwrap_err().to_string();
    assert!(error.contains("Crc64Nvme"), "{error}");
    assert_eq!((download.s3.requests().len(), download.partials()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_pinned_to_the_version_of_the_first_response() {
    let download = Download::with(SPLIT).await;
    let (fetched, arrived) = download.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!((fetched.transferred, download.partials()), (SIZE, 0));
    let requests = download.s3.requests();
    let etag = download.s3.get(BUCKET, KEY).unwrap().etag;
    let (first, rest) = requests.split_first().unwrap();
    assert_eq!((&first.range, &first.if_match), (&None, &None));
    let (mut ranges, pins): (Vec<_>, Vec<_>) = rest
        .iter()
        .map(|request| (request.range.clone().unwrap(), request.if_match.clone()))
        .unzip();
    ranges.sort();
    let parts = (1..6).map(|n| format!("bytes={}-{}", n * MB, (n + 1) * MB - 1));
    assert_eq!(ranges, parts.collect::<Vec<_>>());
    for pin in pins {
        assert_eq!(pin.as_deref().map(unquoted), Some(unquoted(&etag)));
    }
}

fn unquoted(etag: &str) -> &str {
    etag.trim_matches('"')
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_between_parts_restarts_the_download() {
    for overwritten in 2..=6 {
        let download = Download::with(SPLIT).await;
        let overwrite = Rule::on("GET").nth(overwritten).overwrite(bytes(2));
        download.s3.fail(overwrite);
        let (fetched, arrived) = download.fetch().await.unwrap();
        assert!(arrived == bytes(2), "at request {overwritten}");
        let now = download.s3.get(BUCKET, KEY).unwrap();
        assert_eq!(fetched.identity.version_id, Some(now.version_id));
        assert_eq!(download.partials(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_part_is_resumed_by_itself() {
    let download = Download::with(SPLIT).await;
    download
        .s3
        .fail(Rule::on("GET").nth(2).truncate_after(MB / 2));
    download.s3.fail(Rule::on("GET").nth(3).reset_after(MB / 4));
    let (fetched, arrived) = download.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, SIZE);
    // One for the object, five for parts, two for the missing ranges.
    assert_eq!(download.s3.requests().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_parts_are_retried() {
    let download = Download::with(SPLIT).await;
    for n in 2..=10 {
        let storm = Rule::on("GET").nth(n).status(503, "SlowDown");
        download.s3.fail(storm);
    }
    let (fetched, arrived) = download.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!((fetched.transferred, download.partials()), (SIZE, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_a_part_is_detected() {
    let download = Download::with(SPLIT).await;
    download.s3.fail(Rule::on("GET").nth(4).flip(70_000));
    let (fetched, arrived) = download.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, 2 * SIZE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_of_the_manifest_is_verified() {
    let mut download = Download::with(SPLIT).await;
    download.expected = Some(expected(&bytes(1)));
    let (_, arrived) = download.fetch().await.unwrap();
    assert!(arrived == bytes(1));

    download.s3.put(BUCKET, KEY, bytes(2));
    let error = download.fetch().await.unwrap_err().to_string();
    let (promised, found) = (expected(&bytes(1)).digest, expected(&bytes(2)).digest);
    let message = format!(
        "s3://{BUCKET}/{KEY} has the SHA-256 {found}, but the manifest declares {promised}"
    );
    assert_eq!((error, download.partials()), (message, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_file_survives_broken_parts() {
    let (download, size) = Download::compressed().await;
    download
        .s3
        .fail(Rule::on("GET").nth(2).truncate_after(MB / 2));
    download.s3.fail(Rule::on("GET").nth(3).reset_after(MB / 4));
    download
        .s3
        .fail(Rule::on("GET").nth(5).status(503, "SlowDown"));
    let (fetched, arrived) = download.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!((fetched.size, fetched.transferred), (SIZE, size));
    assert_eq!(
        (fetched.digest, download.partials()),
        (expected(&bytes(1)).digest, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_of_a_compressed_file_is_detected() {
    for n in 1..=6 {
        let (download, _) = Download::compressed().await;
        download.s3.fail(Rule::on("GET").nth(n).flip(70_000));
        let (_, arrived) = download.fetch().await.unwrap();
        assert!(arrived == bytes(1), "in response {n}");
        assert_eq!(download.partials(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_between_parts_of_a_compressed_file_restarts_the_download() {
    for n in 2..=6 {
        let (download, _) = Download::compressed().await;
        download
            .s3
            .fail(Rule::on("GET").nth(n).overwrite(compressed(2)));
        let (fetched, arrived) = download.fetch().await.unwrap();
        assert!(arrived == bytes(2), "at request {n}");
        let now = download.s3.get(BUCKET, download.key).unwrap();
        assert_eq!(fetched.identity.version_id, Some(now.version_id));
        assert_eq!(download.partials(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_download_of_a_compressed_file_resumes() {
    let (download, size) = Download::compressed().await;
    let gate = Gate::new();
    download
        .s3
        .fail(Rule::on("GET").first(3).stall_after(MB / 2, &gate));
    tokio::select! {
        _ = download.fetch() => panic!("the download has stalled"),
        () = download.arrived(3 * MB / 2) => {}
    }
    gate.open();
    let (fetched, arrived) = download.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, size - 3 * MB / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_compressed_file_is_rejected() {
    let (download, size) = Download::compressed().await;
    let half = compressed(1)[..(size / 2).try_into().unwrap()].to_vec();
    download.s3.put(BUCKET, download.key, half);
    let error = download.fetch().await.unwrap_err().to_string();
    let message = format!(
        "s3://{BUCKET}/m.onnx.zst: the file ends at byte {}, within a zstd frame",
        size / 2
    );
    assert!(error.contains(&message), "{error}");
    assert_eq!(download.partials(), 0);
}
