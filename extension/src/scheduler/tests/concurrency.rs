//! Tests of concurrency, the queue, and cancelled requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};

use futures_util::future::join_all;

use super::fixtures::*;
use super::*;

#[tokio::test]
async fn as_many_runs_are_concurrent_as_configured() {
    let bench = SchedulerBench::with(limits(3, 10));
    // No run passes before three have begun.
    let barrier = Barrier::new(3);
    let model = rows_in_rows_out(&bench, move |x, _| {
        barrier.wait();
        Ok(x.to_vec())
    });
    let numbers = 0..9_u8;
    let asks = join_all(
        numbers
            .clone()
            .map(|number| bench.ask(&model, [f32::from(number)])),
    );
    let answers = tokio::time::timeout(TIMEOUT, asks).await.unwrap();
    for (number, answer) in numbers.zip(answers) {
        assert_eq!(rows(&answer.unwrap()), [f32::from(number)]);
    }
}

#[tokio::test]
async fn no_more_runs_are_concurrent_than_configured() {
    let bench = SchedulerBench::with(limits(2, 30));
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let model = {
        let most = Arc::clone(&most);
        rows_in_rows_out(&bench, move |x, _| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(x.to_vec())
        })
    };
    for answer in join_all((0..30).map(|_| bench.ask(&model, [1.0]))).await {
        answer.unwrap();
    }
    assert!(most.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn the_error_of_a_full_queue_names_the_limit_and_the_variable() {
    let bench = SchedulerBench::with(limits(1, 1));
    let gate = Arc::new(Gate::default());
    let model = {
        let gate = Arc::clone(&gate);
        rows_in_rows_out(&bench, move |x, _| {
            gate.pass();
            Ok(x.to_vec())
        })
    };
    let first = bench.ask(&model, [1.0]);
    let second = bench.ask(&model, [2.0]);
    let third = async {
        gate.reached(1).await;
        let error = bench.ask(&model, [3.0]).await.unwrap_err();
        assert!(
            matches!(error, RunError::QueueFull { limit: 1 }),
            "{error:?}"
        );
        let words = error.to_string();
        assert!(
            words.starts_with("cannot queue the request: 1 requests already wait"),
            "{words}"
        );
        assert!(words.contains("MODEL_QUEUE"), "{words}");
        gate.open();
    };
    let (first, second, ()) = tokio::join!(first, second, third);
    assert_eq!(
        (rows(&first.unwrap()), rows(&second.unwrap())),
        (vec![1.0], vec![2.0])
    );
    assert!(bench.ask(&model, [4.0]).await.is_ok());
}

#[tokio::test]
async fn a_dropped_request_frees_its_place_and_never_runs() {
    let bench = SchedulerBench::with(limits(1, 1));
    let gate = Arc::new(Gate::default());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let model = {
        let (gate, seen) = (Arc::clone(&gate), Arc::clone(&seen));
        rows_in_rows_out(&bench, move |x, _| {
            seen.lock().unwrap().push(x[0]);
            gate.pass();
            Ok(x.to_vec())
        })
    };
    let first = bench.ask(&model, [1.0]);
    let others = async {
        gate.reached(1).await;
        {
            let gone = bench.ask(&model, [2.0]);
            tokio::pin!(gone);
            assert!(futures_util::poll!(gone.as_mut()).is_pending());
            assert!(bench.ask(&model, [3.0]).await.is_err());
        }
        let third = bench.ask(&model, [4.0]);
        tokio::pin!(third);
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        gate.open();
        third.await.unwrap();
    };
    tokio::join!(first, others).0.unwrap();
    assert_eq!(*seen.lock().unwrap(), [1.0, 4.0]);
}

#[tokio::test]
async fn an_abandoned_run_that_does_not_stop_delays_no_other_request() {
    let bench = SchedulerBench::with(limits(1, 5));
    let gate = Arc::new(Gate::default());
    let model = {
        let gate = Arc::clone(&gate);
        rows_in_rows_out(&bench, move |x, _| {
            if x[0] < 0.0 {
                gate.pass();
            }
            Ok(x.to_vec())
        })
    };
    {
        let endless = bench.ask(&model, [-1.0]);
        tokio::pin!(endless);
        assert!(futures_util::poll!(endless.as_mut()).is_pending());
        gate.reached(1).await;
    }
    for number in [1.0, 2.0] {
        let answer = tokio::time::timeout(TIMEOUT, bench.ask(&model, [number])).await;
        assert_eq!(rows(&answer.unwrap().unwrap()), [number]);
    }
    gate.open();
}

#[tokio::test]
async fn a_run_that_panics_is_an_error_and_releases_its_slot() {
    let bench = SchedulerBench::with(limits(1, 5));
    let model = rows_in_rows_out(&bench, |x, _| {
        assert!(x[0] > 0.0, "a panic in a run");
        Ok(x.to_vec())
    });
    for _ in 0..3 {
        let error = bench.ask(&model, [-1.0]).await.unwrap_err();
        assert!(
            matches!(error, RunError::Engine(EngineError::Thread(_))),
            "{error:?}"
        );
        assert_eq!(rows(&bench.ask(&model, [1.0]).await.unwrap()), [1.0]);
    }
}

/// Requests arrive and are dropped in any order on several threads, and some runs fail: no remaining request waits
/// forever.
#[tokio::test(flavor = "multi_thread")]
async fn every_remaining_request_gets_a_result() {
    for limits in [
        limits(1, 1_000),
        limits(3, 1_000),
        ExecutorLimits {
            queue: 1_000,
            ..joining(2, 7, Duration::from_millis(1))
        },
    ] {
        let bench = Arc::new(SchedulerBench::with(limits));
        let model = rows_in_rows_out(&bench, |x, cancel| {
            std::thread::yield_now();
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            if x.contains(&13.0) {
                return Err(EngineError::Run("the model failed".to_owned()));
            }
            Ok(x.to_vec())
        });
        let asks = (0..500_u16).map(|number| {
            let (bench, model) = (Arc::clone(&bench), Arc::clone(&model));
            tokio::spawn(async move {
                let (mine, is_failing) = (f32::from(number % 40), number % 40 == 13);
                let ask = bench.ask(&model, [mine]);
                tokio::pin!(ask);
                if number.is_multiple_of(3) {
                    // Dropped in the queue, in a run, or too late.
                    for _ in 0..number % 5 {
                        if futures_util::poll!(ask.as_mut()).is_ready() {
                            return;
                        }
                        tokio::task::yield_now().await;
                    }
                    return;
                }
                match ask.await {
                    Ok(ran) => assert_eq!((rows(&ran), is_failing), (vec![mine], false)),
                    Err(error) => assert!(is_failing, "{error:?}"),
                }
            })
        });
        let all = tokio::time::timeout(TIMEOUT, join_all(asks));
        for task in all.await.expect("a request waits forever") {
            task.unwrap();
        }
    }
}
