//! What Lambda can do to a reload: freeze it, end it, kill it, give it no time. What S3 can do to it is shown in
//! [`crate::reload::source_faults`]; `docs/reload.md` says the same to operators.
//!
//! | fault | test |
//! |---|---|
//! | freeze in the middle of the question | [`a_question_that_a_freeze_interrupted_is_asked_again`] |
//! | freeze in the middle of the fetch | `freeze::a_reload_goes_on_where_it_stopped` |
//! | freeze in the middle of the load | [`a_freeze_in_the_middle_of_the_load_is_only_a_pause`] |
//! | connection dead after the thaw | `freeze::idle_connections_are_no_trouble` |
//! | reset in the middle of the fetch | [`after_a_reset_in_the_middle_of_the_fetch_it_goes_on_where_it_was`] |
//! | reset while `next` is held back for the fetch | [`a_reset_that_nobody_hears_of_costs_no_byte_that_had_arrived`] |
//! | reset in the middle of the load | [`a_reset_in_the_middle_of_the_load_is_not_held_against_the_version`] |
//! | SIGKILL, or no memory, in the load | `memory::the_last_good_version_answers_until_there_is_another` |
//! | SIGKILL in the middle of the fetch | [`a_kill_in_the_middle_of_the_fetch_costs_no_byte_that_had_arrived`] |
//! | SHUTDOWN in the middle of the fetch, of the load | [`shutdown_does_not_wait_for_a_reload`] |
//! | an invocation that times out in a reload | `timeout`, and as for any other reset |
//! | `/tmp` is full | `disk::a_new_version_that_has_no_room_changes_nothing_and_is_taken_once_there_is` and its neighbours |
//! | no time at the end of invocations | [`with_no_tail_budget_it_takes_several_invocations_and_holds_back_none`] |
//! | a reload within Init that outlives its budget | [`a_reload_in_init_that_outlives_its_budget_is_waited_for_by_requests`] |
//! | a managed instance with invocations at once | [`a_managed_instance_moves_under_invocations_at_once`] |

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::lambda::{Clock, Function, ShutdownReason, State, Status};
use lab::s3::{Rule, S3Server};
use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use crate::support::adder_function::{
    SWAPPED, added, arrived, environment, event, hasty, invoke, moves, patient, put, s3,
    stalls_after, version,
};
use crate::support::{
    BUCKET, KEY, assert_only_kept, cached, downloads_so_far, freeze, model, until, with_both_clocks,
};

with_both_clocks!(
    a_question_that_a_freeze_interrupted_is_asked_again,
    a_freeze_in_the_middle_of_the_load_is_only_a_pause,
    with_no_tail_budget_it_takes_several_invocations_and_holds_back_none,
);

/// Bytes of a transfer that come before it stops.
const HALF: u64 = 50_000;
/// What `hungry.onnx` seems to add to 7, which multiplies by the number of ones that it has summed up.
const HUNGRY: u32 = 7 * 102_400_000 - 7;
/// The name that the sidecar's process has.
const SIDECAR: &str = "model-sidecar";

/// A function that has answered, and whose next version stops in the middle of its transfer.
async fn in_the_middle_of_the_fetch() -> (S3Server, Function) {
    let s3 = s3().await;
    let function = hasty(&s3).start().await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    environment(&function).wait_until_frozen().await.unwrap();
    put(&s3, 1);
    stalls_after(&s3, HALF);
    // The bytes come while an invocation keeps it from being frozen.
    let environment = environment(&function);
    while !cached(&environment).values().any(|length| *length == HALF) {
        assert_eq!(invoke(&function).await, 0);
    }
    environment.wait_until_frozen().await.unwrap();
    (s3, function)
}

/// Expects that the version which was interrupted was asked for in two pieces, once each.
async fn assert_each_byte_once(s3: &S3Server) {
    let last = version(1).len() - 1;
    let rest = format!("bytes={HALF}-{last}");
    assert_eq!(
        downloads_so_far(s3).await[1..],
        [(Some(200), None), (Some(206), Some(rest))]
    );
}

