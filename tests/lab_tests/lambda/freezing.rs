//! Automatic and manual freeze and thaw.

use super::*;

#[tokio::test]
async fn frozen_processes_stand_still_and_go_on_with_the_next_event() {
    let folders = Folders::new();
    let lambda = folders.lambda().start().await.unwrap();
    let environment = warm(&lambda).await;
    for name in [EXTENSION, "bootstrap"] {
        for pid in environment.processes(name) {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            assert_eq!(
                stat.rsplit_once(") ").unwrap().1.chars().next(),
                Some('T'),
                "{name}: {stat}"
            );
        }
    }
    let pids = environment.processes(EXTENSION);
    lambda.answer(&json!({})).await.unwrap();
    assert_eq!(environment.processes(EXTENSION), pids);
}

#[tokio::test]
async fn a_freeze_by_hand_holds_the_functions_time_as_well() {
    let folders = Folders::new();
    let builder = folders.lambda().timeout(Duration::from_secs(1));
    let lambda = builder.start().await.unwrap();
    let environment = warm(&lambda).await;
    let event = json!({"until": "go"});
    let answer = async {
        let answer = lambda.invoke(&event).await;
        assert_eq!(answer.function_error(), None);
    };
    let freeze = async {
        environment.wait_until(State::Invoke).await.unwrap();
        environment.freeze().await.unwrap();
        // Longer than the function's timeout.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(environment.state(), State::Invoke);
        leave(&environment, "go");
        environment.thaw().await.unwrap();
    };
    tokio::join!(answer, freeze);
    let report = lambda.wait_for_reports(2).await.unwrap().remove(1);
    assert!(report.duration < Duration::from_secs(1), "{report:?}");
}

#[tokio::test]
async fn no_time_passes_where_the_clock_is_the_machines() {
    let folders = Folders::new();
    let lambda = folders.lambda().start().await.unwrap();
    let environment = warm(&lambda).await;
    let error = environment
        .let_pass(Duration::from_hours(1))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("clock"), "{error}");
    environment.thaw().await.unwrap();
    let error = environment
        .let_pass(Duration::from_hours(1))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not frozen"), "{error}");
}

#[tokio::test]
async fn freezing_can_be_disabled() {
    let folders = Folders::new();
    let builder = folders.lambda().freeze_when_idle(false);
    let lambda = builder.start().await.unwrap();
    lambda.answer(&json!({})).await.unwrap();
    let environment = environment(&lambda);
    environment.wait_until(State::Idle).await.unwrap();
    lambda.answer(&json!({})).await.unwrap();
    assert!(!environment.is_frozen());
}
