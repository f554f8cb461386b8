//! Restores of one snapshot in several environments.

use super::machine::Intervals;
use super::*;
use crate::cache::Cache;
use crate::clock::wall::Wall;
use crate::drift::DriftWindow;
use crate::manifest::{Baseline, Observed};
use crate::metrics::defs::Set;
use crate::metrics::{Dimensions, EmfSink, NoSink, Recorder};
use crate::models::stub;
use crate::request_memory::Account;
use crate::tensor::Signature;

fn name() -> ModelName {
    ModelName::parse("m").unwrap()
}

/// Window of a version that was activated before the snapshot.
fn window() -> DriftWindow {
    let baseline = Baseline {
        of: Observed::Input("x".to_owned()),
        column: None,
        edges: vec![0.0, 1.0],
        counts: vec![1],
        nulls: 0,
    };
    DriftWindow::new(&[baseline], 1, &Signature::default(), 7).unwrap()
}

/// Returns the runner of a process of which a snapshot was made.
fn runner() -> (Arc<JobRunner>, mpsc::Receiver<ModelCommand>) {
    let clock: Arc<dyn Clock> = Wall::new();
    let recorder = Recorder::new(Arc::clone(&clock));
    let log = EmfSink::new("N".to_owned(), Dimensions::default(), Set::All, "INFO");
    let sink = Arc::new(NoSink);
    let reporter = Reporter::new(recorder, Arc::clone(&clock), sink, log, Set::All);
    let (status, commands) = Status::new([name()]);
    let status = Arc::new(status.for_snapshot(true));
    status.ready_for_snapshot();
    let loaded = stub::loaded(&name(), "1", |_| Ok(Vec::new()));
    let models = Arc::new(Models::new([name()]));
    models.swap(loaded.with_drift(Some(window())));
    let folder = tempfile::tempdir().unwrap();
    let observation = Observation::new(
        Arc::clone(&status),
        Cache::open(folder.path()).unwrap(),
        Arc::new(Account::unlimited()),
        Arc::clone(&clock),
        Duration::from_secs(60),
        || {},
    );
    let runner = JobRunner {
        reloaders: BTreeMap::new(),
        reporter,
        models,
        status,
        clock,
        thaws: Thaws::default(),
        observation: Arc::new(observation),
        restore: OnceCell::new(),
    };
    (Arc::new(runner), commands)
}

/// Returns the next random numbers of libraries on this thread, and the next rows that are sampled for drift.
fn draws(runner: &JobRunner) -> [String; 2] {
    let active = runner.models.current(&name()).unwrap();
    let rows = active.drift.as_ref().unwrap().sample_inputs(&[]);
    [fastrand::u64(..).to_string(), format!("{rows:?}")]
}

#[tokio::test]
async fn each_environment_of_a_snapshot_draws_its_own_random_numbers() {
    let intervals = Intervals {
        refresh: Duration::from_secs(60),
        flush: Duration::from_secs(60),
        tail: Duration::ZERO,
    };
    let mut drawn = Vec::new();
    for _ in 0..2 {
        // The AWS SDK has drawn on this thread.
        fastrand::seed(7);
        let (runner, commands) = runner();
        let (mut driver, _checks) = Driver::start(Arc::clone(&runner), commands, intervals);
        // With MODEL_HANDLER=attach, another thread than that of the jobs handles invocations.
        let handle = tokio::runtime::Handle::current();
        let restore = move || handle.block_on(driver.restored());
        tokio::task::spawn_blocking(restore).await.unwrap();
        drawn.push(draws(&runner));
    }
    let [one, other] = &drawn[..] else {
        panic!("{drawn:?}")
    };
    assert!(one[0] != other[0] && one[1] != other[1], "{drawn:?}");
}
