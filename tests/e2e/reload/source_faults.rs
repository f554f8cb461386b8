//! Faults of S3 and changes by publishers during a reload.
//!
//! Faults of the execution environment are in [`super::environment_faults`]. `docs/reload.md` describes both to
//! operators.
//!
//! | event | test |
//! |---|---|
//! | polls get 503 | [`polls_that_get_503_keep_the_active_version`] |
//! | S3 is unavailable | `sources::s3_unavailable::the_active_version_serves_while_s3_is_unavailable` |
//! | the object is deleted, then uploaded again | [`a_deleted_object_keeps_the_active_version`] |
//! | access is denied, then granted | [`denied_access_keeps_the_active_version`] |
//! | two overwrites during one reload | [`two_overwrites_during_a_reload_activate_the_last`] |
//! | overwrite between two parts of a download | `sources::fetch::an_overwrite_between_parts_restarts_the_download` |
//! | overwrite by an older version | [`an_older_version_loads_like_a_newer_one`] |
//! | the newest version is deleted | [`deleting_the_newest_version_activates_the_previous_one`] |
//! | overwrite and restore between two polls | [`an_overwrite_restored_before_the_next_poll_loads_nothing`] |
//! | restore after a bad version | [`restoring_after_a_bad_version_downloads_nothing`] |
//! | a bad version | `reload::under_load::a_bad_version_is_fetched_once_and_the_next_good_one_loads` |
//! | a bad version at a first start | `reload::rollout::a_cold_start_on_a_bad_version_falls_back_to_the_previous_one` |
//! | a deleted object at a first start | `reload::rollout::a_cold_start_after_a_delete_falls_back_to_the_last_version` |
//! | only a data file changes | `sources::layouts::a_change_of_the_weights_is_a_new_version` |

use lab::lambda::{Function, ShutdownReason};
use lab::s3::{Rule, S3Server};

use crate::support::adder_function::{
    SWAPPED, environment, invoke, moves, patient, put, s3, stalls_after, version,
};
use crate::support::{BUCKET, KEY, downloads, downloads_so_far, model};

const STAYS: &str = "keeping the active version";

/// Function with an active version and no poll in progress.
async fn with_active_version() -> (S3Server, Function) {
    let s3 = s3().await;
    let function = patient(&s3).start().await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    environment(&function).wait_until_frozen().await.unwrap();
    (s3, function)
}

/// Invokes the function, and waits for the poll that delays the end of the invocation.
async fn poll(function: &Function) {
    invoke(function).await;
    let environment = environment(function);
    environment.wait_until_frozen().await.unwrap();
}

/// Number of swaps.
fn swaps(function: &Function) -> usize {
    function.log().text().matches(SWAPPED).count()
}

/// Asserts that failed polls keep the active version, in this process and after a reset. Asserts that a new version
/// loads once the fault is over.
async fn assert_keeps_the_active_version(
    (s3, function): (S3Server, Function),
    words: &str,
    over: impl FnOnce(&S3Server),
) {
    for _ in 0..3 {
        assert_eq!(invoke(&function).await, 0);
    }
    let said = function.log().wait_for(STAYS).await.unwrap();
    assert!(said.contains(words), "{said}");
    let environment = environment(&function);
    environment.wait_until_frozen().await.unwrap();
    environment.reset(ShutdownReason::Failure).await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    over(&s3);
    put(&s3, 1);
    moves(&function, 0, 1).await;
    assert_eq!(downloads_of_bytes(&s3), 2, "{:?}", s3.requests());
}

/// Number of responses with object bytes.
fn downloads_of_bytes(s3: &S3Server) -> usize {
    let answers = downloads(s3).into_iter();
    answers
        .filter(|(status, _)| matches!(status, Some(200 | 206)))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_that_get_503_keep_the_active_version() {
    let (s3, function) = with_active_version().await;
    s3.fail(Rule::any().status(503, "SlowDown"));
    assert_keeps_the_active_version((s3, function), "503 SlowDown", S3Server::heal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_object_keeps_the_active_version() {
    let (s3, function) = with_active_version().await;
    s3.delete(BUCKET, KEY);
    assert_keeps_the_active_version((s3, function), "there is no object", |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_access_keeps_the_active_version() {
    let (s3, function) = with_active_version().await;
    s3.fail(Rule::any().status(403, "AccessDenied"));
    assert_keeps_the_active_version((s3, function), "needs s3:GetObject", S3Server::heal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_overwrites_during_a_reload_activate_the_last() {
    let (s3, function) = with_active_version().await;
    let gate = stalls_after(&s3, 50_000);
    put(&s3, 1);
    assert_eq!(invoke(&function).await, 0);
    gate.reached(1).await.unwrap();
    put(&s3, 2);
    put(&s3, 3);
    gate.open();
    let mut newest = 0;
    let ends = async {
        while newest < 3 {
            let number = invoke(&function).await;
            assert!(number >= newest, "{number} after {newest}");
            newest = number;
        }
    };
    tokio::time::timeout(lab::WAIT_LIMIT, ends).await.unwrap();
    assert_eq!(newest, 3);
    poll(&function).await;
    assert!(downloads_of_bytes(&s3) <= 3, "{:?}", s3.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_loads_like_a_newer_one() {
    let (s3, function) = with_active_version().await;
    put(&s3, 1);
    moves(&function, 0, 1).await;
    put(&s3, 0);
    moves(&function, 1, 0).await;
    assert_eq!(swaps(&function), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_newest_version_activates_the_previous_one() {
    let (s3, function) = with_active_version().await;
    let newest = s3.put(BUCKET, KEY, version(1));
    moves(&function, 0, 1).await;
    s3.delete_version(BUCKET, KEY, &newest);
    moves(&function, 1, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_restored_before_the_next_poll_loads_nothing() {
    let (s3, function) = with_active_version().await;
    poll(&function).await;
    put(&s3, 1);
    put(&s3, 0);
    for _ in 0..3 {
        assert_eq!(invoke(&function).await, 0);
        poll(&function).await;
    }
    assert_eq!(
        (swaps(&function), downloads_so_far(&s3).await.len()),
        (0, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn restoring_after_a_bad_version_downloads_nothing() {
    let (s3, function) = with_active_version().await;
    s3.put(BUCKET, KEY, model("garbage.onnx"));
    poll(&function).await;
    function.log().wait_for(STAYS).await.unwrap();
    put(&s3, 0);
    poll(&function).await;
    let mark = function.log().mark();
    for _ in 0..3 {
        assert_eq!(invoke(&function).await, 0);
        poll(&function).await;
    }
    let after = function.log().lines().split_off(mark);
    let problems = after
        .iter()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"));
    assert_eq!(problems.count(), 0, "{after:?}");
    // The next start uses the good version, too.
    let environment = environment(&function);
    environment.reset(ShutdownReason::Failure).await.unwrap();
    assert_eq!(invoke(&function).await, 0);
}
