//! Alarms of `layer/deploy` on the metrics of real runs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab::cloudwatch::{CloudWatch, Datapoint, Filter};
use lab::gate::Gate;
use lab::lambda::{ApiCall, Function, ShutdownReason};
use lab::monitoring::{Alarm, AlarmState};
use lab::s3::{Rule, S3Server};
use serde_json::json;

use super::monitored::{ROLLED_BACK, URI, deployed, invoke_until, measured, parameters, publish};
use crate::support::{alive, features, s3_with};
use lab::reference::WINE;

/// Period of the alarms.
const PERIOD: Duration = Duration::from_secs(300);

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
