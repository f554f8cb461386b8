//! Dashboard and alarms of `layer/deploy` on the metrics of real runs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab::cloudwatch::{CloudWatch, Datapoint, Filter};
use lab::gate::Gate;
use lab::lambda::{ApiCall, Builder, Clock, Function, ShutdownReason};
use lab::monitoring::{Alarm, AlarmState, Dashboard, TimeRange, WidgetKind};
use lab::s3::{Rule, S3Server};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::layout::manifest;
use crate::support::{BUCKET, alive, body, features, http_event, model, platform, s3_with};
use lab::reference::WINE;

const MANIFEST: &str = "wine/manifest.json";
const URI: &str = "s3://models/wine/manifest.json";
/// Series that need provisioned concurrency, which the lab does not have.
const NOT_IN_THE_LAB: [&str; 2] = ["spillover", "used share"];
const ROLLED_BACK: &str = "rollback: the previous version is active";
/// Period of the alarms.
const PERIOD: Duration = Duration::from_secs(300);

/// Function that sends all metrics at every invocation, and completes its reloads in it.
fn measured(s3: &S3Server, cloudwatch: &CloudWatch) -> Builder {
    platform(s3)
        .envs(cloudwatch.env())
        .env("MODEL_METRICS", "cloudwatch")
        .env("MODEL_METRICS_SET", "all")
        .env("MODEL_METRICS_INTERVAL", "0")
        .env("MODEL_REFRESH_INTERVAL", "1s")
        .env("MODEL_TAIL_BUDGET", "30s")
        .env("MODEL_DRIFT_SAMPLE", "1000")
        .clock(Clock::Jumps)
}

/// Placeholders of the generated files, with thresholds that differ from the defaults.
fn parameters(thresholds: &[(&str, f64)]) -> Vec<(String, String)> {
    let path = lab::artifacts::workspace().join("layer/deploy/monitoring.template.json");
    let template: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut parameters: Vec<(String, String)> = template["Parameters"]
        .as_object()
        .unwrap()
        .iter()
        .filter_map(|(name, one)| Some((name.clone(), one["Default"].as_str()?.to_owned())))
        .filter(|(name, _)| thresholds.iter().all(|(other, _)| name != other))
        .collect();
    for (name, value) in [("FunctionName", "lab"), ("ModelName", "wine")] {
        parameters.push((name.to_owned(), value.to_owned()));
    }
    for (name, value) in thresholds {
        parameters.push(((*name).to_owned(), value.to_string()));
    }
    parameters
}

