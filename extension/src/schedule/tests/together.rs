//! Several requests at once: turns, places, and runs that are shared.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Condvar, Mutex};

use futures_util::future::join_all;
use proptest::prelude::*;

use super::*;
use crate::engine::Cancel;
use crate::models::RunResult;
use crate::tensor::{Data, Datatype, Kind, Port, Signature, Tensor};

const PATIENCE: Duration = Duration::from_secs(60);

fn limits(runs: usize, queue: usize) -> Limits {
    Limits {
        runs,
        queue,
        batch: None,
    }
}

fn joining(runs: usize, rows: usize, delay: Duration) -> Limits {
    Limits {
        batch: Some(Batching { rows, delay }),
        ..limits(runs, 100)
    }
}

/// A gate that runs wait at until it is opened.
#[derive(Default)]
struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    /// To be called by a run.
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(_, open)| !*open).unwrap());
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    /// Waits until so many runs have come to the gate, beside what else is to be done.
    async fn reached(self: &Arc<Self>, runs: usize) {
        let gate = Arc::clone(self);
        let wait = tokio::task::spawn_blocking(move || {
            let state = gate.state.lock().unwrap();
            let wait = gate
                .changed
                .wait_timeout_while(state, PATIENCE, |(come, _)| *come < runs);
            assert!(!wait.unwrap().1.timed_out(), "no {runs} runs");
        });
        wait.await.unwrap();
    }
}

/// What takes rows of floats and gives rows of floats, and its runs.
fn rows_in_rows_out(
    bench: &Bench,
    run: impl Fn(&[f32], &Cancel) -> Result<Vec<f32>, EngineError> + Send + Sync + 'static,
) -> Arc<Loaded> {
    let port = |name: &str| Port {
        name: name.to_owned(),
        kind: Kind::Tensor {
            datatype: Datatype::Fp32,
            shape: vec![None],
        },
    };
    let signature = Signature {
        inputs: vec![port("x")],
        outputs: vec![port("y")],
    };
    let run = move |inputs: Vec<(String, Value)>, cancel: &Cancel| -> RunResult {
        let Value::Tensor(x) = &inputs[0].1 else {
            panic!("{inputs:?}")
        };
        let Data::Fp32(x) = x.data() else {
            panic!("{x:?}")
        };
        let y = run(x, cancel)?;
        let y = Tensor::new(vec![y.len()], y).unwrap();
        Ok(vec![("y".to_owned(), Value::Tensor(y))])
    };
    Arc::new(crate::schedule::stub::with_signature(
        &bench.name,
        "1",
        signature,
        run,
    ))
}

fn request(rows: &[f32]) -> Decoded {
    let x = Tensor::new(vec![rows.len()], rows.to_vec()).unwrap();
    Decoded {
        inputs: vec![("x".to_owned(), Value::Tensor(x))],
        outputs: Vec::new(),
    }
}

fn rows(ran: &Ran) -> Vec<f32> {
    let Value::Tensor(y) = &ran.outputs[0].1 else {
        panic!("{ran:?}")
    };
    let Data::Fp32(y) = y.data() else {
        panic!("{y:?}")
    };
    y[..].to_vec()
}

impl Bench {
    async fn ask(&self, model: &Arc<Loaded>, rows: impl AsRef<[f32]>) -> Result<Ran, RunError> {
        let (rows, deadline) = (rows.as_ref(), self.deadline_in(PATIENCE));
        let run = self
            .scheduler
            .run(Arc::clone(model), request(rows), deadline);
        run.await
    }
}

#[tokio::test]
async fn as_many_run_at_once_as_there_are_turns() {
    let bench = Bench::with(limits(3, 10));
    // Nobody passes before three are there.
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
    let answers = tokio::time::timeout(PATIENCE, asks).await.unwrap();
    for (number, answer) in numbers.zip(answers) {
        assert_eq!(rows(&answer.unwrap()), [f32::from(number)]);
    }
}

