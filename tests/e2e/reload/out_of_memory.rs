//! A model that takes more memory to load than there is: the kernel kills the sidecar in the middle of
//! the load, and the platform begins anew. The last good version answers then; and what killed the
//! process is not tried for ever.

use lab::lambda::{Builder, Clock, Function, Limits, Status};
use lab::s3::S3Server;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    BUCKET, KEY, assert_only_kept, body, error, features, freeze, http_event, model, place,
    platform, s3_with, transfers, until, with_both_clocks,
};
use lab::reference::WINE;

with_both_clocks!(
    the_last_good_version_answers_until_there_is_another,
    a_version_that_is_the_only_one_is_tried_three_times_and_the_reason_is_answered,
);

/// Enough for the wine models, and little more than half of what the hungry one takes.
const MEMORY_MB: u32 = 512;
/// What is said of a version that killed the process.
const DIED: &str = "while it loaded this version: a crash in ONNX Runtime, or too little memory";

/// Takes the sidecar's life in every load of the hungry model.
#[derive(Clone, Copy)]
enum Reaper {
    /// The kernel, where memory can be limited.
    Kernel,
    /// The test itself, where it cannot, or where it is to be quick.
    Signal,
}

impl Reaper {
    fn here() -> Self {
        match Limits::for_memory(MEMORY_MB) {
            Ok(_) => Self::Kernel,
            Err(_) => Self::Signal,
        }
    }

    fn function(self, s3: &S3Server, clock: Clock) -> Builder {
        // The tail waits for the load, however slow the little CPU makes it.
        platform(s3)
            .memory_mb(MEMORY_MB)
            .limit_resources(matches!(self, Self::Kernel))
            .env("MODEL_REFRESH_INTERVAL", "0")
            .env("MODEL_TAIL_BUDGET", "30s")
            .clock(clock)
    }

    /// Does its work as long as `invocations` go on.
    async fn during<T>(self, function: &Function, invocations: impl Future<Output = T>) -> T {
        let Self::Signal = self else {
            return invocations.await;
        };
        tokio::select! {
            () = kill_in_every_load(function) => unreachable!("it has no end"),
            done = invocations => done,
        }
    }
}

/// Kills the sidecar whenever it loads the hungry model.
async fn kill_in_every_load(function: &Function) {
    let file = place(&model("hungry.onnx"));
    let is_marked = || {
        let environment = function.environment()?;
        let mark = environment.tmp().join("model-sidecar/loading/wine");
        let mark = std::fs::read_to_string(mark).ok()?;
        (!mark.is_empty() && file.contains(&mark)).then_some(environment)
    };
    loop {
        until("a load", || is_marked().is_some()).await;
        if let Some(environment) = is_marked() {
            // It may be gone already, and then it is known to be.
            let _ = environment.kill("model-sidecar", Signal::SIGKILL);
        }
        until("the next process", || is_marked().is_none()).await;
    }
}

/// How the invocations ended so far, from this one on.
async fn statuses(function: &Function, from: usize, count: usize) -> Vec<Status> {
    let reports = function.wait_for_reports(from + count).await.unwrap();
    let reports = reports.into_iter().skip(from);
    reports.map(|report| report.status).collect()
}

fn crash() -> Status {
    Status::Error("Extension.Crash".to_owned())
}

async fn the_last_good_version_answers_until_there_is_another(clock: Clock) {
    let reaper = Reaper::here();
    let s3 = s3_with("wine-v1.onnx").await;
    let function = reaper.function(&s3, clock).start().await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    freeze(&function, &s3).await;

    s3.put(BUCKET, KEY, model("hungry.onnx"));
    let event = features(9);
    let died = reaper.during(&function, async {
        let died = function.invoke(&event).await;
        assert_eq!(statuses(&function, 1, 1).await, [crash()]);
        died
    });
    let died = died.await;
    match died.function_error() {
        // It had its answer when the kernel struck.
        None => WINE.v1.check(&died.json.unwrap(), 0..9),
        Some(error) => assert_eq!(error.error_type, "Extension.Crash"),
    }

    // Several checks, and an hour, and a reset change nothing.
    for _ in 0..3 {
        WINE.v1
            .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    }
    freeze(&function, &s3).await;
    let environment = function.environment().unwrap();
    let reset = environment.reset(lab::lambda::ShutdownReason::Failure);
    reset.await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let success = [const { Status::Success }; 4];
    assert_eq!(statuses(&function, 2, 4).await, success);
    assert_eq!(transfers(&s3).len(), 2, "{:?}", s3.requests());
    // The freeze after the answer may have come before the log's line.
    function.answer(&features(1)).await.unwrap();
    let log = function.log();
    let said = || log.text().matches(DIED).count();
    until("both starts say why", || said() == 2).await;
    assert_only_kept(&environment, &[&model("wine-v1.onnx")], &["wine"]).await;

    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    function.answer(&features(1)).await.unwrap();
    log.wait_for("another version answers from now on")
        .await
        .unwrap();
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let kept = ["wine-v1.onnx", "wine-v2.onnx"].map(model);
    assert_only_kept(&environment, &[&kept[0], &kept[1]], &["wine"]).await;
}

async fn a_version_that_is_the_only_one_is_tried_three_times_and_the_reason_is_answered(
    clock: Clock,
) {
    let reaper = Reaper::Signal;
    let s3 = s3_with("hungry.onnx").await;
    let function = reaper.function(&s3, clock).start().await.unwrap();
    let event = http_event("POST", "/predict", &features(2));
    // The first one takes two lives, since Init is done twice for it.
    let died = async {
        for _ in 0..2 {
            let died = function.invoke(&event).await;
            // In an environment that was reset the handler may hear of the death first.
            match died.function_error() {
                Some(error) => assert_eq!(error.error_type, "Extension.Crash", "{}", died.text()),
                None => assert!(
                    died.text().contains("closed the connection"),
                    "{}",
                    died.text()
                ),
            }
        }
    };
    reaper.during(&function, died).await;
    let environment = function.environment().unwrap();

    let answer = function.answer(&event).await.unwrap();
    assert_eq!(answer["statusCode"], 503, "{answer}");
    let words = error(&body(&answer)).to_owned();
    assert!(words.contains("the process died 3 times"), "{words}");
    assert!(words.contains(DIED), "{words}");
    freeze(&function, &s3).await;
    let ready = http_event("GET", "/v2/health/ready", &Value::Null);
    let answer = function.answer(&ready).await.unwrap();
    assert_eq!(answer["statusCode"], 503, "{answer}");
    assert_eq!(error(&body(&answer)), words);
    assert_eq!(transfers(&s3).len(), 1, "{:?}", s3.requests());
    let crashed = statuses(&function, 0, 4).await;
    assert_eq!(crashed[2..], [Status::Success, Status::Success]);

    s3.put(BUCKET, KEY, model("wine-v1.onnx"));
    function.answer(&ready).await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    assert_only_kept(&environment, &[&model("wine-v1.onnx")], &["wine"]).await;
}
