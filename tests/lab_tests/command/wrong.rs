//! Invalid arguments: the message names the flag, the value and the allowed values. The exit code
//! is 2, or 1 if the fault shows only in the attempt.

use lab::ports::Port;

use super::{Folders, Served, lab};

async fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = lab(arguments).await;
    let error = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), error)
}

#[tokio::test]
async fn an_invalid_argument_names_the_flag_the_value_and_the_allowed_values() {
    let folders = Folders::new();
    let function = folders.function();
    for (flag, value, allowed) in [
        ("--memory", "64", "128..=10240"),
        ("--memory", "much", "invalid digit"),
        (
            "--timeout",
            "30",
            "a whole number with a unit, such as 500ms, 30s, 15m or 1h",
        ),
        ("--timeout", "16m", "from 1s to 15m"),
        ("--init-limit", "0s", "from 1s to 15m"),
        ("--env", "1A=b", "NAME=VALUE"),
        ("--env", "A", "NAME=VALUE"),
        ("--port", "70000", "0..=65535"),
        ("--clock", "slow", "real, jumps, stands-still"),
        ("--concurrency", "0", "1..=1000"),
        ("--managed", "0", "1..=1000"),
        ("--tmp-mb", "20000", "1..=10240"),
        ("--idle-limit", "soon", "500ms, 30s, 15m or 1h"),
        ("--bandwidth", "75", "500KB, 75MB or 1GB"),
        ("--latency", "1", "500ms, 30s, 15m or 1h"),
        ("--layer", "/nowhere", "a folder"),
        ("--function", "/nowhere", "a folder"),
        ("--function", "/usr", "the program `bootstrap`"),
    ] {
        let mut arguments = vec!["serve", flag, value];
        if flag != "--function" {
            arguments.extend(["--function", &function]);
        }
        let (code, error) = refused(&arguments).await;
        assert_eq!(code, Some(2), "{flag} {value}: {error}");
        for part in [flag, value, allowed] {
            assert!(error.contains(part), "no {part:?} in: {error}");
        }
    }
}

#[tokio::test]
async fn missing_and_unknown_arguments_are_named() {
    let (code, error) = refused(&["serve"]).await;
    assert_eq!(code, Some(2));
    assert!(error.contains("--function <DIR>"), "{error}");
    let (code, error) = refused(&["reset", "--reason", "boredom"]).await;
    assert_eq!(code, Some(2));
    assert!(error.contains("spindown, timeout, failure"), "{error}");
    let (code, error) = refused(&["serve", "--mem", "1"]).await;
    assert_eq!(code, Some(2));
    assert!(error.contains("--mem"), "{error}");
}

#[tokio::test]
async fn an_unused_and_a_taken_port_are_named() {
    let port = Port::lease().unwrap();
    let number = port.number().to_string();
    let (code, error) = refused(&["status", "--port", &number]).await;
    assert_eq!(code, Some(1));
    assert!(
        error.contains(&format!("port {number}: no `lab serve` listens there")),
        "{error}"
    );

    let folders = Folders::new();
    let served = folders.serve(&[]).await;
    let taken = served.port.to_string();
    let function = folders.function();
    let (code, error) = refused(&["serve", "--function", &function, "--port", &taken]).await;
    assert_eq!(code, Some(1));
    assert!(
        error.contains(&format!("cannot listen on port {taken}")),
        "{error}"
    );
}

#[tokio::test]
async fn a_link_without_an_endpoint_is_a_mistake() {
    let folders = Folders::new();
    let function = folders.function();
    let serve = [
        "serve",
        "--port",
        "0",
        "--function",
        &function,
        "--bandwidth",
        "75MB",
    ];
    let (code, error) = refused(&serve).await;
    assert_eq!(code, Some(1));
    assert!(
        error.contains("--bandwidth") && error.contains("AWS_ENDPOINT_URL"),
        "{error}"
    );
    let with_tls = [&serve[..], &["--env", "AWS_ENDPOINT_URL=https://localhost"]].concat();
    let (code, error) = refused(&with_tls).await;
    assert_eq!(code, Some(1));
    assert!(
        error.contains("AWS_ENDPOINT_URL=https://localhost"),
        "{error}"
    );
    assert!(error.contains("http URL"), "{error}");
}

#[tokio::test]
async fn a_function_without_a_layer_runs() {
    let folders = Folders::new();
    let served = Served::start(&["--function", &folders.function()]).await;
    assert_eq!(served.invoke("{}").await.status, 200);
}
