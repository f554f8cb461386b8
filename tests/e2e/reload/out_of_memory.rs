//! A model whose load exceeds the memory: the kernel kills the sidecar during the load, and the platform restarts it.
//!
//! The last good version serves after the restart, and the model that killed the process is not loaded again.

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
    a_version_that_kills_the_process_is_not_loaded_again,
    the_only_version_is_loaded_three_times_then_requests_get_the_reason,
);

/// Enough memory for the wine models, and about half of what `hungry.onnx` needs.
const MEMORY_MB: u32 = 512;
/// Logged for a version that killed the process.
const DIED: &str = "while it loaded this version: ONNX Runtime crashed, or memory was insufficient";

/// Kills the sidecar in every load of `hungry.onnx`.
#[derive(Clone, Copy)]
enum Reaper {
    /// The kernel's out-of-memory killer, where memory can be limited.
    Kernel,
    /// SIGKILL from the test, which is faster and needs no rights.
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
        // The tail budget covers the load, which is slow with little CPU.
        platform(s3)
            .memory_mb(MEMORY_MB)
            .limit_resources(matches!(self, Self::Kernel))
            .env("MODEL_REFRESH_INTERVAL", "0")
            .env("MODEL_TAIL_BUDGET", "30s")
            .clock(clock)
    }

    /// Kills during `invocations`.
    async fn during<T>(self, function: &Function, invocations: impl Future<Output = T>) -> T {
        let Self::Signal = self else {
            return invocations.await;
        };
        tokio::select! {
            () = kill_in_every_load(function) => unreachable!("an endless loop"),
            done = invocations => done,
        }
    }
}

/// Kills the sidecar once in each load of `hungry.onnx`. Each load writes its marker anew, so the marker's time
/// identifies the load.
async fn kill_in_every_load(function: &Function) {
    let file = place(&model("hungry.onnx"));
    let mut killed = None;
    loop {
        let load = || {
            let environment = function.environment()?;
            let marker = environment.tmp().join("model-sidecar/loading/wine");
            let begun = std::fs::metadata(&marker).ok()?.modified().ok()?;
            let digest = std::fs::read_to_string(marker).ok()?;
            let is_new = !digest.is_empty() && file.contains(&digest) && killed != Some(begun);
            is_new.then_some((environment, begun))
        };
        until("a load", || load().is_some()).await;
        if let Some((environment, begun)) = load() {
            // The process may have ended already.
            let _ = environment.kill("model-sidecar", Signal::SIGKILL);
            killed = Some(begun);
        }
    }
}

/// Statuses of `count` invocations, from this one on.
async fn statuses(function: &Function, from: usize, count: usize) -> Vec<Status> {
    let reports = function.wait_for_reports(from + count).await.unwrap();
    let reports = reports.into_iter().skip(from);
    reports.map(|report| report.status).collect()
}

fn crash() -> Status {
    Status::Error("Extension.Crash".to_owned())
}

async fn a_version_that_kills_the_process_is_not_loaded_again(clock: Clock) {
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
        // The function had responded before the kill.
        None => WINE.v1.check(&died.json.unwrap(), 0..9),
        Some(error) => assert_eq!(error.error_type, "Extension.Crash"),
    }

    // Several polls, an hour and a reset change nothing.
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
    // The environment may have frozen before the log line.
    function.answer(&features(1)).await.unwrap();
    let log = function.log();
    let said = || log.text().matches(DIED).count();
    until("the reason in the log of both starts", || said() == 2).await;
    assert_only_kept(&environment, &[&model("wine-v1.onnx")], &["wine"]).await;

    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    function.answer(&features(1)).await.unwrap();
    log.wait_for("a new version is active").await.unwrap();
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let kept = ["wine-v1.onnx", "wine-v2.onnx"].map(model);
    assert_only_kept(&environment, &[&kept[0], &kept[1]], &["wine"]).await;
}

async fn the_only_version_is_loaded_three_times_then_requests_get_the_reason(clock: Clock) {
    let reaper = Reaper::Signal;
    let s3 = s3_with("hungry.onnx").await;
    let function = reaper.function(&s3, clock).start().await.unwrap();
    let event = http_event("POST", "/predict", &features(2));
    // The first invocation loads the model twice, since Init is repeated.
    let died = async {
        for _ in 0..2 {
            let died = function.invoke(&event).await;
            // After a reset the handler may notice the death before the platform does.
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
    assert!(words.contains("the process ended 3 times"), "{words}");
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