#[tokio::test]
async fn no_more_run_at_once_than_there_are_turns() {
    let bench = Bench::with(limits(2, 30));
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
async fn who_finds_the_queue_full_is_told_the_limit_and_the_variable() {
    let bench = Bench::with(limits(1, 1));
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
        assert!(matches!(error, RunError::Full { limit: 1 }), "{error:?}");
        let words = error.to_string();
        assert!(words.starts_with("1 requests wait"), "{words}");
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
async fn a_request_that_goes_frees_its_place_in_the_queue_and_is_never_run() {
    let bench = Bench::with(limits(1, 1));
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
async fn a_run_that_cannot_be_stopped_holds_up_nobody_once_it_is_given_up() {
    let bench = Bench::with(limits(1, 5));
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
        let answer = tokio::time::timeout(PATIENCE, bench.ask(&model, [number])).await;
        assert_eq!(rows(&answer.unwrap().unwrap()), [number]);
    }
    gate.open();
}

/// Asks so that all others wait while the first one runs, and gives the answers and how many rows each run had.
async fn ask_together(
    limits: Limits,
    groups: &[Vec<f32>],
    run: impl Fn(f32) -> f32 + Send + Sync + 'static,
) -> (Vec<Ran>, Vec<usize>) {
    let bench = Bench::with(limits);
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
        // Each is in the queue once it was looked at.
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
async fn requests_that_wait_together_have_one_run() {
    let groups = [vec![1.0], vec![2.0, 3.0], vec![4.0], vec![5.0], vec![6.0]];
    let (answers, runs) = ask_together(joining(1, 8, Duration::ZERO), &groups, |x| x * 10.0).await;
    assert_eq!(runs, [1, 5], "the first one was alone when it came");
    for (answer, given) in answers.iter().zip(&groups) {
        let expected: Vec<f32> = given.iter().map(|x| x * 10.0).collect();
        assert_eq!(rows(answer), expected);
    }
    let together: Vec<usize> = answers.iter().map(|answer| answer.together).collect();
    assert_eq!(together, [1, 4, 4, 4, 4]);
    assert_eq!(answers.iter().filter(|answer| answer.is_first).count(), 2);
}

#[tokio::test]
async fn with_a_delay_the_first_one_waits_for_the_others() {
    let bench = Bench::with(joining(1, 4, PATIENCE));
    let model = rows_in_rows_out(&bench, |x, _| Ok(x.iter().map(|x| x + 1.0).collect()));
    let numbers = 0..4_u8;
    let asks = numbers
        .clone()
        .map(|number| bench.ask(&model, [f32::from(number)]));
    for (number, answer) in numbers.zip(join_all(asks).await) {
        let answer = answer.unwrap();
        assert_eq!(
            (rows(&answer), answer.together),
            (vec![f32::from(number + 1)], 4)
        );
    }
}

#[tokio::test]
async fn what_one_sent_is_no_error_of_the_others() {
    let bench = Bench::with(joining(1, 4, PATIENCE));
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
                assert!(
                    matches!(error, RunError::Engine(EngineError::Node(_))),
                    "{error:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_model_that_gives_other_rows_than_it_says_answers_each_alone() {
    let bench = Bench::with(joining(1, 2, PATIENCE));
    // The mean of all rows: one row, whatever comes.
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
async fn a_deadline_of_one_stops_no_run_of_the_others() {
    let bench = Bench::with(joining(1, 2, PATIENCE));
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
    // The wall clock of these tests stands still by itself.
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
async fn a_run_that_panics_is_an_error_and_gives_its_turn_back() {
    let bench = Bench::with(limits(1, 5));
    let model = rows_in_rows_out(&bench, |x, _| {
        assert!(x[0] > 0.0, "a mistake of our own");
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

/// Requests come and go in any order and on several threads, and some runs fail: nobody who stays waits for ever.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_stays_is_answered_whoever_goes() {
    for limits in [
        limits(1, 1_000),
        limits(3, 1_000),
        Limits {
            queue: 1_000,
            ..joining(2, 7, Duration::from_millis(1))
        },
    ] {
        let bench = Arc::new(Bench::with(limits));
        let model = rows_in_rows_out(&bench, |x, cancel| {
            std::thread::yield_now();
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            if x.contains(&13.0) {
                return Err(EngineError::Run("unlucky".to_owned()));
            }
            Ok(x.to_vec())
        });
        let asks = (0..500_u16).map(|number| {
            let (bench, model) = (Arc::clone(&bench), Arc::clone(&model));
            tokio::spawn(async move {
                let (mine, is_unlucky) = (f32::from(number % 40), number % 40 == 13);
                let ask = bench.ask(&model, [mine]);
                tokio::pin!(ask);
                if number.is_multiple_of(3) {
                    // Goes away in the queue, in a run, or too late.
                    for _ in 0..number % 5 {
                        if futures_util::poll!(ask.as_mut()).is_ready() {
                            return;
                        }
                        tokio::task::yield_now().await;
                    }
                    return;
                }
                match ask.await {
                    Ok(ran) => assert_eq!((rows(&ran), is_unlucky), (vec![mine], false)),
                    Err(error) => assert!(is_unlucky, "{error:?}"),
                }
            })
        });
        let all = tokio::time::timeout(PATIENCE, join_all(asks));
        for task in all.await.expect("somebody waits for ever") {
            task.unwrap();
        }
    }
}

#[tokio::test]
async fn requests_of_two_versions_share_no_run() {
    let bench = Bench::with(joining(1, 8, Duration::from_millis(100)));
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
        assert_eq!(answer.together, 4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However requests come together, each has what it would have alone, and there are no more runs than requests.
    #[test]
    fn what_comes_of_a_shared_run_is_what_comes_of_one_alone(
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
