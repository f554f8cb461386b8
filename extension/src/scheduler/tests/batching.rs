//! Tests of batching.

use std::sync::Mutex;

use futures_util::future::join_all;
use proptest::prelude::*;

use super::fixtures::*;
use super::*;

/// Sends requests that queue while the first one runs; returns the results and the rows of each run.
async fn ask_together(
    limits: ExecutorLimits,
    groups: &[Vec<f32>],
    run: impl Fn(f32) -> f32 + Send + Sync + 'static,
) -> (Vec<RunOutcome>, Vec<usize>) {
    let bench = SchedulerBench::with(limits);
    let gate = Arc::new(Gate::default());
    let runs = Arc::new(Mutex::new(Vec::new()));
    let model = {
        let (gate, runs) = (Arc::clone(&gate), Arc::clone(&runs));
        rows_in_rows_out(&bench, move |x, _| {
            runs.lock().unwrap().push(x.len());
            gate.pass();
            Ok(x.iter().map(|x| run(*x)).collect())
        })
    };
    let first = bench.ask(&model, &groups[0]);
    let others = async {
        gate.reached(1).await;
        let others = join_all(groups[1..].iter().map(|rows| bench.ask(&model, rows)));
        tokio::pin!(others);
        // A polled request is in the queue.
        let _ = futures_util::poll!(others.as_mut());
        gate.open();
        others.await
    };
    let (first, others) = tokio::join!(first, others);
    let answers = std::iter::once(first).chain(others);
    let answers = answers.map(Result::unwrap).collect();
    let runs = runs.lock().unwrap().clone();
    (answers, runs)
}

#[tokio::test]
async fn queued_requests_share_one_run() {
    let groups = [vec![1.0], vec![2.0, 3.0], vec![4.0], vec![5.0], vec![6.0]];
    let (answers, runs) = ask_together(joining(1, 8, Duration::ZERO), &groups, |x| x * 10.0).await;
    assert_eq!(runs, [1, 5], "the first request ran alone");
    for (answer, given) in answers.iter().zip(&groups) {
        let expected: Vec<f32> = given.iter().map(|x| x * 10.0).collect();
        assert_eq!(rows(answer), expected);
    }
    let together: Vec<usize> = answers
        .iter()
        .map(|answer| answer.batched_requests)
        .collect();
    assert_eq!(together, [1, 4, 4, 4, 4]);
    assert_eq!(answers.iter().filter(|answer| answer.is_first).count(), 2);
}

#[tokio::test]
async fn the_first_request_waits_for_others_during_the_delay() {
    let bench = SchedulerBench::with(joining(1, 4, TIMEOUT));
    let model = rows_in_rows_out(&bench, |x, _| Ok(x.iter().map(|x| x + 1.0).collect()));
    let numbers = 0..4_u8;
    let asks = numbers
        .clone()
        .map(|number| bench.ask(&model, [f32::from(number)]));
    for (number, answer) in numbers.zip(join_all(asks).await) {
        let answer = answer.unwrap();
        assert_eq!(
            (rows(&answer), answer.batched_requests),
            (vec![f32::from(number + 1)], 4)
        );
    }
}

#[tokio::test]
async fn invalid_inputs_fail_only_their_own_request() {
    let bench = SchedulerBench::with(joining(1, 4, TIMEOUT));
    let model = rows_in_rows_out(&bench, |x, _| {
        if x.iter().any(|x| *x < 0.0) {
            return Err(EngineError::Node("negative".to_owned()));
        }
        Ok(x.to_vec())
    });
    let groups = [[1.0], [-1.0], [2.0], [3.0]];
    let answers = join_all(groups.iter().map(|rows| bench.ask(&model, rows))).await;
    for (answer, given) in answers.into_iter().zip(groups) {
        match answer {
            Ok(answer) => assert_eq!(rows(&answer), given),
            Err(error) => {
                assert!(given[0] < 0.0);
                let RunError::Failed(failed) = &error else {
                    panic!("{error:?}")
                };
                assert!(matches!(failed.error, EngineError::Node(_)), "{error:?}");
                // The error has the inputs of the request, not those of the batch.
                let returned = failed.request.as_ref().unwrap();
                assert_eq!(returned.inputs, request(&given).inputs);
            }
        }
    }
}