fn deployed(name: &str) -> String {
    let path = lab::artifacts::workspace().join("layer/deploy").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// Publishes `current` of these versions, all with a baseline from the rows, and version 1 with a golden example.
fn publish(s3: &S3Server, current: &str, versions: &[(&str, &str)], golden: Option<&Value>) {
    for (name, file) in versions {
        s3.put(BUCKET, &format!("wine/{name}/model.onnx"), model(file));
    }
    let mut manifest: Value = serde_json::from_slice(&manifest(current, versions)).unwrap();
    for (name, _) in versions {
        manifest["versions"][*name]["baseline"] = baseline();
    }
    if let Some(golden) = golden {
        manifest["versions"][versions[0].0]["golden"] = json!([golden]);
    }
    s3.put(BUCKET, MANIFEST, manifest.to_string());
}

/// Histograms of the first feature and of the label over all rows.
fn baseline() -> Value {
    let edges = [11.0, 12.5, 13.5, 15.0];
    let mut counts = [0; 3];
    for row in &WINE.rows {
        counts[usize::from(row[0] >= edges[1]) + usize::from(row[0] >= edges[2])] += 1;
    }
    json!([
        {"input": "X", "column": 0, "edges": edges, "counts": counts},
        {"output": "output_label", "edges": [0, 1, 2, 3], "counts": [59, 71, 48]},
    ])
}

/// Golden example of the first row, from the model's own outputs.
async fn golden(function: &Function) -> Value {
    let inputs =
        json!([{"name": "X", "shape": [1, 13], "datatype": "FP32", "data": [WINE.rows[0]]}]);
    let event = http_event(
        "POST",
        "/v2/models/wine/infer",
        &json!({ "inputs": inputs }),
    );
    let mut outputs = body(&function.answer(&event).await.unwrap())["outputs"].clone();
    for output in outputs.as_array_mut().unwrap() {
        output.as_object_mut().unwrap().remove("parameters");
    }
    json!({ "inputs": inputs, "outputs": outputs })
}

/// Lets the poll interval pass while the environment is frozen.
async fn let_poll_be_due(function: &Function, cloudwatch: &CloudWatch) {
    pass(function, cloudwatch, Duration::from_secs(2)).await;
}

/// Invokes with a row until the log meets a condition.
async fn invoke_until(function: &Function, wanted: &str, holds: impl Fn(&str) -> bool) {
    let invoking = async {
        while !holds(&function.log().text()) {
            function.invoke(&features(1)).await;
        }
    };
    let met = tokio::time::timeout(lab::WAIT_LIMIT, invoking).await;
    assert!(met.is_ok(), "{wanted}:\n{}", function.log().text());
}

async fn pass(function: &Function, cloudwatch: &CloudWatch, time: Duration) {
    let environment = function.environment().unwrap();
    environment.wait_until_frozen().await.unwrap();
    environment.let_pass(time).await.unwrap();
    cloudwatch.let_pass(time);
}

/// A function whose model goes through everything that has a metric.
async fn eventful(cloudwatch: &CloudWatch) -> Vec<Datapoint> {
    let s3 = S3Server::start().await.unwrap();
    let first = [("1", "wine-v1.onnx")];
    publish(&s3, "1", &first, None);
    let function = measured(&s3, cloudwatch).env("MODEL_URI", URI);
    let function = function.start().await.unwrap();
    let golden = golden(&function).await;
    // Enough rows for the drift of three bins.
    function.answer(&features(178)).await.unwrap();
    let wrong = http_event("POST", "/v2/models/wine/infer", &json!({ "inputs": [] }));
    assert_eq!(function.answer(&wrong).await.unwrap()["statusCode"], 400);

    let swapped = "a new version is active";
    for (current, version, words, count) in [
        ("2", ("2", "wine-v2.onnx"), swapped, 1),
        ("1", ("2", "wine-v2.onnx"), swapped, 2),
        ("3", ("3", "garbage.onnx"), "keeping the active version", 1),
        ("4", ("4", "wine-fails.onnx"), ROLLED_BACK, 1),
    ] {
        let_poll_be_due(&function, cloudwatch).await;
        publish(&s3, current, &[first[0], version], Some(&golden));
        invoke_until(&function, words, |log| log.matches(words).count() >= count).await;
    }

    let_poll_be_due(&function, cloudwatch).await;
    s3.fail(Rule::on("GET").status(403, "AccessDenied"));
    alive(&function).await;
    s3.heal();
    publish(&s3, "1", &first, None);
    let environment = function.environment().unwrap();
    environment.reset(ShutdownReason::Failure).await.unwrap();
    alive(&function).await;
    environment.kill("model-sidecar", Signal::SIGKILL).unwrap();
    // The invocation that finds the sidecar gone fails, and the next one begins with an Init.
    invoke_until(&function, "a third start", |log| {
        log.matches("INIT_START").count() >= 3
    })
    .await;
    function.shutdown().await;
    function.metrics()
}

/// A function that cannot load its model during Init.
async fn failing_start(cloudwatch: &CloudWatch) {
    let s3 = s3_with("wine-v1.onnx").await;
    s3.fail(Rule::on("GET").status(403, "AccessDenied"));
    let function = measured(&s3, cloudwatch).env("MODEL_REQUIRED", "true");
    let function = function.start().await.unwrap();
    assert!(
        function
            .invoke(&features(1))
            .await
            .function_error()
            .is_some()
    );
    function.shutdown().await;
}

/// A function whose Init ends before its model is active.
async fn slow_start(cloudwatch: &CloudWatch) {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = measured(&s3, cloudwatch).env("MODEL_INIT_BUDGET", "1ms");
    let function = function.start().await.unwrap();
    function.answer(&features(1)).await.unwrap();
    function.shutdown().await;
}

/// A managed instance with more concurrent requests than its queue takes.
async fn full_queue(cloudwatch: &CloudWatch) {
    let s3 = s3_with("slow.onnx").await;
    let function = measured(&s3, cloudwatch)
        .env("MODEL_THREADS", "256")
        .env("MODEL_QUEUE", "1")
        .managed_instances(8);
    let function = function.start().await.unwrap();
    let input = json!({"name": "trips", "datatype": "INT64", "shape": [1], "data": [20_000]});
    let event = http_event(
        "POST",
        "/v2/models/wine/infer",
        &json!({ "inputs": [input] }),
    );
    let full = async {
        loop {
            let answers = (0..8).map(|_| function.answer(&event));
            let answers = futures_util::future::try_join_all(answers).await.unwrap();
            if answers.iter().any(|answer| answer["statusCode"] == 429) {
                return;
            }
        }
    };
    tokio::time::timeout(lab::WAIT_LIMIT, full).await.unwrap();
    function.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_series_of_the_dashboard_has_values_of_a_real_run() {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let (of_lambda, (), (), ()) = tokio::join!(
        eventful(&cloudwatch),
        failing_start(&cloudwatch),
        slow_start(&cloudwatch),
        full_queue(&cloudwatch),
    );
    let mut data = cloudwatch.datapoints(&Filter::all());
    data.extend(of_lambda);
    let refused = cloudwatch
        .requests()
        .into_iter()
        .find(|one| one.status != 200);
    assert!(refused.is_none(), "{refused:?}");

    let dashboard = Dashboard::read(&deployed("dashboard.json"), &parameters(&[])).unwrap();
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let times = || data.iter().map(|one| seconds(one.timestamp));
    let range = TimeRange {
        start: times().min().unwrap() / 300 * 300,
        end: times().max().unwrap() + 300,
        period: 300,
    };
    let mut empty = Vec::new();
    for widget in &dashboard.widgets {
        let (WidgetKind::Chart { series, .. } | WidgetKind::Numbers(series)) = &widget.kind else {
            continue;
        };
        let lines = widget.evaluate(&data, range).unwrap().lines;
        for label in series
            .iter()
            .filter_map(lab::monitoring::Series::visible_label)
        {
            // A search has no label, and the values of its dimension as those of its lines.
            let has_values = lines
                .iter()
                .any(|line| line.label == label || label.is_empty());
            if !has_values && !NOT_IN_THE_LAB.contains(&label.as_str()) {
                empty.push(format!("{}: {label}", widget.title));
            }
        }
    }
    assert!(empty.is_empty(), "no values for {empty:#?}");
}

/// Alarms that evaluate the metrics of a run on its own clock.
struct Watch {
    alarms: Vec<Alarm>,
    states: Vec<AlarmState>,
}

impl Watch {
    fn new(thresholds: &[(&str, f64)]) -> Self {
        let alarms = Alarm::read(&deployed("alarms.json"), &parameters(thresholds)).unwrap();
        let states = vec![AlarmState::Ok; alarms.len()];
        Self { alarms, states }
    }

    fn evaluate(&mut self, data: &[Datapoint], now: SystemTime) {
        for (alarm, state) in self.alarms.iter().zip(&mut self.states) {
            *state = alarm.evaluate(data, now, *state).unwrap();
        }
    }

    /// Ends of the names of the alarms in the state ALARM.
    fn in_alarm(&self) -> Vec<&str> {
        let in_alarm = self.alarms.iter().zip(&self.states);
        in_alarm
            .filter(|(_, state)| **state == AlarmState::Alarm)
            .map(|(alarm, _)| alarm.alarm_name.strip_prefix("lab-wine-").unwrap())
            .collect()
    }
}

/// Two functions of one name: one with a model, and one that cannot load it while `outage` lasts.
struct Fleet {
    cloudwatch: CloudWatch,
    sources: [S3Server; 2],
    functions: [Function; 2],
    /// Simulated time so far.
    passed: Duration,
}

impl Fleet {
    async fn start() -> Self {
        let cloudwatch = CloudWatch::start().await.unwrap();
        let sources = [
            S3Server::start().await.unwrap(),
            s3_with("wine-v1.onnx").await,
        ];
        publish(&sources[0], "1", &[("1", "wine-v1.onnx")], None);
        sources[1].fail(Rule::on("GET").status(403, "AccessDenied"));
        let function = |s3, uri: &str| measured(s3, &cloudwatch).env("MODEL_URI", uri);
        let functions = [
            function(&sources[0], URI).start().await.unwrap(),
            function(&sources[1], "s3://models/wine/model.onnx")
                .start()
                .await
                .unwrap(),
        ];
        let mut fleet = Self {
            cloudwatch,
            sources,
            functions,
            passed: Duration::ZERO,
        };
        for function in &fleet.functions {
            alive(function).await;
        }
        // From a few seconds after the start of a period on, no step crosses the end of one.
        let seconds = fleet.now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let rest = PERIOD.as_secs() - seconds % PERIOD.as_secs();
        fleet.pass(Duration::from_secs(rest + 5)).await;
        fleet
    }

    fn now(&self) -> SystemTime {
        SystemTime::now() + self.passed
    }

    async fn pass(&mut self, time: Duration) {
        for (function, s3) in self.functions.iter().zip(&self.sources) {
            let environment = function.environment().unwrap();
            environment.wait_until_frozen().await.unwrap();
            environment.let_pass(time).await.unwrap();
            s3.let_pass();
        }
        self.cloudwatch.let_pass(time);
        self.passed += time;
    }

    fn data(&self) -> Vec<Datapoint> {
        let mut data = self.cloudwatch.datapoints(&Filter::all());
        data.extend(self.functions.iter().flat_map(Function::metrics));
        data
    }

    /// Invokes once, and holds its metrics back until the function waits for the next invocation: a tail.
    async fn tail(&self) {
        let serving = &self.functions[0];
        let environment = serving.environment().unwrap();
        let gate = Gate::new();
        self.cloudwatch.stall(&gate);
        alive(serving).await;
        gate.reached(1).await.unwrap();
        let polls = |calls: &[ApiCall]| {
            let last = calls.iter().rfind(|call| call.from == "runtime");
            last.is_some_and(|call| call.path.ends_with("/next") && call.answered.is_none())
        };
        let polled = environment.wait_for_trace("the function's poll", polls);
        polled.await.unwrap();
        self.cloudwatch.heal();
        environment.wait_until_frozen().await.unwrap();
    }

    /// Rows that the model is unsure of, many requests, concurrent invocations of one environment, and a tail.
    async fn bad_traffic(&self) {
        self.tail().await;
        let [serving, broken] = &self.functions;
        let row = &WINE.rows[UNSURE];
        let rows = json!({ "features": vec![row; 178] });
        serving.answer(&rows).await.unwrap();
        let environment = serving.environment().unwrap();
        environment.wait_until_frozen().await.unwrap();
        environment.thaw().await.unwrap();
        let client = lab::http::Client::unix(environment.tmp().join("model-sidecar.sock"));
        let mut connection = client.connect().await.unwrap();
        let one = json!({ "features": [row] });
        for _ in 0..MANY {
            let request = lab::http::post("/predict", &one).unwrap();
            assert_eq!(connection.send(request).await.unwrap().status, 200);
        }
        drop(connection);
        // The first may have ended before the second begins.
        let throttled = async {
            loop {
                let (first, second) = (serving.invoke(&rows), serving.invoke(&rows));
                let (first, second) = tokio::join!(first, second);
                let (throttled, ran): (Vec<_>, Vec<_>) = [first, second]
                    .into_iter()
                    .partition(|ended| ended.status == 429);
                assert!(ran.iter().all(|ended| ended.function_error().is_none()));
                if !throttled.is_empty() {
                    break;
                }
            }
        };
        let throttled = tokio::time::timeout(lab::WAIT_LIMIT, throttled).await;
        assert!(throttled.is_ok(), "no invocation was throttled");
        assert!(broken.invoke(&features(1)).await.function_error().is_some());
    }

    /// Waits until the function without a model has loaded it.
    async fn recover(&self) {
        let recovering = async {
            while self.functions[1]
                .invoke(&features(1))
                .await
                .function_error()
                .is_some()
            {}
        };
        tokio::time::timeout(lab::WAIT_LIMIT, recovering)
            .await
            .unwrap();
    }

    /// All rows three times, to both functions, and a tail. A p10 needs 100 samples, and a request contributes 16.
    async fn good_traffic(&self) {
        self.tail().await;
        for function in self.functions.iter().cycle().take(6) {
            function.answer(&features(178)).await.unwrap();
        }
    }
}

/// Row with the least certain prediction of version 1: 0.64. The p10 over all rows is 0.91.
const UNSURE: usize = 68;
/// Requests in each of three periods; a p99 needs 1,000 samples.
const MANY: usize = 340;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one alarm after the other")]
async fn alarms_go_to_alarm_and_back_by_traffic() {
    let mut fleet = Fleet::start().await;
    let mut watch = Watch::new(&[
        ("ErrorPercent", 0.1),
        ("StalenessSeconds", 250.0),
        ("VersionLagSeconds", 250.0),
        ("ConfidenceP10", 0.8),
        // What no run can stay below.
        ("LatencyP99Milliseconds", 0.000_001),
        ("MemoryPercent", 0.001),
        ("PostRuntimeExtensionsMilliseconds", 0.000_001),
    ]);
    let mut evaluated = |fleet: &Fleet| {
        watch.evaluate(&fleet.data(), fleet.now());
        watch
            .in_alarm()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let first = [("1", "wine-v1.onnx")];
    let always = ["latency-p99", "memory", "post-runtime-extensions"];

    // A version that cannot be loaded, and one whose runs fail. Both are alarms after one period.
    publish(
        &fleet.sources[0],
        "2",
        &[("2", "garbage.onnx"), first[0]],
        None,
    );
    alive(&fleet.functions[0]).await;
    fleet.pass(PERIOD).await;
    publish(
        &fleet.sources[0],
        "3",
        &[("3", "wine-fails.onnx"), first[0]],
        None,
    );
    let log = |log: &str| log.contains(ROLLED_BACK);
    invoke_until(&fleet.functions[0], ROLLED_BACK, log).await;
    fleet.pass(PERIOD).await;
    fleet.sources[0].fail(Rule::on("GET").status(403, "AccessDenied"));
    fleet.bad_traffic().await;
    let in_alarm = evaluated(&fleet);
    for name in ["rejected-version", "rollback"] {
        assert!(
            in_alarm.iter().any(|one| one == name),
            "{name}: {in_alarm:?}"
        );
    }

    // An outage and bad traffic for three periods: everything else.
    for _ in 0..2 {
        fleet.pass(PERIOD).await;
        fleet.bad_traffic().await;
    }
    fleet.pass(PERIOD).await;
    for s3 in &fleet.sources {
        s3.heal();
    }
    publish(&fleet.sources[0], "1", &first, None);
    fleet.recover().await;
    fleet.good_traffic().await;
    let in_alarm = evaluated(&fleet);
    let mut expected = vec![
        "confidence-p10",
        "error-rate",
        "feature-drift",
        "prediction-drift",
        "staleness",
        "throttles",
        "version-skew",
    ];
    expected.extend(always);
    expected.sort_unstable();
    let mut sorted = in_alarm.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);

    // Good traffic for three periods. The last window of drift was reported in the first of them.
    for _ in 0..4 {
        fleet.pass(PERIOD).await;
        fleet.good_traffic().await;
    }
    let mut in_alarm = evaluated(&fleet);
    in_alarm.sort_unstable();
    // The p99 keeps its state, because it has too few samples.
    assert_eq!(in_alarm, always);

    // No traffic: missing data is not breaching.
    fleet.pass(4 * PERIOD).await;
    assert!(evaluated(&fleet).is_empty());

    // An error before an hour's freeze arrives after it, and raises no alarm.
    let errors = |fleet: &Fleet| fleet.cloudwatch.sum(&Filter::metric("InferenceErrors"));
    let before = errors(&fleet);
    fleet.sources[1].fail(Rule::on("GET").status(403, "AccessDenied"));
    let environment = fleet.functions[1].environment().unwrap();
    environment.reset(ShutdownReason::Failure).await.unwrap();
    std::fs::remove_dir_all(environment.tmp().join("model-sidecar")).unwrap();
    let failed = fleet.functions[1].invoke(&features(1)).await;
    assert!(failed.function_error().is_some());
    fleet.pass(Duration::from_secs(3_600)).await;
    alive(&fleet.functions[1]).await;
    let arrived = |_: &[Datapoint]| errors(&fleet) > before;
    let arrived = fleet
        .cloudwatch
        .wait_until("the error of an hour ago", arrived)
        .await;
    arrived.unwrap();
    let in_alarm = evaluated(&fleet);
    assert!(
        !in_alarm.iter().any(|name| name == "error-rate"),
        "{in_alarm:?}"
    );
}
