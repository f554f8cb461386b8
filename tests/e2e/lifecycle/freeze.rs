//! A freeze of an hour during every kind of work.
//!
//! Each test runs with both kinds of monotonic clock: AWS does not document whether Lambda's clock includes the time
//! spent frozen.

use lab::cloudwatch::{CloudWatch, Filter};
use lab::gate::Gate;
use lab::lambda::Clock;
use lab::link::Link;
use lab::s3::Rule;
use serde_json::json;

use crate::support::{
    BUCKET, KEY, LONG, alive, downloads, downloads_so_far, features, freeze, invoke_until_logged,
    model, platform, s3_with, until, with_both_clocks,
};
use lab::reference::WINE;

with_both_clocks!(
    dead_idle_connections_cause_no_failure,
    a_download_resumes,
    a_reload_resumes,
    a_metric_flush_is_retried,
    an_abandoned_request_times_out_and_the_next_is_served,
);

async fn dead_idle_connections_cause_no_failure(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let link = Link::to_s3(&s3).await.unwrap();
    let function = platform(&s3)
        .env("AWS_ENDPOINT_URL_S3", link.url())
        .clock(clock);
    let function = function.start().await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);

    // A client outside of the environment, which is not frozen and keeps its connection open.
    let environment = function.environment().unwrap();
    let socket = environment.tmp().join("model-sidecar.sock");
    environment.wait_until_frozen().await.unwrap();
    environment.thaw().await.unwrap();
    let mut connection = lab::http::Client::unix(socket).connect().await.unwrap();
    let ask = || lab::http::post("/predict", &features(9)).unwrap();
    let answer = connection.send(ask()).await.unwrap().json().unwrap();
    WINE.v1.check(&answer, 0..9);

    for _ in 0..3 {
        environment.freeze().await.unwrap();
        freeze(&function, &s3).await;
        link.cut();
        environment.thaw().await.unwrap();
        let answer = connection.send(ask()).await.unwrap().json().unwrap();
        WINE.v1.check(&answer, 0..9);
        WINE.v1
            .check(&function.answer(&features(9)).await.unwrap(), 0..9);
        environment.wait_until_frozen().await.unwrap();
    }
    // Each hour made a poll due, and each poll reached S3.
    let checks = s3
        .wait_for_requests("a check after each freeze", |requests| {
            let unchanged = requests.iter().filter(|one| one.status == Some(304));
            unchanged.count() >= 3
        })
        .await;
    checks.unwrap();
    let log = function.shutdown().await.text();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}

async fn a_download_resumes(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let stalled = Gate::new();
    s3.fail(Rule::on("GET").first(1).stall_after(500, &stalled));
    let function = platform(&s3)
        .env("MODEL_INIT_BUDGET", "1ms")
        .env("MODEL_TAIL_BUDGET", "0")
        .clock(clock);
    let function = function.start().await.unwrap();
    alive(&function).await;
    stalled.reached(1).await.unwrap();
    freeze(&function, &s3).await;
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let last = model("wine-v1.onnx").len() - 1;
    let rest = format!("bytes=500-{last}");
    assert_eq!(downloads(&s3), [(Some(200), None), (Some(206), Some(rest))]);
}

async fn a_reload_resumes(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = platform(&s3)
        .env("MODEL_REFRESH_INTERVAL", "10m")
        .clock(clock);
    let function = function.start().await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    freeze(&function, &s3).await;

    let stalled = Gate::new();
    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    s3.fail(Rule::on("GET").first(1).stall_after(700, &stalled));
    // The hour makes a poll due, which runs in parallel with this invocation; the freeze interrupts its download.
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    stalled.reached(1).await.unwrap();
    freeze(&function, &s3).await;
    invoke_until_logged(&function, "a new version is active").await;
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let last = model("wine-v2.onnx").len() - 1;
    let rest = format!("bytes=700-{last}");
    assert_eq!(
        downloads_so_far(&s3).await[1..],
        [(Some(200), None), (Some(206), Some(rest))]
    );
}

async fn a_metric_flush_is_retried(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let function = platform(&s3)
        .envs(cloudwatch.env())
        .env("MODEL_METRICS", "cloudwatch")
        .env("MODEL_METRICS_INTERVAL", "10m")
        .clock(clock);
    let function = function.start().await.unwrap();
    function.answer(&features(1)).await.unwrap();
    freeze(&function, &s3).await;
    cloudwatch.let_pass(LONG);
    let stalled = Gate::new();
    cloudwatch.stall(&stalled);
    function.answer(&features(1)).await.unwrap();
    stalled.reached(1).await.unwrap();
    freeze(&function, &s3).await;
    cloudwatch.let_pass(LONG);
    let open = Gate::new();
    open.open();
    cloudwatch.stall(&open);
    // The thaw, not the next flush, sends the request again; the first one never gets a response.
    let inferences = Filter::metric("Inferences").dimension("ModelName", "wine");
    alive(&function).await;
    cloudwatch
        .wait_until("what was on its way", |_| {
            cloudwatch.sum(&inferences) >= 1.0
        })
        .await
        .unwrap();
    function.shutdown().await;
    assert!(
        cloudwatch.sum(&inferences) >= 2.0,
        "nothing is lost: {}",
        cloudwatch.sum(&inferences)
    );
}

async fn an_abandoned_request_times_out_and_the_next_is_served(clock: Clock) {
    let s3 = s3_with("slow.onnx").await;
    let function = platform(&s3).clock(clock).start().await.unwrap();
    alive(&function).await;
    let environment = function.environment().unwrap();
    let socket = environment.tmp().join("model-sidecar.sock");
    let client = lab::http::Client::unix(socket);
    let run = |trips: u32| json!({ "inputs": [{ "name": "trips", "datatype": "INT64", "shape": [1], "data": [trips] }] });
    // The environment freezes after every invocation, where a client outside of it gets no response.
    let wake = async || {
        environment.wait_until_frozen().await.unwrap();
        environment.thaw().await.unwrap();
    };
    wake().await;
    client.post("/v2/models/wine/infer", &run(1)).await.unwrap();

    // A run that takes longer than any wait in the tests.
    let abandoned = tokio::spawn({
        let (client, run) = (client.clone(), run(2_000_000_000));
        async move { client.post("/v2/models/wine/infer", &run).await }
    });
    let [sidecar] = environment.processes("model-sidecar").try_into().unwrap();
    let before = cpu_time(sidecar);
    until("a run under way", || cpu_time(sidecar) > before).await;
    environment.freeze().await.unwrap();
    freeze(&function, &s3).await;
    alive(&function).await;
    let answer = abandoned.await.unwrap().unwrap();
    assert_eq!(answer.status, 504, "{}", answer.text());
    wake().await;
    let answer = client.post("/v2/models/wine/infer", &run(1)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// CPU time of a process, in clock ticks.
fn cpu_time(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, after) = stat.rsplit_once(')').unwrap();
    let mut fields = after.split_whitespace().skip(11);
    let mut next = || fields.next().unwrap().parse::<u64>().unwrap();
    next() + next()
}
