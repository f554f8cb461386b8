//! Several environments, and one environment with several invocations.

use super::*;
use futures_util::future::join_all;

#[tokio::test]
async fn an_invocation_with_all_environments_busy_gets_a_new_one() {
    let folders = Folders::new();
    let lambda = folders.lambda().max_environments(2).start().await.unwrap();
    let (first, second) = (json!({"until": "go"}), json!({}));
    let both = async {
        let calls = async {
            while lambda
                .environment()
                .is_none_or(|one| one.state() != State::Invoke)
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            lambda.answer(&second).await.unwrap();
            assert_eq!(lambda.environments().len(), 2);
            leave(&lambda.environments()[0], "go");
        };
        let (answer, ()) = tokio::join!(lambda.answer(&first), calls);
        answer.unwrap();
    };
    both.await;
    // Both are free: none is created.
    lambda.wait_for_reports(2).await.unwrap();
    join_all([lambda.answer(&second), lambda.answer(&second)]).await;
    assert_eq!(lambda.environments().len(), 2);
}

#[tokio::test]
async fn one_too_many_is_throttled_and_one_in_the_tail_is_waited_for() {
    let folders = Folders::new();
    let builder = folders
        .lambda()
        .max_environments(1)
        .env("PROBE_STAY_IN_TAIL", "done");
    let lambda = builder.start().await.unwrap();
    let event = json!({"until": "go"});
    let busy = async {
        while lambda
            .environment()
            .is_none_or(|one| one.state() != State::Invoke)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let refused = lambda.invoke(&json!({})).await;
        assert_eq!(refused.status, 429);
        let error = refused.function_error().unwrap();
        assert_eq!(error.error_type, "TooManyRequestsException");
        assert_eq!(error.message, "Rate Exceeded.");
        leave(&environment(&lambda), "go");
    };
    let (answer, ()) = tokio::join!(lambda.answer(&event), busy);
    answer.unwrap();
    let environment = environment(&lambda);
    environment.wait_until(State::Tail).await.unwrap();
    let event = json!({});
    let release = async {
        left(&environment, "done-entered").await;
        leave(&environment, "done");
    };
    let (answer, ()) = tokio::join!(lambda.answer(&event), release);
    answer.unwrap();
    assert_eq!(lambda.environments().len(), 1);
}

#[tokio::test]
async fn an_environment_that_is_idle_for_long_is_taken_away() {
    let folders = Folders::new();
    let builder = folders.lambda().idle_limit(Some(Duration::from_millis(50)));
    let lambda = builder.start().await.unwrap();
    lambda.answer(&json!({})).await.unwrap();
    let first = environment(&lambda);
    first.wait_until(State::Gone).await.unwrap();
    lambda
        .log()
        .wait_for(r#""shutdownReason":"spindown""#)
        .await
        .unwrap();
    lambda.answer(&json!({})).await.unwrap();
    assert_eq!(environment(&lambda).number(), 1);
}

#[tokio::test]
async fn provisioned_environments_are_initialized_ahead_and_without_a_limit() {
    let folders = Folders::new();
    let builder = folders
        .lambda()
        .initialization_type("provisioned-concurrency")
        .init_limit(Duration::from_millis(1));
    let lambda = builder.start().await.unwrap();
    environment(&lambda).wait_until_frozen().await.unwrap();
    lambda.answer(&json!({})).await.unwrap();
    let report = lambda.wait_for_reports(1).await.unwrap().remove(0);
    assert_eq!(report.init, None, "Init was done before");
    assert!(!lambda.log().text().contains("INIT_REPORT"));
}

#[tokio::test]
async fn managed_instances_take_invocations_side_by_side_and_are_never_frozen() {
    let folders = Folders::new();
    let builder = folders
        .lambda()
        .managed_instances(8)
        .env("PROBE_EVENTS", r#""SHUTDOWN""#);
    let lambda = builder.start().await.unwrap();
    let environment = environment(&lambda);
    let event = json!({"until": "go"});
    let release = async {
        environment
            .wait_for_trace("8 events handed out", |calls| {
                let handed = |call: &&lab::lambda::ApiCall| {
                    call.path.ends_with("invocation/next") && call.answered.is_some()
                };
                calls.iter().filter(handed).count() == 8
            })
            .await
            .unwrap();
        assert_eq!(lambda.invoke(&json!({})).await.status, 429, "the ninth");
        leave(&environment, "go");
    };
    let (answers, ()) = tokio::join!(join_all((0..8).map(|_| lambda.answer(&event))), release);
    for answer in answers {
        answer.unwrap();
    }
    lambda.wait_for_reports(8).await.unwrap();
    assert_eq!(
        (environment.state(), environment.is_frozen()),
        (State::Idle, false)
    );
    let calls = environment.trace();
    assert!(
        calls.iter().all(|call| call.event().is_none()),
        "no INVOKE events"
    );

    environment.kill(EXTENSION, Signal::SIGKILL).unwrap();
    environment.wait_until(State::Gone).await.unwrap();
    lambda.answer(&json!({})).await.unwrap();
    assert_eq!(lambda.environment().unwrap().number(), 1);
}

#[tokio::test]
async fn on_managed_instances_registering_for_invoke_is_rejected() {
    let folders = Folders::new();
    let lambda = folders.lambda().managed_instances(2).start().await.unwrap();
    let environment = environment(&lambda);
    let calls = environment
        .wait_for_trace("an answer", |calls| {
            calls.iter().any(|call| call.status.is_some())
        })
        .await
        .unwrap();
    assert_eq!(calls[0].status.unwrap(), 403);
    assert!(
        calls[0].response.contains("Extension.InvalidEventType"),
        "{calls:?}"
    );
}

#[tokio::test]
async fn on_managed_instances_a_timeout_is_the_callers_alone() {
    let folders = Folders::new();
    let builder = folders
        .lambda()
        .managed_instances(2)
        .timeout(Duration::from_millis(300))
        .env("PROBE_EVENTS", r#""SHUTDOWN""#);
    let lambda = builder.start().await.unwrap();
    let answer = lambda.invoke(&json!({"until": "go"})).await;
    assert!(answer.timed_out());
    let environment = environment(&lambda);
    leave(&environment, "go");
    let late = |call: &lab::lambda::ApiCall| call.status.is_some_and(|status| status == 410);
    environment
        .wait_for_trace("a late answer", |calls| calls.iter().any(late))
        .await
        .unwrap();
    lambda.answer(&json!({})).await.unwrap();
    assert_eq!(lambda.environments().len(), 1);
}
