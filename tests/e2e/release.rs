//! The release on libraries older than Amazon Linux 2023's: glibc 2.31, and the libstdc++ of GCC 10.
//!
//! `make test-x86-64` and `make test-arm64` build and unpack it, and run these tests. `unpack.py` puts a script in
//! place of each program. The script executes the loader of this glibc with the program; on another architecture,
//! qemu. The platform, S3 and the clients are those of all other tests.

use std::time::Duration;

use lab::lambda::{Builder, Function};
use lab::s3::S3Server;
use serde_json::Value;

use crate::support::any_s3::AnyS3;
use crate::support::magika::Magika;
use crate::support::operators::answers_a_text_and_a_photo;
use crate::support::{BUCKET, KEY, Store, features, model, on_platform};
use lab::reference::{WINE, numbers};

/// Maximum time of an Init and of an invocation: qemu translates every program anew.
const LIMIT: Duration = Duration::from_secs(50);

/// Unpacked release for an architecture.
struct Release {
    /// Folder in `target`.
    folder: &'static str,
    /// Name of the processes of sidecar and handler.
    program: &'static str,
    /// `true` without qemu, which has libraries of this machine.
    is_native: bool,
}

const ARM64: Release = Release {
    folder: "arm64",
    program: "qemu-aarch64",
    is_native: false,
};
const X86_64: Release = Release {
    folder: "x86_64",
    program: "ld-linux-x86-64",
    is_native: true,
};

/// A release on the lab's platform.
fn on_lab(release: &Release, s3: &impl Store) -> Builder {
    let folder = lab::artifacts::workspace()
        .join("target")
        .join(release.folder);
    assert!(
        folder.join("layer").is_dir(),
        "run `make test-{}`",
        release.folder
    );
    let function = Function::of(folder.join("layer"), folder.join("function"));
    on_platform(function, s3)
        .env("MODEL_REFRESH_INTERVAL", "1s")
        .env("MODEL_METRICS", "emf")
        .env("MODEL_METRICS_INTERVAL", "1h")
        .init_limit(LIMIT)
        .timeout(LIMIT)
}

/// Compares answers of one version, then of the next, and shuts the environment down.
async fn reloads_and_shuts_down(release: &Release, function: Function, s3: &AnyS3) {
    let answer = async || function.answer(&features(9)).await.unwrap();
    WINE.v1.check(&answer().await, 0..9);
    let environment = function.environment().unwrap();
    let programs = environment.processes(release.program);
    assert_eq!(programs.len(), 2, "sidecar and handler");
    if release.is_native {
        for program in programs {
            let maps = std::fs::read_to_string(format!("/proc/{program}/maps")).unwrap();
            let of_machine = maps.lines().find(|line| line.contains("/usr/lib"));
            assert_eq!(of_machine, None, "no library of this machine");
        }
    }

    s3.put(KEY, model("wine-v2.onnx")).await;
    let mut inferences = 2;
    let reloaded = async {
        while let answer = answer().await
            && WINE.v2.differs(&answer, 0..9).is_some()
        {
            WINE.v1.check(&answer, 0..9);
            inferences += 1;
        }
    };
    let reloaded = tokio::time::timeout(lab::WAIT_LIMIT, reloaded).await;
    reloaded.expect("the new version answers");

    environment.wait_until_frozen().await.unwrap();
    let log = function.shutdown().await.text();
    let (before, after) = log.split_once("shutting down reason=\"spindown\"").unwrap();
    assert!(!log.contains("ERROR"), "{log}");
    assert!(
        !before.contains("_aws"),
        "metrics are due in an hour: {log}"
    );
    let metrics = after
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let counts = metrics.flat_map(|line: Value| numbers(&line["Inferences"]));
    let sent: f64 = counts.sum();
    assert!(
        (sent - f64::from(inferences)).abs() < 0.5,
        "{inferences} inferences: {log}"
    );
}

async fn the_handler_forwards(release: &Release) {
    let s3 = AnyS3::lab().await.holds("wine-v1.onnx").await;
    let function = on_lab(release, &s3).start().await.unwrap();
    reloads_and_shuts_down(release, function, &s3).await;
}

async fn the_sidecar_is_the_runtime(release: &Release) {
    let s3 = AnyS3::seaweedfs().await.holds("wine-v1.onnx").await;
    let function = on_lab(release, &s3).env("MODEL_HANDLER", "attach");
    let function = function.start().await.unwrap();
    reloads_and_shuts_down(release, function, &s3).await;
}

async fn magika_classifies_files_as_in_python(release: &Release) {
    let magika = Magika::read();
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, "magika", Magika::network());
    let function = on_lab(release, &s3).env("MODEL_URI", format!("s3://{BUCKET}/magika"));
    let function = function.env("MODEL_NAME", "magika").start().await.unwrap();
    for case in magika.cases() {
        let reply: Value = function.answer(&case.event()).await.unwrap();
        magika.check(case, &reply);
    }
}

async fn the_layer_of_operators_decodes_a_text_and_a_photo(release: &Release) {
    let s3 = S3Server::start().await.unwrap();
    answers_a_text_and_a_photo(&s3, on_lab(release, &s3)).await;
}

/// Declares the tests of a release.
macro_rules! tests {
    ($architecture:ident, $release:expr, [$($test:ident),*]) => {
        mod $architecture {
            $(
                #[tokio::test(flavor = "multi_thread")]
                #[ignore = "needs the unpacked release: `make test-x86-64`, `make test-arm64`"]
                async fn $test() {
                    super::$test(&$release).await;
                }
            )*
        }
    };
    ($($architecture:ident, $release:expr;)*) => {
        $(tests!($architecture, $release, [
            the_handler_forwards,
            the_sidecar_is_the_runtime,
            magika_classifies_files_as_in_python,
            the_layer_of_operators_decodes_a_text_and_a_photo
        ]);)*
    };
}

tests! {
    arm64, super::ARM64;
    x86_64, super::X86_64;
}
