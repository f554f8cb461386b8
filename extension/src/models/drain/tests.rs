//! Versions that leave while requests run on them; time passes as the tests want.

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

const LONGEST: Duration = Duration::from_secs(30);

fn name() -> ModelName {
    ModelName::parse("wine").unwrap()
}

fn version(name: &str) -> VersionName {
    VersionName::parse(name).unwrap()
}

fn models() -> Models {
    holding(&Arc::default())
}

/// One model, whose session says when it is taken apart.
fn holding(is_apart: &Arc<AtomicBool>) -> Models {
    let models = Models::new([name()]);
    models.swap(Loaded::new(
        name(),
        version("7"),
        Digest::of(Sha256::new()),
        Timestamp(0),
        Box::new(Slow {
            signature: Signature::default(),
            is_apart: Arc::clone(is_apart),
        }),
    ));
    models
}

/// A session that takes its time to go, and says when it has.
struct Slow {
    signature: Signature,
    is_apart: Arc<AtomicBool>,
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
        self.is_apart.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn it_is_gone_once_its_session_is_taken_apart_and_not_before() {
    let is_apart = Arc::default();
    let models = holding(&is_apart);
    let leaving = models.take_out(&name()).unwrap();
    assert!(models.current(&name()).is_none(), "no request begins on it");
    assert!(models.take_out(&name()).is_none(), "it is out already");
    assert!(leaving.gone(LONGEST).await.is_ok());
    assert!(is_apart.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn requests_that_run_are_waited_for() {
    let models = models();
    let running = models.current(&name()).unwrap();
    let leaving = models.take_out(&name()).unwrap();
    let started = tokio::time::Instant::now();
    let takes = LONGEST.saturating_sub(SECOND);
    let request = async {
        tokio::time::sleep(takes).await;
        assert!(running.run(&[], &[], &Cancel::default()).is_ok());
        drop(running);
    };
    let (gone, ()) = tokio::join!(leaving.gone(LONGEST), request);
    assert!(gone.is_ok());
    assert!(started.elapsed() >= takes, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_still_in_use_can_be_put_back_whole() {
    let models = models();
    let running = models.current(&name()).unwrap();
    let leaving = models.take_out(&name()).unwrap();
    let started = tokio::time::Instant::now();
    let Err(loaded) = leaving.gone(LONGEST).await else {
        panic!("a request runs on it");
    };
    assert_eq!(started.elapsed(), LONGEST);
    models.put_back(loaded);
    let current = models.current(&name()).unwrap();
    assert_eq!(current.loaded_at, running.loaded_at);
    assert!(current.run(&[], &[], &Cancel::default()).is_ok());
    // It can be taken out again, and goes once nobody uses it.
    drop((current, running));
    let leaving = models.take_out(&name()).unwrap();
    assert!(leaving.gone(LONGEST).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_that_was_renamed_is_in_use_as_long_as_a_request_runs_under_its_former_name() {
    let models = models();
    let running = models.current(&name()).unwrap();
    models.rename(&name(), version("8"), VersionLabels::default());
    assert_eq!(running.version, version("7"));
    assert_eq!(models.current(&name()).unwrap().version, version("8"));
    let leaving = models.take_out(&name()).unwrap();
    let Err(loaded) = leaving.gone(LONGEST).await else {
        panic!("a request runs on it");
    };
    assert_eq!(loaded.version, version("8"));
    models.put_back(loaded);
    drop(running);
    let leaving = models.take_out(&name()).unwrap();
    assert!(leaving.gone(LONGEST).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_freeze_takes_no_more_than_a_second_of_the_requests_time() {
    let models = models();
    let running = models.current(&name()).unwrap();
    let leaving = models.take_out(&name()).unwrap();
    let freeze_and_end = async {
        tokio::time::advance(Duration::from_secs(3_600)).await;
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(running);
    };
    let (gone, ()) = tokio::join!(leaving.gone(Duration::from_secs(10)), freeze_and_end);
    assert!(gone.is_ok(), "the hour was not the request's");
}

#[tokio::test]
async fn what_nobody_serves_cannot_be_taken_out() {
    assert!(
        models()
            .take_out(&ModelName::parse("fraud").unwrap())
            .is_none()
    );
    assert!(Models::new([name()]).take_out(&name()).is_none());
}
