//! Invocations shorter than a round trip to S3, with a freeze after each and no tail budget.
//!
//! Polls and metric flushes complete across several invocations. Each test runs with both kinds of monotonic clock.

use std::time::Duration;

use lab::cloudwatch::{CloudWatch, Filter};
use lab::gate::Gate;
use lab::lambda::{Builder, Clock, Function};
use lab::s3::{RequestRecord, Rule, S3Server};

use crate::support::adder_function::{environment, invoke, put, s3};
use crate::support::{alive, platform, s3_with, with_both_clocks};

with_both_clocks!(
    a_poll_answered_in_a_freeze_is_not_repeated,
    a_new_version_loads_across_invocations,
    a_flush_answered_in_a_freeze_is_not_repeated,
);

/// Duration of each freeze.
const FREEZE: Duration = Duration::from_secs(5);
/// Latency of S3, longer than an invocation.
const ROUND_TRIP: Duration = Duration::from_millis(1_500);
/// Number of invocations, more than a reload needs for the poll, the first bytes and the rest.
const MANY: usize = 12;

fn hasty(s3: &S3Server, clock: Clock) -> Builder {
    platform(s3)
        .env("MODEL_REFRESH_INTERVAL", "0")
        .env("MODEL_TAIL_BUDGET", "0")
        .clock(clock)
}

/// Freezes the environment while S3 responds to all pending requests.
async fn freeze(function: &Function, s3: &S3Server) {
    let environment = environment(function);
    environment.wait_until_frozen().await.unwrap();
    let answered = |requests: &[RequestRecord]| requests.iter().all(|one| one.status.is_some());
    // An abandoned request never gets a response.
    let answers = s3.wait_for_requests("a response to every request", answered);
    let _ = tokio::time::timeout(2 * ROUND_TRIP, answers).await;
    environment.let_pass(FREEZE).await.unwrap();
    s3.let_pass();
}

async fn a_poll_answered_in_a_freeze_is_not_repeated(clock: Clock) {
    let s3 = s3().await;
    let function = hasty(&s3, clock).start().await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    freeze(&function, &s3).await;
    s3.fail(Rule::on("GET").latency(ROUND_TRIP));
    let before = s3.requests().len();
    for _ in 0..MANY {
        assert_eq!(invoke(&function).await, 0);
        freeze(&function, &s3).await;
    }
    let asked = s3.requests().split_off(before);
    // A request that was sent shortly before a freeze may be abandoned at the thaw and retried.
    let answers: Vec<_> = asked.iter().filter_map(|one| one.status).collect();
    assert!(answers.iter().all(|status| *status == 304), "{asked:?}");
    assert!(!answers.is_empty(), "{asked:?}");
    // One invocation sends the request, and the next one receives the response.
    assert!(answers.len() <= MANY, "{asked:?}");
    assert!(asked.len() < 2 * MANY, "{asked:?}");
    let log = function.log().text();
    assert!(!log.contains("stays"), "no check failed: {log}");
}

async fn a_new_version_loads_across_invocations(clock: Clock) {
    let s3 = s3().await;
    let function = hasty(&s3, clock).start().await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    freeze(&function, &s3).await;
    s3.fail(Rule::on("GET").latency(ROUND_TRIP));
    put(&s3, 1);
    for invocations in 0.. {
        assert!(invocations < MANY, "{:?}", s3.requests());
        if invoke(&function).await == 1 {
            break;
        }
        freeze(&function, &s3).await;
    }
}

async fn a_flush_answered_in_a_freeze_is_not_repeated(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let function = platform(&s3)
        .envs(cloudwatch.env())
        .env("MODEL_METRICS", "cloudwatch")
        .env("MODEL_METRICS_INTERVAL", "1s")
        .env("MODEL_REFRESH_INTERVAL", "24h")
        .env("MODEL_TAIL_BUDGET", "0")
        .clock(clock);
    let function = function.start().await.unwrap();
    let pass = async |stalled: &Gate| {
        let environment = environment(&function);
        environment.wait_until_frozen().await.unwrap();
        stalled.open();
        environment.let_pass(FREEZE).await.unwrap();
        cloudwatch.let_pass(FREEZE);
    };
    for _ in 0..MANY {
        let stalled = Gate::new();
        cloudwatch.stall(&stalled);
        alive(&function).await;
        pass(&stalled).await;
    }
    let starts = Filter::metric("ColdStarts");
    cloudwatch
        .wait_until("the cold start", |_| cloudwatch.sum(&starts) >= 1.0)
        .await
        .unwrap();
    assert!(
        (cloudwatch.sum(&starts) - 1.0).abs() < 0.5,
        "it is sent once"
    );
    let log = function.log().text();
    assert!(
        !log.contains("cannot deliver metrics"),
        "no flush failed: {log}"
    );
}
