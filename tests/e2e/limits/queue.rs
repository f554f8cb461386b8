//! Concurrent requests: queue, concurrency, batches, shutdown.

use futures_util::future::join_all;
use lab::cloudwatch::{CloudWatch, Filter};
use lab::http::{Client, HttpResponse, post};
use lab::s3::S3Server;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::support::{Alone, alive, error, now_ms, platform, s3_with};
use lab::reference::WINE;

/// Matrix products of a run that takes minutes.
const ENDLESS: u64 = 20_000_000;
/// Limits the concurrency to one run, on any machine.
const ONE_RUN: (&str, &str) = ("MODEL_THREADS", "256");

fn trips(count: u64) -> Value {
    let input = json!({ "name": "trips", "datatype": "INT64", "shape": [1], "data": [count] });
    json!({ "inputs": [input] })
}

/// Sends a request for a short run with a deadline in `time_ms`.
async fn short(client: &Client, time_ms: u64) -> HttpResponse {
    let mut request = post("/v2/models/wine/infer", &trips(1)).unwrap();
    let deadline = now_ms() + time_ms;
    let headers = request.headers_mut();
    headers.insert("lambda-runtime-deadline-ms", deadline.into());
    client.send(request).await.unwrap()
}

/// Sends requests for short runs until one gets this status.
async fn until_answered(client: &Client, status: u16) -> HttpResponse {
    let asking = async {
        loop {
            let answer = short(client, 400).await;
            if answer.status == status {
                return answer;
            }
        }
    };
    tokio::time::timeout(lab::WAIT_LIMIT, asking).await.unwrap()
}

/// Sends a request whose run does not end before the connection is dropped.
async fn endless(alone: &Alone) -> UnixStream {
    let body = trips(ENDLESS).to_string();
    let (path, length) = ("/v2/models/wine/infer", body.len());
    let text = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
    let mut stream = UnixStream::connect(alone.socket()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Starts a sidecar with these variables, which sends metrics every 100 ms.
async fn observed(s3: &S3Server, cloudwatch: &CloudWatch, variables: &[(&str, &str)]) -> Alone {
    let to_cloudwatch = cloudwatch.env();
    let mut all: Vec<(&str, &str)> = to_cloudwatch
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    all.push(("MODEL_METRICS", "cloudwatch"));
    all.push(("MODEL_METRICS_INTERVAL", "100ms"));
    all.extend(variables);
    Alone::ready(s3, &all).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_429_and_a_disconnect_frees_its_place() {
    let s3 = s3_with("slow.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let alone = observed(&s3, &cloudwatch, &[ONE_RUN, ("MODEL_QUEUE", "1")]).await;
    let client = alone.client();
    let (first, second) = (endless(&alone).await, endless(&alone).await);

    let refused = until_answered(&client, 429).await;
    assert_eq!(refused.header("retry-after"), Some("1"));
    let said = refused.json().unwrap();
    let words = error(&said);
    assert!(words.contains("1 requests already wait"), "{words}");
    assert!(words.contains("MODEL_QUEUE"), "{words}");
    for path in ["/v2/health/live", "/v2/health/ready"] {
        assert_eq!(client.get(path).await.unwrap().status, 200, "{path}");
    }
    let refusals = Filter::metric("QueueFull").dimension("ModelName", "wine");
    cloudwatch
        .wait_until("the refusal", |_| cloudwatch.sum(&refusals) >= 1.0)
        .await
        .unwrap();
    let depth = Filter::metric("QueueDepth").dimension("ModelName", "wine");
    cloudwatch
        .wait_until("one queued request", |_| cloudwatch.sum(&depth) >= 1.0)
        .await
        .unwrap();
    let wrong = Filter::metric("RejectedRequests");
    assert!(cloudwatch.datapoints(&wrong).is_empty());

    // Disconnects free the place in the queue, and then cancel the run.
    drop(second);
    until_answered(&client, 504).await;
    drop(first);
    until_answered(&client, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_is_the_number_of_cpus() {
    let s3 = s3_with("slow.onnx").await;
    let alone = Alone::ready(&s3, &[]).await;
    let client = alone.client();
    let cpus = std::thread::available_parallelism().unwrap().get();
    let mut callers = Vec::new();
    for _ in 0..cpus {
        callers.push(endless(&alone).await);
    }
    // Every run is taken, then all but one.
    until_answered(&client, 504).await;
    callers.pop();
    until_answered(&client, 200).await;
    assert_eq!(short(&client, 60_000).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_share_a_batch() {
    const AT_ONCE: usize = 8;
    const ROUNDS: usize = 5;
    let s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let rows = AT_ONCE.to_string();
    let variables = [
        ("MODEL_BATCH_MAX", rows.as_str()),
        ("MODEL_BATCH_DELAY", "1h"),
    ];
    let alone = observed(&s3, &cloudwatch, &variables).await;
    for round in 0..ROUNDS {
        // A batch runs when it is full.
        let asks = (0..AT_ONCE).map(|caller| {
            let client = alone.client();
            let index = round * AT_ONCE + caller;
            async move {
                let row = json!({ "features": WINE.rows[index] });
                let answer = client.post("/predict", &row).await.unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
                WINE.v1.check(&answer.json().unwrap(), index..index + 1);
            }
        });
        join_all(asks).await;
    }
    // A request that fills a batch runs at once.
    let answer = alone.predict(AT_ONCE).await;
    WINE.v1.check(&answer.json().unwrap(), 0..AT_ONCE);

    let requests = f64::from(u32::try_from(AT_ONCE * ROUNDS + 1).unwrap());
    let runs = f64::from(u32::try_from(ROUNDS + 1).unwrap());
    let sizes = Filter::metric("BatchSize").dimension("ModelName", "wine");
    cloudwatch
        .wait_until("all runs", |_| cloudwatch.sum(&sizes) >= requests)
        .await
        .unwrap();
    assert!((cloudwatch.count(&sizes) - runs).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_batch_is_repeated_request_by_request() {
    let s3 = s3_with("one-row.onnx").await;
    let variables = [("MODEL_BATCH_MAX", "8"), ("MODEL_BATCH_DELAY", "20ms")];
    let alone = Alone::ready(&s3, &variables).await;
    for _ in 0..5 {
        let callers = (0..8).map(|_| {
            let client = alone.client();
            tokio::spawn(async move {
                let request = json!({ "features": [[1, 2]] });
                client.post("/predict", &request).await.unwrap()
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            let answer = caller.await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.json().unwrap()["prediction"], json!([[8.0]]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_answers_queued_and_running_requests() {
    let s3 = s3_with("slow.onnx").await;
    let function = platform(&s3).env(ONE_RUN.0, ONE_RUN.1).managed_instances(8);
    let function = function.start().await.unwrap();
    alive(&function).await;
    let environment = function.environment().unwrap();
    let client = Client::unix(environment.tmp().join("model-sidecar.sock"));
    let body = trips(ENDLESS);
    let callers = join_all([(); 3].map(|()| client.post("/v2/models/wine/infer", &body)));
    let (answers, log) = tokio::join!(callers, async {
        until_answered(&client, 504).await;
        function.shutdown().await.text()
    });
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 503, "{}", answer.text());
        let said = answer.json().unwrap();
        assert_eq!(error(&said), "the sidecar is shutting down");
    }
    assert!(log.contains("shutting down reason=\"spindown\""), "{log}");
}
