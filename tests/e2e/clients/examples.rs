//! Functions of `layer/examples` with the staged layer on the lab's platform.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::artifacts::{self, workspace};
use lab::lambda::Function;
use lab::ports::Port;
use lab::reference::WINE;
use serde_json::json;
use tempfile::TempDir;

const ROWS: usize = 9;

/// Invokes the handlers of a function folder, over both transports.
async fn answers(folder: &Path, tcp: &str, unix: &str) {
    let port = Port::lease().unwrap();
    for (handler, port) in [(tcp, port.number()), (unix, 0)] {
        let function = Function::of(artifacts::layer().unwrap(), folder)
            .handler(handler)
            .timeout(Duration::from_secs(30))
            .env("MODEL_URI", "file:///var/task/sample/wine.onnx")
            .env("MODEL_PORT", port.to_string())
            .env("MODEL_METRICS", "none");
        let function = function.start().await.unwrap();
        let event = json!({"features": WINE.rows[..ROWS]});
        let answer = function.answer(&event).await.unwrap();
        WINE.v1.check(&answer, 0..ROWS);
        let invalid = function.invoke(&json!({"features": "none"})).await;
        assert!(invalid.function_error().is_some(), "{handler}");
    }
}

/// Folder with a model and these files of the project.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sample")).unwrap();
    let model = ("tests/models/wine-v1.onnx", "sample/wine.onnx");
    for (from, to) in files.iter().chain([&model]) {
        let from = workspace().join(from);
        let copied = std::fs::copy(&from, folder.path().join(to));
        copied.unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn python() {
    let staged = workspace().join("target/functions/example");
    assert!(
        staged.is_dir(),
        "{} is missing: run `make runtimes`",
        staged.display()
    );
    answers(&staged, "tcp.handler", "unix.handler").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node() {
    let folder = folder(&[
        ("tests/functions/node/runtime.mjs", "runtime.mjs"),
        ("layer/examples/node/tcp.mjs", "tcp.mjs"),
        ("layer/examples/node/unix.mjs", "unix.mjs"),
    ]);
    bootstrap(folder.path(), "exec node /var/task/runtime.mjs");
    answers(folder.path(), "tcp.handler", "unix.handler").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust() {
    let folder = folder(&[("target/debug/example-function", "bootstrap")]);
    answers(folder.path(), "tcp", "unix").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java() {
    let folder = folder(&[]);
    let sources = [
        "layer/examples/java/Tcp.java",
        "layer/examples/java/Unix.java",
        "tests/functions/java/Runtime.java",
    ];
    let sources = sources.map(|source| workspace().join(source));
    let compiled = Command::new("javac")
        .arg("-d")
        .arg(folder.path())
        .args(&sources)
        .status();
    assert!(compiled.expect("a JDK with javac").success());
    bootstrap(
        folder.path(),
        "exec java -XX:TieredStopAtLevel=1 -cp /var/task Runtime \"$_HANDLER\"",
    );
    answers(folder.path(), "Tcp::handle", "Unix::handle").await;
}

/// Writes the program that Lambda starts.
fn bootstrap(folder: &Path, command: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path: PathBuf = folder.join("bootstrap");
    std::fs::write(&path, format!("#!/bin/sh\n{command}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Each example that calls the sidecar is short, as the documentation says.
#[test]
fn examples_have_fewer_than_20_lines_of_code() {
    for file in [
        "python/tcp.py",
        "python/unix.py",
        "python/snapstart.py",
        "node/tcp.mjs",
        "node/unix.mjs",
        "java/Tcp.java",
        "java/Unix.java",
        "rust/src/predict.rs",
    ] {
        let text = std::fs::read_to_string(workspace().join("layer/examples").join(file)).unwrap();
        let is_code = |line: &&str| {
            let line = line.trim();
            let comment = ["//", "/**", "\"\"\""]
                .iter()
                .any(|start| line.starts_with(start));
            !line.is_empty() && !comment
        };
        let lines = text.lines().filter(is_code).count();
        assert!(lines < 20, "{file}: {lines} lines");
    }
}