/// A function that has answered, and was frozen in the middle of a load that takes a good while.
async fn in_the_middle_of_the_load(clock: Clock) -> (S3Server, Function) {
    let s3 = s3().await;
    let function = hasty(&s3).clock(clock).start().await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    let environment = environment(&function);
    environment.wait_until_frozen().await.unwrap();
    // It takes and gives what the other does.
    s3.put(BUCKET, KEY, model("hungry.onnx"));
    while !cached(&environment).contains_key("loading/wine") {
        assert_eq!(invoke(&function).await, 0, "the load was not seen");
        environment.wait_until_frozen().await.unwrap();
    }
    (s3, function)
}

async fn a_question_that_a_freeze_interrupted_is_asked_again(clock: Clock) {
    let s3 = s3().await;
    let function = hasty(&s3).clock(clock).start().await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    freeze(&function, &s3).await;
    let before = s3.requests().len();
    s3.fail(Rule::on("GET").first(1).latency(Duration::from_secs(600)));
    // Without a tail the question may only go out when there is another invocation.
    while s3.requests().len() == before {
        assert_eq!(invoke(&function).await, 0);
    }
    freeze(&function, &s3).await;
    put(&s3, 1);
    moves(&function, 0, 1).await;
}

async fn a_freeze_in_the_middle_of_the_load_is_only_a_pause(clock: Clock) {
    let (s3, function) = in_the_middle_of_the_load(clock).await;
    freeze(&function, &s3).await;
    moves(&function, 0, HUNGRY).await;
    assert_eq!(downloads_so_far(&s3).await.len(), 2, "{:?}", s3.requests());
    let log = function.log().text();
    assert_eq!(log.matches("INIT_START").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reset_in_the_middle_of_the_fetch_it_goes_on_where_it_was() {
    for reason in [ShutdownReason::Timeout, ShutdownReason::Failure] {
        let (s3, function) = in_the_middle_of_the_fetch().await;
        let environment = environment(&function);
        environment.reset(reason).await.unwrap();
        environment.wait_until(State::Empty).await.unwrap();
        s3.heal();
        assert_eq!(invoke(&function).await, 1);
        assert_each_byte_once(&s3).await;
        assert_only_kept(&environment, &[&version(0), &version(1)], &["wine"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_that_nobody_hears_of_costs_no_byte_that_had_arrived() {
    let s3 = s3().await;
    let function = patient(&s3).start().await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    let environment = environment(&function);
    environment.wait_until_frozen().await.unwrap();
    put(&s3, 1);
    stalls_after(&s3, HALF);
    assert_eq!(invoke(&function).await, 0);
    arrived(&environment, HALF).await;
    // The sidecar is to ask for the next event only when the transfer is over, and is killed after 2 s.
    environment.reset(ShutdownReason::Timeout).await.unwrap();
    environment.wait_until(State::Empty).await.unwrap();
    let log = function.log().text();
    assert!(!log.contains("shutting down"), "{log}");
    s3.heal();
    assert_eq!(invoke(&function).await, 1);
    assert_each_byte_once(&s3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_the_fetch_costs_no_byte_that_had_arrived() {
    let (s3, function) = in_the_middle_of_the_fetch().await;
    let environment = environment(&function);
    environment.kill(SIDECAR, Signal::SIGKILL).unwrap();
    until("its end", || environment.processes(SIDECAR).is_empty()).await;
    s3.heal();
    let failed = function.invoke(&event()).await;
    assert_eq!(
        failed.function_error().unwrap().error_type,
        "Extension.Crash"
    );
    assert_eq!(invoke(&function).await, 1);
    assert_each_byte_once(&s3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_in_the_middle_of_the_load_is_not_held_against_the_version() {
    let (s3, function) = in_the_middle_of_the_load(Clock::Real).await;
    let environment = environment(&function);
    environment.reset(ShutdownReason::Timeout).await.unwrap();
    environment.wait_until(State::Empty).await.unwrap();
    assert_eq!(invoke(&function).await, HUNGRY);
    assert_eq!(downloads_so_far(&s3).await.len(), 2, "{:?}", s3.requests());
    let log = function.log().text();
    assert!(!log.contains("died"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_does_not_wait_for_a_reload() {
    let (_s3, fetching) = in_the_middle_of_the_fetch().await;
    let (_other, loading) = in_the_middle_of_the_load(Clock::Real).await;
    for function in [fetching, loading] {
        let environment = environment(&function);
        let socket = environment.tmp().join("model-sidecar.sock");
        assert!(socket.exists());
        let tmp = environment.keep_tmp();
        let log = function.shutdown().await.text();
        assert!(log.contains("shutting down reason=\"spindown\""), "{log}");
        assert!(
            !socket.exists(),
            "it came to its own end, and was not killed"
        );
        let mark = tmp.path().join("model-sidecar/loading/wine");
        assert!(!mark.exists(), "nothing is held against the version");
    }
}

async fn with_no_tail_budget_it_takes_several_invocations_and_holds_back_none(clock: Clock) {
    let s3 = s3().await;
    let function = hasty(&s3).clock(clock).start().await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    let environment = environment(&function);
    environment.wait_until_frozen().await.unwrap();
    put(&s3, 1);
    let gate = stalls_after(&s3, HALF);
    while !cached(&environment).values().any(|length| *length == HALF) {
        assert_eq!(invoke(&function).await, 0);
    }
    // It stands in the middle of the transfer, and every invocation ends all the same.
    for _ in 0..3 {
        environment.wait_until_frozen().await.unwrap();
        assert_eq!(invoke(&function).await, 0);
    }
    gate.open();
    moves(&function, 0, 1).await;
    let reports = function.reports();
    assert!(
        reports
            .iter()
            .all(|report| report.status == Status::Success),
        "{reports:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_in_init_that_outlives_its_budget_is_waited_for_by_requests() {
    let s3 = s3().await;
    let function = hasty(&s3).env("MODEL_INIT_BUDGET", "1ms");
    let function = function.start().await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    let environment = environment(&function);
    environment.reset(ShutdownReason::Failure).await.unwrap();
    put(&s3, 1);
    let gate = stalls_after(&s3, HALF);
    let asked = event();
    let (answer, ()) = tokio::join!(function.answer(&asked), async {
        arrived(&environment, HALF).await;
        let log = function.log();
        let over = "the models are not there yet, and MODEL_INIT_BUDGET is over";
        log.wait_for(over).await.unwrap();
        gate.open();
    });
    assert_eq!(added(&answer.unwrap()), 1);
    assert_eq!(downloads_so_far(&s3).await[1..], [(Some(200), None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managed_instance_moves_under_invocations_at_once() {
    let s3 = s3().await;
    let function = patient(&s3)
        .env("MODEL_REFRESH_INTERVAL", "100ms")
        .managed_instances(8);
    let function = Arc::new(function.start().await.unwrap());
    assert_eq!(invoke(&function).await, 0);
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let (function, stop) = (Arc::clone(&function), Arc::clone(&stop));
        callers.spawn(async move {
            let mut newest = 0;
            while !stop.load(Ordering::Relaxed) {
                let number = invoke(&function).await;
                assert!(number >= newest, "{number} after {newest}");
                newest = number;
            }
            newest
        });
    }
    for number in 1..=3 {
        let mark = function.log().mark();
        put(&s3, number);
        let swapped = |line: &str| line.contains(SWAPPED);
        let log = function.log();
        log.wait_for_line_after(mark, SWAPPED, swapped)
            .await
            .unwrap();
    }
    let last = invoke(&function).await;
    stop.store(true, Ordering::Relaxed);
    assert_eq!(last, 3);
    while let Some(newest) = callers.join_next().await {
        assert!(newest.unwrap() <= last);
    }
    assert!(!environment(&function).is_frozen());
}
