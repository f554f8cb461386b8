//! Short runs, which go to no other thread.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};
use std::time::Instant;

use super::rows::*;
use super::*;

/// As many as show that something never happens.
const MANY: usize = 200;

/// A model that says which thread each run is on, and takes at least so long.
fn model(bench: &Bench, has_fixed_work: bool, time: Duration) -> (Arc<Loaded>, Threads) {
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
    /// Whether the last run was on the thread that asks.
    fn last_was_here(&self) -> bool {
        self.0.lock().unwrap().last() == Some(&thread::current().id())
    }
}

/// Asks for these rows until a run is made here; how often it was asked.
async fn until_here(bench: &Bench, model: &Arc<Loaded>, threads: &Threads, x: &[f32]) -> usize {
    let started = Instant::now();
    for times in 1.. {
        assert_eq!(rows(&bench.ask(model, x).await.unwrap()), x);
        if threads.last_was_here() {
            return times;
        }
        assert!(started.elapsed() < PATIENCE, "never here");
    }
    unreachable!()
}

#[tokio::test]
async fn a_short_run_is_made_here_once_its_shapes_are_known() {
    let bench = Bench::new();
    let (model, threads) = model(&bench, true, Duration::ZERO);
    assert!(until_here(&bench, &model, &threads, &[1.0]).await > 1);
    // Two rows may take longer than one.
    assert_eq!(
        rows(&bench.ask(&model, [1.0, 2.0]).await.unwrap()),
        [1.0, 2.0]
    );
    assert!(!threads.last_was_here());
    until_here(&bench, &model, &threads, &[1.0, 2.0]).await;
    until_here(&bench, &model, &threads, &[3.0]).await;
}

#[tokio::test]
async fn a_run_that_takes_as_long_as_a_small_one_after_a_pause_is_made_here() {
    let bench = Bench::new();
    let (model, threads) = model(&bench, true, Duration::from_micros(200));
    until_here(&bench, &model, &threads, &[1.0]).await;
}

#[tokio::test]
async fn a_run_whose_deadline_has_passed_is_not_made() {
    let bench = Bench::new();
    let (model, threads) = model(&bench, true, Duration::ZERO);
    until_here(&bench, &model, &threads, &[1.0]).await;
    let before = threads.0.lock().unwrap().len();
    let deadline = bench.deadline_in(Duration::ZERO);
    let late = bench
        .scheduler
        .run(Arc::clone(&model), request(&[1.0]), deadline);
    assert!(matches!(late.await, Err(RunError::Deadline)));
    assert_eq!(threads.0.lock().unwrap().len(), before);
}

#[tokio::test]
async fn another_version_is_known_anew() {
    let bench = Bench::new();
    let (first, threads) = model(&bench, true, Duration::ZERO);
    until_here(&bench, &first, &threads, &[1.0]).await;
    let (second, threads) = model(&bench, true, Duration::ZERO);
    assert!(until_here(&bench, &second, &threads, &[1.0]).await > 1);
}

#[tokio::test]
async fn what_takes_its_time_or_may_take_it_is_never_run_here() {
    let bench = Bench::new();
    for (has_fixed_work, time) in [(true, Duration::from_millis(1)), (false, Duration::ZERO)] {
        let (model, threads) = model(&bench, has_fixed_work, time);
        for _ in 0..MANY {
            bench.ask(&model, [1.0]).await.unwrap();
            assert!(!threads.last_was_here(), "{has_fixed_work} {time:?}");
        }
    }
}

#[tokio::test]
async fn what_may_be_joined_is_never_run_here() {
    let bench = Bench::with(joining(1, 8, Duration::ZERO));
    let (model, threads) = model(&bench, true, Duration::ZERO);
    for _ in 0..MANY {
        bench.ask(&model, [1.0]).await.unwrap();
        assert!(!threads.last_was_here());
    }
}

#[tokio::test]
async fn a_short_run_is_made_elsewhere_while_another_one_has_the_turn() {
    let bench = Bench::with(limits(1, 5));
    let gate = Arc::new(Gate::default());
    let is_slow = Arc::new(AtomicBool::new(false));
    let threads = Threads::default();
    let here = thread::current().id();
    let model = {
        let (gate, is_slow, threads) = (gate.clone(), is_slow.clone(), threads.clone());
        of_rows(&bench, true, move |x, _| {
            threads.0.lock().unwrap().push(thread::current().id());
            if x.len() > 1 && is_slow.load(Ordering::SeqCst) {
                // Nobody would open the gate.
                assert_ne!(thread::current().id(), here);
                gate.pass();
            }
            Ok(x.to_vec())
        })
    };
    until_here(&bench, &model, &threads, &[1.0]).await;
    is_slow.store(true, Ordering::SeqCst);
    let slow = bench.ask(&model, [1.0, 2.0]);
    let short = async {
        gate.reached(1).await;
        let short = bench.ask(&model, [1.0]);
        tokio::pin!(short);
        assert!(futures_util::poll!(short.as_mut()).is_pending());
        gate.open();
        short.await.unwrap();
        assert!(!threads.last_was_here());
    };
    tokio::join!(slow, short).0.unwrap();
}

#[tokio::test]
async fn a_short_run_that_panics_or_fails_gives_its_turn_back() {
    let bench = Arc::new(Bench::new());
    let threads = Threads::default();
    let model = {
        let threads = threads.clone();
        of_rows(&bench, true, move |x, _| {
            threads.0.lock().unwrap().push(thread::current().id());
            assert!(x[0] >= 0.0, "a mistake of our own");
            if x[0] > 9.0 {
                return Err(EngineError::Run("too much".to_owned()));
            }
            Ok(x.to_vec())
        })
    };
    for bad in [-1.0, 10.0] {
        // The one before may have taken longer than is short: the machine is not this test's alone.
        let mut was_here = false;
        while !was_here {
            until_here(&bench, &model, &threads, &[1.0]).await;
            let ask = {
                let (bench, model) = (Arc::clone(&bench), Arc::clone(&model));
                tokio::spawn(async move { bench.ask(&model, [bad]).await.map(|ran| rows(&ran)) })
            };
            assert!(matches!(ask.await, Ok(Err(_))));
            was_here = threads.last_was_here();
        }
    }
    until_here(&bench, &model, &threads, &[1.0]).await;
}
