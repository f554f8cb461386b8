//! Invocations that are shorter than a round trip to S3, with a freeze after each, and no time at their ends: checks and
//! flushes arrive all the same. Each test runs with both kinds of monotonic clock.

use std::time::Duration;

use lab::cloudwatch::{CloudWatch, Filter};
use lab::gate::Gate;
use lab::lambda::{Builder, Clock, Function};
use lab::s3::{RequestRecord, Rule, S3Server};

use crate::support::adder_function::{environment, invoke, put, s3};
use crate::support::{alive, platform, s3_with, with_both_clocks};

with_both_clocks!(
    a_check_whose_answer_comes_in_the_freeze_is_not_asked_again,
    a_new_version_arrives_though_no_answer_comes_within_an_invocation,
    a_flush_whose_answer_comes_in_the_freeze_is_not_sent_again,
);

/// Length of each freeze.
const FREEZE: Duration = Duration::from_secs(5);
/// More than an invocation takes.
const ROUND_TRIP: Duration = Duration::from_millis(1_500);
/// More invocations than a reload may take: for the question, the first bytes, and the rest.
const MANY: usize = 12;

fn hasty(s3: &S3Server, clock: Clock) -> Builder {
    platform(s3)
        .env("MODEL_REFRESH_INTERVAL", "0")
        .env("MODEL_TAIL_BUDGET", "0")
        .clock(clock)
}

/// Lets time pass between two invocations, in which S3 answers all that it was asked.
async fn freeze(function: &Function, s3: &S3Server) {
    let environment = environment(function);
    environment.wait_until_frozen().await.unwrap();
    let answered = |requests: &[RequestRecord]| requests.iter().all(|one| one.status.is_some());
    // A question that was given up for another one has none.
    let answers = s3.wait_for_requests("an answer to every question", answered);
    let _ = tokio::time::timeout(2 * ROUND_TRIP, answers).await;
    environment.let_pass(FREEZE).await.unwrap();
    s3.let_pass();
}

async fn a_check_whose_answer_comes_in_the_freeze_is_not_asked_again(clock: Clock) {
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
    // A request that was begun shortly before a freeze may be given up at the thaw; it is sent again.
    let answers: Vec<_> = asked.iter().filter_map(|one| one.status).collect();
    assert!(answers.iter().all(|status| *status == 304), "{asked:?}");
    assert!(!answers.is_empty(), "{asked:?}");
    // Of each two invocations one asks, and the next hears the answer.
    assert!(asked.len() <= MANY, "{} questions", asked.len());
    let log = function.log().text();
    assert!(!log.contains("stays"), "no check failed: {log}");
}

async fn a_new_version_arrives_though_no_answer_comes_within_an_invocation(clock: Clock) {
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

async fn a_flush_whose_answer_comes_in_the_freeze_is_not_sent_again(clock: Clock) {
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
    assert!(!log.contains("metrics are kept"), "no flush failed: {log}");
}
