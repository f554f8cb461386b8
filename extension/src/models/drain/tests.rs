//! Drains with running requests, on a paused clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};

use super::*;
use crate::clock::Timestamp;
use crate::engine::{Cancel, Session};
use crate::ids::{Digest, ModelName, VersionName};
use crate::manifest::VersionLabels;
use crate::models::{Models, RunResult};
use crate::tensor::{Signature, Value};

const LIMIT: Duration = Duration::from_secs(30);

fn name() -> ModelName {
    ModelName::parse("wine").unwrap()
}

fn version(name: &str) -> VersionName {
    VersionName::parse(name).unwrap()
}

fn models() -> Models {
    holding(&Arc::default())
}

/// One model, whose session signals its drop.
fn holding(is_dropped: &Arc<AtomicBool>) -> Models {
    let models = Models::new([name()]);
    models.swap(LoadedModel::new(
        name(),
        version("7"),
        Digest::of(Sha256::new()),
        Timestamp(0),
        Box::new(Slow {
            signature: Signature::default(),
            is_dropped: Arc::clone(is_dropped),
        }),
    ));
    models
}

/// A session whose drop takes time and is signalled.
struct Slow {
    signature: Signature,
    is_dropped: Arc<AtomicBool>,
}

impl Session for Slow {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, _: &[(String, Value)], _: &[String], _: &Cancel) -> RunResult {
        Ok(Vec::new())
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(50));
        self.is_dropped.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_drain_ends_when_the_session_is_dropped() {
    let is_dropped = Arc::default();
    let models = holding(&is_dropped);
    let drain = models.begin_drain(&name()).unwrap();
    assert!(
        models.current(&name()).is_none(),
        "the version accepts no new request"
    );
    assert!(
        models.begin_drain(&name()).is_none(),
        "the drain has begun already"
    );
    assert!(drain.finish(LIMIT).await.is_ok());
    assert!(is_dropped.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_running_requests() {
    let models = models();
    let running = models.current(&name()).unwrap();
    let drain = models.begin_drain(&name()).unwrap();
    let started = tokio::time::Instant::now();
    let takes = LIMIT.saturating_sub(Duration::from_secs(1));
    let request = async {
        tokio::time::sleep(takes).await;
        assert!(running.run(&[], &[], &Cancel::default()).is_ok());
        drop(running);
    };
    let (finished, ()) = tokio::join!(drain.finish(LIMIT), request);
    assert!(finished.is_ok());
    assert!(started.elapsed() >= takes, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_still_in_use_can_be_restored() {
    let models = models();
    let running = models.current(&name()).unwrap();
    let drain = models.begin_drain(&name()).unwrap();
    let started = tokio::time::Instant::now();
    let Err(loaded) = drain.finish(LIMIT).await else {
        panic!("a request runs on it");
    };
    assert_eq!(started.elapsed(), LIMIT);
    models.restore(loaded);
    let current = models.current(&name()).unwrap();
    assert_eq!(current.loaded_at, running.loaded_at);
    assert!(current.run(&[], &[], &Cancel::default()).is_ok());
    // A second drain ends once no request runs.
    drop((current, running));
    let drain = models.begin_drain(&name()).unwrap();
    assert!(drain.finish(LIMIT).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_renamed_version_is_in_use_while_a_request_runs_under_its_former_name() {
    let models = models();
    let running = models.current(&name()).unwrap();
    models.rename(&name(), version("8"), VersionLabels::default());
    assert_eq!(running.version, version("7"));
    assert_eq!(models.current(&name()).unwrap().version, version("8"));
    let drain = models.begin_drain(&name()).unwrap();
    let Err(loaded) = drain.finish(LIMIT).await else {
        panic!("a request runs on it");
    };
    assert_eq!(loaded.version, version("8"));
    models.restore(loaded);
    drop(running);
    let drain = models.begin_drain(&name()).unwrap();
    assert!(drain.finish(LIMIT).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_freeze_costs_running_requests_at_most_a_second() {
    let models = models();
    let running = models.current(&name()).unwrap();
    let drain = models.begin_drain(&name()).unwrap();
    let freeze_and_end = async {
        tokio::time::advance(Duration::from_secs(3_600)).await;
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(running);
    };
    let (finished, ()) = tokio::join!(drain.finish(Duration::from_secs(10)), freeze_and_end);
    assert!(finished.is_ok(), "the frozen hour does not count");
}

#[tokio::test]
async fn a_model_without_an_active_version_cannot_be_drained() {
    assert!(
        models()
            .begin_drain(&ModelName::parse("fraud").unwrap())
            .is_none()
    );
    assert!(Models::new([name()]).begin_drain(&name()).is_none());
}
