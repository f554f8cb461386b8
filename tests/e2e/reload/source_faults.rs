//! What S3, and whoever writes to it, can do to a reload. What Lambda can do is shown in [`crate::reload::environment_faults`];
//! `docs/reload.md` says the same to operators.
//!
//! | what happens | test |
//! |---|---|
//! | a storm of 503 at checks | [`a_storm_of_503_changes_nothing_and_the_new_version_comes_after_it`] |
//! | S3 is away | `s3_down::a_model_that_answers_goes_on_while_s3_is_away` |
//! | the object is deleted, then put again | [`a_deleted_object_changes_nothing_not_even_for_the_next_start`] |
//! | access is denied, then granted | [`denied_access_changes_nothing_not_even_for_the_next_start`] |
//! | overwritten twice during one reload | [`overwritten_twice_in_one_reload_it_ends_on_the_last`] |
//! | overwritten between two answers of one transfer | `fetch::an_overwrite_between_two_parts_is_begun_anew_and_never_mixed` |
//! | replaced by an older version | [`an_older_version_is_taken_like_a_newer_one`] |
//! | the newest version is deleted | [`when_the_newest_version_is_deleted_the_one_before_it_answers`] |
//! | bumped and bumped back between two checks | [`bumped_and_bumped_back_between_two_checks_nothing_happens`] |
//! | bumped back after a bad version | [`bumped_back_after_a_bad_version_all_is_well_without_a_transfer`] |
//! | a bad version | `reload::a_bad_version_changes_nothing_and_a_good_one_after_it_is_taken` |
//! | a bad version, at a first start | `rollout::a_cold_start_over_a_bad_bump_takes_the_version_before` |
//! | a deleted object, at a first start | `rollout::a_cold_start_after_a_delete_takes_the_last_version` |
//! | a data file changed alone | `forms::a_change_of_the_weights_alone_is_a_new_version` |

use lab::lambda::{Function, ShutdownReason};
use lab::s3::{Rule, S3Server};

use crate::support::adder_function::{
    SWAPPED, environment, invoke, moves, patient, put, s3, stalls_after, version,
};
use crate::support::{BUCKET, KEY, downloads, downloads_so_far, model};

const STAYS: &str = "the version that answers stays";

/// A function that has answered, and has no question under way.
async fn answering() -> (S3Server, Function) {
    let s3 = s3().await;
    let function = patient(&s3).start().await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    environment(&function).wait_until_frozen().await.unwrap();
    (s3, function)
}

/// Invokes until the check that an invocation begins is over, which holds it back.
async fn checked(function: &Function) {
    invoke(function).await;
    let environment = environment(function);
    environment.wait_until_frozen().await.unwrap();
}

/// How often another version began to answer.
fn swaps(function: &Function) -> usize {
    function.log().text().matches(SWAPPED).count()
}

/// A check that is refused changes nothing, at a reload and at the next start; and what is there once that is over
/// is taken.
async fn changes_nothing(
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

/// Requests that were answered with bytes of an object.
fn downloads_of_bytes(s3: &S3Server) -> usize {
    let answers = downloads(s3).into_iter();
    answers
        .filter(|(status, _)| matches!(status, Some(200 | 206)))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_503_changes_nothing_and_the_new_version_comes_after_it() {
    let (s3, function) = answering().await;
    s3.fail(Rule::any().status(503, "SlowDown"));
    changes_nothing((s3, function), "503 SlowDown", S3Server::heal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_object_changes_nothing_not_even_for_the_next_start() {
    let (s3, function) = answering().await;
    s3.delete(BUCKET, KEY);
    changes_nothing((s3, function), "there is no object", |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_access_changes_nothing_not_even_for_the_next_start() {
    let (s3, function) = answering().await;
    s3.fail(Rule::any().status(403, "AccessDenied"));
    changes_nothing((s3, function), "needs s3:GetObject", S3Server::heal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overwritten_twice_in_one_reload_it_ends_on_the_last() {
    let (s3, function) = answering().await;
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
    checked(&function).await;
    assert!(downloads_of_bytes(&s3) <= 3, "{:?}", s3.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_is_taken_like_a_newer_one() {
    let (s3, function) = answering().await;
    put(&s3, 1);
    moves(&function, 0, 1).await;
    put(&s3, 0);
    moves(&function, 1, 0).await;
    assert_eq!(swaps(&function), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_newest_version_is_deleted_the_one_before_it_answers() {
    let (s3, function) = answering().await;
    let newest = s3.put(BUCKET, KEY, version(1));
    moves(&function, 0, 1).await;
    s3.delete_version(BUCKET, KEY, &newest);
    moves(&function, 1, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bumped_and_bumped_back_between_two_checks_nothing_happens() {
    let (s3, function) = answering().await;
    checked(&function).await;
    put(&s3, 1);
    put(&s3, 0);
    for _ in 0..3 {
        assert_eq!(invoke(&function).await, 0);
        checked(&function).await;
    }
    assert_eq!(
        (swaps(&function), downloads_so_far(&s3).await.len()),
        (0, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bumped_back_after_a_bad_version_all_is_well_without_a_transfer() {
    let (s3, function) = answering().await;
    s3.put(BUCKET, KEY, model("garbage.onnx"));
    checked(&function).await;
    function.log().wait_for(STAYS).await.unwrap();
    put(&s3, 0);
    checked(&function).await;
    let mark = function.log().mark();
    for _ in 0..3 {
        assert_eq!(invoke(&function).await, 0);
        checked(&function).await;
    }
    let after = function.log().lines().split_off(mark);
    let problems = after
        .iter()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"));
    assert_eq!(problems.count(), 0, "{after:?}");
    // Neither for the next start, with the good one and no other.
    let environment = environment(&function);
    environment.reset(ShutdownReason::Failure).await.unwrap();
    assert_eq!(invoke(&function).await, 0);
}
