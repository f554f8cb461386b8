//! `SnapStart`: the snapshot, restores, and what they change.

use std::collections::BTreeSet;

use lab::lambda::Clock;

use super::*;

fn snapshot(folders: &Folders, restore: &str) -> Builder {
    folders.lambda().snap_start().env("PROBE_RESTORE", restore)
}

#[tokio::test]
async fn the_first_invocation_restores_the_snapshot_with_other_credentials() {
    let folders = Folders::new();
    let lambda = snapshot(&folders, "").clock(Clock::Jumps).start().await;
    let lambda = lambda.unwrap();
    let environment = environment(&lambda);
    environment.wait_until(State::Snapshot).await.unwrap();
    environment.wait_until_frozen().await.unwrap();
    let first = environment.access_key().unwrap();
    lambda.log().wait_for(&first).await.unwrap();
    // A restore alone ends a snapshot.
    environment.thaw().await.unwrap();
    assert!(environment.is_frozen());
    environment
        .let_pass(Duration::from_secs(3600))
        .await
        .unwrap();

    lambda.answer(&json!({})).await.unwrap();
    let second = environment.access_key().unwrap();
    assert_ne!(first, second);
    lambda.log().wait_for(&second).await.unwrap();
    let report = lambda.wait_for_reports(1).await.unwrap().remove(0);
    assert!(
        report.restore.is_some() && report.init.is_none(),
        "{report:?}"
    );
    let ends: Vec<_> = environment
        .trace()
        .into_iter()
        .filter(|call| call.path.ends_with("/restore/next"))
        .map(|call| (call.status.unwrap().as_u16(), call.response))
        .collect();
    assert_eq!(ends, [(200, String::new())]);

    // Another restore of the same processes.
    environment.restore().await.unwrap();
    assert!(environment.is_frozen());
    lambda.answer(&json!({})).await.unwrap();
    let keys = [first, second, environment.access_key().unwrap()];
    assert_eq!(BTreeSet::from(keys).len(), 3);
    let text = lambda.log().text();
    assert_eq!(text.matches("RESTORE_START").count(), 1, "{text}");
    assert_eq!(text.matches("RESTORE_REPORT").count(), 1, "{text}");
}

#[tokio::test]
async fn a_restore_ahead_of_an_invocation_ends_in_a_freeze() {
    let folders = Folders::new();
    let lambda = snapshot(&folders, "").start().await.unwrap();
    let environment = environment(&lambda);
    environment.wait_until(State::Snapshot).await.unwrap();
    environment.restore().await.unwrap();
    environment.wait_until(State::Idle).await.unwrap();
    environment.wait_until_frozen().await.unwrap();
    lambda.answer(&json!({})).await.unwrap();
    let report = lambda.wait_for_reports(1).await.unwrap().remove(0);
    assert!(report.restore.is_some());
}

#[tokio::test]
async fn an_error_of_the_hooks_fails_the_invocation_and_removes_the_environment() {
    let folders = Folders::new();
    let lambda = snapshot(&folders, "error").start().await.unwrap();
    let environment = environment(&lambda);
    let failed = lambda.invoke(&json!({})).await;
    assert_eq!(failed.function_error().unwrap().error_type, "Probe.Restore");
    environment.wait_until(State::Gone).await.unwrap();
    let text = lambda.log().text();
    assert!(
        text.contains("\tStatus: error\tError Type: Probe.Restore"),
        "{text}"
    );
}

#[tokio::test]
async fn a_runtime_without_hooks_is_restored_in_next() {
    let folders = Folders::new();
    let lambda = folders.lambda().snap_start().start().await.unwrap();
    environment(&lambda)
        .wait_until(State::Snapshot)
        .await
        .unwrap();
    lambda.answer(&json!({})).await.unwrap();
    let trace = environment(&lambda).trace();
    assert!(trace.iter().all(|call| !call.path.contains("/restore/")));
}

#[tokio::test]
async fn without_snap_start_there_is_no_restore() {
    let folders = Folders::new();
    let lambda = folders.lambda().env("PROBE_RESTORE", "").start().await;
    let lambda = lambda.unwrap();
    lambda.answer(&json!({})).await.unwrap();
    let statuses: BTreeSet<_> = environment(&lambda)
        .trace()
        .into_iter()
        .filter(|call| call.path.contains("restore") || call.path.contains("credentials"))
        .map(|call| call.status.unwrap().as_u16())
        .collect();
    assert_eq!(statuses, BTreeSet::from([404]));
}
