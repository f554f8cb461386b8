//! Timeouts, exits of processes and failed Inits, and the state afterwards.

use super::*;

fn invoke_report(text: &str) -> bool {
    text.starts_with("INIT_REPORT") && text.contains("Phase: invoke")
}

#[tokio::test]
async fn an_init_that_takes_too_long_is_killed_and_done_again_within_the_invocation() {
    let folders = Folders::new();
    let builder = folders
        .lambda()
        .env("PROBE_STAY_IN_INIT", "ready")
        .init_limit(Duration::from_millis(300));
    let lambda = builder.start().await.unwrap();
    let event = json!({});
    let invoke = lambda.invoke(&event);
    let watch = async {
        let line = lambda
            .log()
            .wait_for("INIT_REPORT Init Duration: ")
            .await
            .unwrap();
        assert!(line.ends_with("Phase: init\tStatus: timeout"), "{line}");
        leave(&environment(&lambda), "ready");
    };
    let (answer, ()) = tokio::join!(invoke, watch);
    assert_eq!(answer.function_error(), None);
    let report = lambda.wait_for_reports(1).await.unwrap().remove(0);
    assert!(
        report.init.unwrap() >= Duration::from_millis(300),
        "{report:?}"
    );
    let text = lambda.log().text();
    assert_eq!(text.matches("INIT_START").count(), 2, "{text}");
    assert!(
        !text.contains(r#""eventType":"SHUTDOWN""#),
        "killed, not asked: {text}"
    );
}

#[tokio::test]
async fn an_init_that_takes_too_long_twice_ends_with_the_functions_time() {
    let folders = Folders::new();
    let builder = folders
        .lambda()
        .env("PROBE_STAY_IN_INIT", "ready")
        .init_limit(Duration::from_millis(100))
        .timeout(Duration::from_millis(300));
    let lambda = builder.start().await.unwrap();
    let answer = lambda.invoke(&json!({})).await;
    assert!(answer.timed_out());
    let line = lambda
        .log()
        .wait_for_line("INIT_REPORT of the second", invoke_report)
        .await
        .unwrap();
    assert!(line.ends_with("Status: timeout"), "{line}");
    // The next invocation tries again, in the same environment.
    let environment = environment(&lambda);
    leave(&environment, "ready");
    environment.wait_until(State::Empty).await.unwrap();
    lambda.answer(&json!({})).await.unwrap();
    assert_eq!(lambda.environments().len(), 1);
}

#[tokio::test]
async fn a_timeout_is_an_error_and_resets_the_environment_with_its_tmp_kept() {
    let folders = Folders::new();
    let builder = folders.lambda().timeout(Duration::from_secs(1));
    let lambda = builder.start().await.unwrap();
    let environment = warm(&lambda).await;
    leave(&environment, "kept");
    let pids = environment.processes(EXTENSION);
    let answer = lambda.invoke(&json!({"hang": true})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["x-amz-function-error"], "Unhandled");
    let id = &answer.request_id;
    let wanted = json!({
        "errorType": "Sandbox.Timedout",
        "errorMessage": format!("RequestId: {id} Error: Task timed out after 1.00 seconds"),
    });
    assert_eq!(answer.json.as_ref(), Some(&wanted));
    lambda
        .log()
        .wait_for(&format!("{id} Task timed out after 1.00 seconds"))
        .await
        .unwrap();
    let report = lambda.wait_for_reports(2).await.unwrap().remove(1);
    assert_eq!(
        (report.status, report.billed),
        (Status::Timeout, Duration::from_secs(1))
    );
    lambda
        .log()
        .wait_for(r#""shutdownReason":"timeout""#)
        .await
        .unwrap();

    environment.wait_until(State::Empty).await.unwrap();
    lambda.answer(&json!({"until": "kept"})).await.unwrap();
    assert_ne!(environment.processes(EXTENSION), pids);
    let report = lambda.wait_for_reports(3).await.unwrap().remove(2);
    assert_eq!(
        report.init, None,
        "an Init within an invocation counts in its duration"
    );
}

#[tokio::test]
async fn an_extension_that_never_calls_next_times_out_the_invocation_after_the_response() {
    let folders = Folders::new();
    let builder = folders
        .lambda()
        .env("PROBE_HANG_AT", "INVOKE")
        .timeout(Duration::from_secs(1));
    let lambda = builder.start().await.unwrap();
    assert_eq!(lambda.invoke(&json!({})).await.function_error(), None);
    let report = lambda.wait_for_reports(1).await.unwrap().remove(0);
    assert_eq!(report.status, Status::Timeout);
    environment(&lambda).wait_until(State::Empty).await.unwrap();
    let text = lambda.log().text();
    assert!(
        !text.contains(r#""SHUTDOWN""#),
        "an extension without SHUTDOWN got one: {text}"
    );
}

#[tokio::test]
async fn a_function_that_dies_fails_its_invocation_and_resets_the_environment() {
    let folders = Folders::new();
    let lambda = folders.lambda().start().await.unwrap();
    warm(&lambda).await;
    let answer = lambda.invoke(&json!({"crash": 7})).await;
    let error = answer.function_error().unwrap();
    assert_eq!(error.error_type, "Runtime.ExitError");
    let id = &answer.request_id;
    let message = format!("RequestId: {id} Error: Runtime exited with error: exit status 7");
    assert_eq!(error.message, message);
    lambda
        .log()
        .wait_for(r#""shutdownReason":"failure""#)
        .await
        .unwrap();
    let report = lambda.wait_for_reports(2).await.unwrap().remove(1);
    assert_eq!(report.status, Status::Error("Runtime.ExitError".into()));
    environment(&lambda).wait_until(State::Empty).await.unwrap();
    lambda.answer(&json!({})).await.unwrap();
    assert_eq!(lambda.environments().len(), 1);
}

#[tokio::test]
async fn an_extension_that_dies_in_an_invocation_fails_it() {
    let folders = Folders::new();
    let builder = folders.lambda().env("PROBE_EXIT_AT_INVOKE", "2");
    let lambda = builder.start().await.unwrap();
    warm(&lambda).await;
    let answer = lambda.invoke(&json!({"hang": true})).await;
    let error = answer.function_error().unwrap();
    assert_eq!(error.error_type, "Extension.Crash");
    assert!(error.message.ends_with("Error: exit status 3"), "{error:?}");
}

#[tokio::test]
async fn an_extension_that_is_killed_between_invocations_fails_the_next() {
    let folders = Folders::new();
    let lambda = folders.lambda().start().await.unwrap();
    let environment = warm(&lambda).await;
    environment.kill(EXTENSION, Signal::SIGKILL).unwrap();
    while !environment.processes(EXTENSION).is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let error = environment.kill(EXTENSION, Signal::SIGKILL).unwrap_err();
    assert!(error.to_string().contains("bootstrap"), "{error}");
    let answer = lambda.invoke(&json!({"hang": true})).await;
    let error = answer.function_error().unwrap();
    assert_eq!(error.error_type, "Extension.Crash");
    assert!(error.message.ends_with("signal: killed"), "{error:?}");
    environment.wait_until(State::Empty).await.unwrap();
    lambda.answer(&json!({})).await.unwrap();
    assert_eq!(environment.processes(EXTENSION).len(), 1);
}

#[tokio::test]
async fn an_extension_that_fails_in_init_fails_every_invocation() {
    let folders = Folders::new();
    let builder = folders.lambda().env("PROBE_FAIL_IN_INIT", "1");
    let lambda = builder.start().await.unwrap();
    for count in 1..=2 {
        let answer = lambda.invoke(&json!({})).await;
        assert_eq!(error_type(&answer), "Extension.InitError");
        lambda.wait_for_reports(count).await.unwrap();
        environment(&lambda).wait_until(State::Empty).await.unwrap();
    }
    let text = lambda.log().text();
    let wanted = [
        "Phase: init\tStatus: error\tError Type: Extension.InitError",
        "Phase: invoke\tStatus: error\tError Type: Extension.InitError",
        "State: InitError\tEvents: [INVOKE, SHUTDOWN]\tError Type: Extension.Probe",
    ];
    for line in wanted {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert_eq!(text.matches("INIT_START").count(), 3, "{text}");
}

#[tokio::test]
async fn without_a_bootstrap_there_is_no_runtime() {
    let folders = Folders::new();
    std::fs::remove_file(folders.function().join("bootstrap")).unwrap();
    let lambda = folders.lambda().start().await.unwrap();
    let answer = lambda.invoke(&json!({})).await;
    assert_eq!(error_type(&answer), "Runtime.InvalidEntrypoint");
    environment(&lambda).wait_until(State::Empty).await.unwrap();
    // A layer may provide it.
    copy_probe(&folders.layer().join("bootstrap"));
    lambda.answer(&json!({})).await.unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_run_is_no_extension() {
    let folders = Folders::new();
    std::fs::write(folders.layer().join("extensions/readme"), "not a program").unwrap();
    let lambda = folders.lambda().start().await.unwrap();
    let answer = lambda.invoke(&json!({})).await;
    assert_eq!(error_type(&answer), "Extension.LaunchError");
    let line =
        "EXTENSION\tName: readme\tState: LaunchError\tEvents: []\tError Type: PermissionDenied";
    lambda.log().wait_for(line).await.unwrap();
}

#[tokio::test]
async fn a_reset_by_hand_keeps_tmp_and_a_shutdown_keeps_nothing() {
    let folders = Folders::new();
    let lambda = folders.lambda().start().await.unwrap();
    let first = warm(&lambda).await;
    leave(&first, "kept");
    first.reset(ShutdownReason::Failure).await.unwrap();
    assert_eq!(first.state(), State::Empty);
    assert!(first.processes("bootstrap").is_empty());
    lambda
        .log()
        .wait_for(r#""shutdownReason":"failure""#)
        .await
        .unwrap();
    lambda.answer(&json!({"until": "kept"})).await.unwrap();
    lambda.wait_for_reports(2).await.unwrap();
    first.shutdown(ShutdownReason::Spindown).await.unwrap();
    lambda
        .log()
        .wait_for(r#""shutdownReason":"spindown""#)
        .await
        .unwrap();
    assert!(lambda.environments().is_empty());
    assert!(first.freeze().await.is_err());
    lambda.answer(&json!({})).await.unwrap();
    assert_eq!(environment(&lambda).number(), 1);
}

#[tokio::test]
async fn an_extension_that_ignores_shutdown_is_killed_when_its_2_seconds_are_up() {
    let folders = Folders::new();
    let builder = folders.lambda().env("PROBE_HANG_AT", "SHUTDOWN");
    let lambda = builder.start().await.unwrap();
    lambda.answer(&json!({})).await.unwrap();
    lambda.wait_for_reports(1).await.unwrap();
    let environment = environment(&lambda);
    lambda.shutdown().await;
    assert_eq!(environment.state(), State::Gone);
    assert!(environment.processes(EXTENSION).is_empty());
    let calls = environment.trace();
    let shutdown = calls
        .iter()
        .find(|call| call.event().as_deref() == Some("SHUTDOWN"))
        .unwrap();
    let event: Value = serde_json::from_str(&shutdown.response).unwrap();
    assert_eq!(event["shutdownReason"], "spindown");
    assert!(!lambda.log().text().contains("extension: shutdown, done"));
}
