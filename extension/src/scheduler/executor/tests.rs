//! Tests of worker threads that the system cannot create.

use std::cell::Cell;
use std::sync::{Mutex, mpsc};

use super::*;
use crate::ids::ModelName;
use crate::models::stub;

/// Longer than any step of these tests, unless it never ends.
const TIMEOUT: Duration = Duration::from_secs(20);

thread_local! {
    static FAIL_THREADS: Cell<bool> = const { Cell::new(false) };
}

/// Returns a thread builder. If `FAIL_THREADS` is set on this thread, the builder fails, as at a limit of threads: no
/// address space has space for its stack.
fn failing_threads() -> thread::Builder {
    let thread = thread::Builder::new();
    if FAIL_THREADS.get() {
        thread.stack_size(1 << 60)
    } else {
        thread
    }
}

fn limits() -> ExecutorLimits {
    ExecutorLimits {
        runs: 2,
        queue: 4,
        batch: None,
    }
}

/// Runs a request on a runtime of this thread.
fn run(executor: &ModelExecutor, model: &Arc<LoadedModel>) -> Result<RunOutcome, RunError> {
    let request = Decoded {
        inputs: Vec::new(),
        outputs: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let run = executor.run(Arc::clone(model), request, TIMEOUT);
    runtime.unwrap().block_on(run)
}

/// Runs `work` on a separate thread, and fails if it does not end.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    result.recv_timeout(TIMEOUT).expect("the work does not end")
}

fn account() -> Arc<Account> {
    Arc::new(Account::unlimited())
}

#[test]
fn a_run_without_a_thread_fails_and_the_next_run_succeeds() {
    in_time(|| {
        let name = ModelName::parse("wine").unwrap();
        let model = Arc::new(stub::loaded(&name, "1", |_| Ok(Vec::new())));
        let executor = ModelExecutor::with_threads(limits(), account(), failing_threads);
        FAIL_THREADS.set(true);
        for _ in 0..3 {
            let error = run(&executor, &model).unwrap_err();
            assert!(
                matches!(error, RunError::Engine(EngineError::Thread(_))),
                "{error:?}"
            );
        }
        let state = executor.state.lock();
        assert_eq!((state.workers, state.idle), (0, 0));
        assert!(
            !state.queue.has_runnable(),
            "the places in the queue are free"
        );
        drop(state);
        FAIL_THREADS.set(false);
        run(&executor, &model).unwrap();
    });
}

#[test]
fn a_run_waits_for_the_only_thread_if_no_other_can_be_created() {
    in_time(|| {
        let name = ModelName::parse("wine").unwrap();
        let (began, has_begun) = mpsc::channel();
        let (end, may_end) = mpsc::channel();
        let may_end = Mutex::new(may_end);
        let model = Arc::new(stub::loaded(&name, "1", move |_| {
            let _ = began.send(());
            let _ = may_end.lock().unwrap().recv();
            Ok(Vec::new())
        }));
        let executor = Arc::new(ModelExecutor::with_threads(
            limits(),
            account(),
            failing_threads,
        ));
        let first = thread::spawn({
            let (executor, model) = (Arc::clone(&executor), Arc::clone(&model));
            move || run(&executor, &model).map(drop)
        });
        has_begun.recv().unwrap();
        // The only thread is in the middle of a run.
        let second = thread::spawn({
            let (executor, model) = (Arc::clone(&executor), Arc::clone(&model));
            move || {
                FAIL_THREADS.set(true);
                run(&executor, &model).map(drop)
            }
        });
        while !executor.state.lock().queue.has_runnable() {
            thread::yield_now();
        }
        end.send(()).unwrap();
        end.send(()).unwrap();
        first.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
        assert_eq!(executor.state.lock().workers, 1);
    });
}
