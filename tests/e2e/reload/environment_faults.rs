//! Faults of the execution environment during a reload: freeze, reset, kill, shutdown, no time.
//!
//! Faults of the source are in [`super::source_faults`]. `docs/reload.md` describes both to operators.
//!
//! | fault | test |
//! |---|---|
//! | freeze during the poll | [`a_poll_interrupted_by_a_freeze_is_repeated`] |
//! | freeze during the download | `lifecycle::freeze::a_reload_resumes` |
//! | freeze during the load | [`a_freeze_during_the_load_is_only_a_pause`] |
//! | dead connection after the thaw | `lifecycle::freeze::dead_idle_connections_cause_no_failure` |
//! | reset during the download | [`after_a_reset_the_download_resumes`] |
//! | reset while `next` is delayed for the download | [`after_a_reset_without_shutdown_the_download_resumes`] |
//! | reset during the load | [`a_reset_during_the_load_rejects_no_version`] |
//! | SIGKILL, or out of memory, during the load | `reload::out_of_memory::a_version_that_kills_the_process_is_not_loaded_again` |
//! | SIGKILL during the download | [`after_a_sigkill_the_download_resumes`] |
//! | SHUTDOWN during the download or the load | [`shutdown_does_not_wait_for_a_reload`] |
//! | invocation timeout during a reload | `limits::function_timeout`, and as for any other reset |
//! | `/tmp` is full | `reload::disk_space` |
//! | no tail budget | [`without_tail_budget_a_reload_spans_invocations_and_delays_none`] |
//! | reload in Init that exceeds `MODEL_INIT_BUDGET` | [`requests_wait_for_a_reload_that_exceeds_the_init_budget`] |
//! | managed instance with concurrent invocations | [`a_managed_instance_reloads_under_concurrent_invocations`] |

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
    a_poll_interrupted_by_a_freeze_is_repeated,
    a_freeze_during_the_load_is_only_a_pause,
    without_tail_budget_a_reload_spans_invocations_and_delays_none,
);

/// Bytes of a download that arrive before it stalls.
const HALF: u64 = 50_000;
/// Number that `hungry.onnx` seems to add to 7: it multiplies the input by the number of ones that it has summed up.
const HUNGRY: u32 = 7 * 102_400_000 - 7;
/// Name of the sidecar's process.
const SIDECAR: &str = "model-sidecar";

/// Function with an active version, whose next version's download has stalled.
async fn during_the_download() -> (S3Server, Function) {
    let s3 = s3().await;
    let function = hasty(&s3).start().await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    environment(&function).wait_until_frozen().await.unwrap();
    put(&s3, 1);
    stalls_after(&s3, HALF);
    // The bytes arrive during invocations, when the environment is not frozen.
    let environment = environment(&function);
    while !cached(&environment).values().any(|length| *length == HALF) {
        assert_eq!(invoke(&function).await, 0);
    }
    environment.wait_until_frozen().await.unwrap();
    (s3, function)
}

/// Asserts that the interrupted version was downloaded in two parts, without overlap.
async fn assert_each_byte_once(s3: &S3Server) {
    let last = version(1).len() - 1;
    let rest = format!("bytes={HALF}-{last}");
    assert_eq!(
        downloads_so_far(s3).await[1..],
        [(Some(200), None), (Some(206), Some(rest))]
    );
}

/// Function with an active version, frozen during a long load of the next one.
async fn during_the_load(clock: Clock) -> (S3Server, Function) {
    let s3 = s3().await;
    let function = hasty(&s3).clock(clock).start().await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    let environment = environment(&function);
    environment.wait_until_frozen().await.unwrap();
    // It has the same signature as the active version.
    s3.put(BUCKET, KEY, model("hungry.onnx"));
    while !cached(&environment).contains_key("loading/wine") {
        assert_eq!(invoke(&function).await, 0, "the load was missed");
        environment.wait_until_frozen().await.unwrap();
    }
    (s3, function)
}

async fn a_poll_interrupted_by_a_freeze_is_repeated(clock: Clock) {
    let s3 = s3().await;
    let function = hasty(&s3).clock(clock).start().await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    freeze(&function, &s3).await;
    let before = s3.requests().len();
    s3.fail(Rule::on("GET").first(1).latency(Duration::from_secs(600)));
    // Without tail budget the request may be sent in a later invocation.
    while s3.requests().len() == before {
        assert_eq!(invoke(&function).await, 0);
    }
    freeze(&function, &s3).await;
    put(&s3, 1);
    moves(&function, 0, 1).await;
}

async fn a_freeze_during_the_load_is_only_a_pause(clock: Clock) {
    let (s3, function) = during_the_load(clock).await;
    freeze(&function, &s3).await;
    moves(&function, 0, HUNGRY).await;
    assert_eq!(downloads_so_far(&s3).await.len(), 2, "{:?}", s3.requests());
    let log = function.log().text();
    assert_eq!(log.matches("INIT_START").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reset_the_download_resumes() {
    for reason in [ShutdownReason::Timeout, ShutdownReason::Failure] {
        let (s3, function) = during_the_download().await;
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
async fn after_a_reset_without_shutdown_the_download_resumes() {
    let s3 = s3().await;
    let function = patient(&s3).start().await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    let environment = environment(&function);
    environment.wait_until_frozen().await.unwrap();
    put(&s3, 1);
    stalls_after(&s3, HALF);
    assert_eq!(invoke(&function).await, 0);
    arrived(&environment, HALF).await;
    // The sidecar does not call `next` before the download ends, so it misses SHUTDOWN and is killed after 2 s.
    environment.reset(ShutdownReason::Timeout).await.unwrap();
    environment.wait_until(State::Empty).await.unwrap();
    let log = function.log().text();
    assert!(!log.contains("shutting down"), "{log}");
    s3.heal();
    assert_eq!(invoke(&function).await, 1);
    assert_each_byte_once(&s3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_sigkill_the_download_resumes() {
    let (s3, function) = during_the_download().await;
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
async fn a_reset_during_the_load_rejects_no_version() {
    let (s3, function) = during_the_load(Clock::Real).await;
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
    let (_s3, fetching) = during_the_download().await;
    let (_other, loading) = during_the_load(Clock::Real).await;
    for function in [fetching, loading] {
        let environment = environment(&function);
        let socket = environment.tmp().join("model-sidecar.sock");
        assert!(socket.exists());
        let tmp = environment.keep_tmp();
        let log = function.shutdown().await.text();
        assert!(log.contains("shutting down reason=\"spindown\""), "{log}");
        assert!(!socket.exists(), "the sidecar exited and was not killed");
        let mark = tmp.path().join("model-sidecar/loading/wine");
        assert!(!mark.exists(), "no load marker is left");
    }
}

async fn without_tail_budget_a_reload_spans_invocations_and_delays_none(clock: Clock) {
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
    // The download has stalled, and every invocation completes.
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
async fn requests_wait_for_a_reload_that_exceeds_the_init_budget() {
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
        let over = "MODEL_INIT_BUDGET has passed before all models are active";
        log.wait_for(over).await.unwrap();
        gate.open();
    });
    assert_eq!(added(&answer.unwrap()), 1);
    assert_eq!(downloads_so_far(&s3).await[1..], [(Some(200), None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managed_instance_reloads_under_concurrent_invocations() {
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