#[tokio::test]
async fn requests_run_individually_if_outputs_cannot_be_split() {
    let bench = SchedulerBench::with(joining(1, 2, TIMEOUT));
    // The mean of all rows: always a single row.
    let model = rows_in_rows_out(&bench, |x, _| {
        let count: f32 = x.iter().map(|_| 1.0).sum();
        Ok(vec![x.iter().sum::<f32>() / count])
    });
    let (one, other) = tokio::join!(bench.ask(&model, [1.0]), bench.ask(&model, [3.0]));
    assert_eq!(
        (rows(&one.unwrap()), rows(&other.unwrap())),
        (vec![1.0], vec![3.0])
    );
}

#[tokio::test]
async fn the_deadline_of_one_member_does_not_stop_the_batch() {
    let bench = SchedulerBench::with(joining(1, 2, TIMEOUT));
    let gate = Arc::new(Gate::default());
    let model = {
        let gate = Arc::clone(&gate);
        rows_in_rows_out(&bench, move |x, cancel| {
            gate.pass();
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            Ok(x.to_vec())
        })
    };
    let hurried = async {
        let deadline = bench.deadline_in(Duration::from_millis(50));
        let run = bench
            .scheduler
            .run(Arc::clone(&model), request(&[1.0]), deadline);
        let run = run.await;
        gate.open();
        run
    };
    // The wall clock of these tests advances only on demand.
    let time = async {
        gate.reached(1).await;
        bench.wall.pass(Duration::from_secs(1));
        bench.thaws.note(bench.wall.now());
    };
    let (hurried, patient, ()) = tokio::join!(hurried, bench.ask(&model, [2.0]), time);
    assert!(matches!(hurried, Err(RunError::Deadline)), "{hurried:?}");
    assert_eq!(rows(&patient.unwrap()), [2.0]);
}

#[tokio::test]
async fn requests_of_two_versions_share_no_run() {
    let bench = SchedulerBench::with(joining(1, 8, Duration::from_millis(100)));
    let [one, other] = [1.0, 2.0].map(|factor| {
        rows_in_rows_out(&bench, move |x, _| {
            Ok(x.iter().map(|x| x * factor).collect())
        })
    });
    let numbers = 0..8_u8;
    let model = |number: u8| {
        if number.is_multiple_of(2) {
            &one
        } else {
            &other
        }
    };
    let asks = numbers
        .clone()
        .map(|number| bench.ask(model(number), [f32::from(number)]));
    for (number, answer) in numbers.zip(join_all(asks).await) {
        let (answer, factor) = (answer.unwrap(), f32::from(1 + number % 2));
        assert_eq!(rows(&answer), [f32::from(number) * factor]);
        assert_eq!(answer.batched_requests, 4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each request has the same result as alone, and there are at most as many runs as requests.
    #[test]
    fn results_of_a_batch_equal_those_of_single_runs(
        groups in prop::collection::vec(prop::collection::vec(-1e6_f32..1e6, 1..5), 1..12),
        runs in 1..3_usize,
        most in 2..9_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let alone = |x: f32| x * 3.0 + 1.0;
        let limits = joining(runs, most, Duration::ZERO);
        let (answers, sizes) = runtime.block_on(ask_together(limits, &groups, alone));
        for (answer, given) in answers.iter().zip(&groups) {
            let expected: Vec<f32> = given.iter().map(|x| alone(*x)).collect();
            prop_assert_eq!(rows(answer), expected);
        }
        prop_assert!(sizes.len() <= groups.len());
        prop_assert_eq!(sizes.iter().sum::<usize>(), groups.iter().map(Vec::len).sum::<usize>());
        let single = groups.iter().map(Vec::len).max().unwrap();
        prop_assert!(sizes.iter().all(|rows| *rows <= most.max(single)));
        let told = answers.iter().filter(|answer| answer.is_first).count();
        prop_assert_eq!(told, sizes.len());
    }
}
