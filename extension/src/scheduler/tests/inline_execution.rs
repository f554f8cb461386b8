//! Tests of short runs on the calling thread.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};
use std::time::Instant;

use super::fixtures::*;
use super::*;

/// Enough runs to show that something never happens.
const REPETITIONS: usize = 200;

/// Returns a model that records the thread of each run and takes at least `time` per run.
fn model(
    bench: &SchedulerBench,
    has_fixed_work: bool,
    time: Duration,
) -> (Arc<LoadedModel>, Threads) {
    let threads = Threads::default();
    let seen = threads.clone();
    let model = of_rows(bench, has_fixed_work, move |x, _| {
        seen.0.lock().unwrap().push(thread::current().id());
        let started = Instant::now();
        while started.elapsed() < time {
            std::hint::spin_loop();
        }
        Ok(x.to_vec())
    });
    (model, threads)
}

#[derive(Clone, Default)]
struct Threads(Arc<Mutex<Vec<ThreadId>>>);

impl Threads {
    /// Returns `true` if the last run was on the calling thread.
    fn last_was_inline(&self) -> bool {
        self.0.lock().unwrap().last() == Some(&thread::current().id())
    }
}

/// Sends requests with these rows until a run is inline; returns the number of requests.
async fn until_inline(
    bench: &SchedulerBench,
    model: &Arc<LoadedModel>,
    threads: &Threads,
    x: &[f32],
) -> usize {
    let started = Instant::now();
    for times in 1.. {
        assert_eq!(rows(&bench.ask(model, x).await.unwrap()), x);
        if threads.last_was_inline() {
            return times;
        }
        assert!(started.elapsed() < TIMEOUT, "never inline");
    }
    unreachable!()
}

#[tokio::test]
async fn a_short_run_is_inline_once_its_shapes_are_known() {
    let bench = SchedulerBench::new();
    let (model, threads) = model(&bench, true, Duration::ZERO);
    assert!(until_inline(&bench, &model, &threads, &[1.0]).await > 1);
    // Two rows may take longer than one.
    assert_eq!(
        rows(&bench.ask(&model, [1.0, 2.0]).await.unwrap()),
        [1.0, 2.0]
    );
    assert!(!threads.last_was_inline());
    until_inline(&bench, &model, &threads, &[1.0, 2.0]).await;
    until_inline(&bench, &model, &threads, &[3.0]).await;
}

#[tokio::test]
async fn a_run_as_long_as_a_small_one_after_a_pause_is_inline() {
    let bench = SchedulerBench::new();
    let (model, threads) = model(&bench, true, Duration::from_micros(200));
    until_inline(&bench, &model, &threads, &[1.0]).await;
}

#[tokio::test]
async fn a_request_whose_deadline_has_passed_is_not_run() {
    let bench = SchedulerBench::new();
    let (model, threads) = model(&bench, true, Duration::ZERO);
    until_inline(&bench, &model, &threads, &[1.0]).await;
    let before = threads.0.lock().unwrap().len();
    let deadline = bench.deadline_in(Duration::ZERO);
    let late = bench
        .scheduler
        .run(Arc::clone(&model), request(&[1.0]), deadline);
    assert!(matches!(late.await, Err(RunError::Deadline)));
    assert_eq!(threads.0.lock().unwrap().len(), before);
}

#[tokio::test]
async fn another_version_starts_without_known_shapes() {
    let bench = SchedulerBench::new();
    let (first, threads) = model(&bench, true, Duration::ZERO);
    until_inline(&bench, &first, &threads, &[1.0]).await;
    let (second, threads) = model(&bench, true, Duration::ZERO);
    assert!(until_inline(&bench, &second, &threads, &[1.0]).await > 1);
}

#[tokio::test]
async fn long_or_unpredictable_runs_are_never_inline() {
    let bench = SchedulerBench::new();
    for (has_fixed_work, time) in [(true, Duration::from_millis(1)), (false, Duration::ZERO)] {
        let (model, threads) = model(&bench, has_fixed_work, time);
        for _ in 0..REPETITIONS {
            bench.ask(&model, [1.0]).await.unwrap();
            assert!(!threads.last_was_inline(), "{has_fixed_work} {time:?}");
        }
    }
}

#[tokio::test]
async fn runs_are_never_inline_with_batching() {
    let bench = SchedulerBench::with(joining(1, 8, Duration::ZERO));
    let (model, threads) = model(&bench, true, Duration::ZERO);
    for _ in 0..REPETITIONS {
        bench.ask(&model, [1.0]).await.unwrap();
        assert!(!threads.last_was_inline());
    }
}

#[tokio::test]
async fn a_short_run_is_queued_while_another_run_holds_the_slot() {
    let bench = SchedulerBench::with(limits(1, 5));
    let gate = Arc::new(Gate::default());
    let is_slow = Arc::new(AtomicBool::new(false));
    let threads = Threads::default();
    let here = thread::current().id();
    let model = {
        let (gate, is_slow, threads) = (gate.clone(), is_slow.clone(), threads.clone());
        of_rows(&bench, true, move |x, _| {
            threads.0.lock().unwrap().push(thread::current().id());
            if x.len() > 1 && is_slow.load(Ordering::SeqCst) {
                // On this thread nothing would open the gate.
                assert_ne!(thread::current().id(), here);
                gate.pass();
            }
            Ok(x.to_vec())
        })
    };
    until_inline(&bench, &model, &threads, &[1.0]).await;
    is_slow.store(true, Ordering::SeqCst);
    let slow = bench.ask(&model, [1.0, 2.0]);
    let short = async {
        gate.reached(1).await;
        let short = bench.ask(&model, [1.0]);
        tokio::pin!(short);
        assert!(futures_util::poll!(short.as_mut()).is_pending());
        gate.open();
        short.await.unwrap();
        assert!(!threads.last_was_inline());
    };
    tokio::join!(slow, short).0.unwrap();
}

#[tokio::test]
async fn a_short_run_that_panics_or_fails_releases_its_slot() {
    let bench = Arc::new(SchedulerBench::new());
    let threads = Threads::default();
    let model = {
        let threads = threads.clone();
        of_rows(&bench, true, move |x, _| {
            threads.0.lock().unwrap().push(thread::current().id());
            assert!(x[0] >= 0.0, "a panic in a run");
            if x[0] > 9.0 {
                return Err(EngineError::Run("too much".to_owned()));
            }
            Ok(x.to_vec())
        })
    };
    for bad in [-1.0, 10.0] {
        // The previous run may have taken longer than an inline run may: this test shares the machine.
        let mut was_inline = false;
        while !was_inline {
            until_inline(&bench, &model, &threads, &[1.0]).await;
            let ask = {
                let (bench, model) = (Arc::clone(&bench), Arc::clone(&model));
                tokio::spawn(async move { bench.ask(&model, [bad]).await.map(|ran| rows(&ran)) })
            };
            assert!(matches!(ask.await, Ok(Err(_))));
            was_inline = threads.last_was_inline();
        }
    }
    until_inline(&bench, &model, &threads, &[1.0]).await;
}
