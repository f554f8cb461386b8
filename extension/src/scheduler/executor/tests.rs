//! Threads that the system refuses.

use std::cell::Cell;
use std::sync::mpsc;

use super::super::stub;
use super::*;
use crate::ids::ModelName;

/// Longer than anything here takes, unless it never ends.
const PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    static REFUSE: Cell<bool> = const { Cell::new(false) };
}

/// A builder whose thread the system refuses, as at a limit of threads, while this thread wants that: no address space
/// has room for its stack.
fn thread_or_none() -> thread::Builder {
    let thread = thread::Builder::new();
    if REFUSE.get() {
        thread.stack_size(1 << 60)
    } else {
        thread
    }
}

fn limits() -> Limits {
    Limits {
        runs: 2,
        queue: 4,
        batch: None,
    }
}

/// A run on a runtime of this thread.
fn run(executor: &ModelExecutor, model: &Arc<Loaded>) -> Result<RunOutcome, RunError> {
    let request = Decoded {
        inputs: Vec::new(),
        outputs: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let run = executor.run(Arc::clone(model), request, PATIENCE);
    runtime.unwrap().block_on(run)
}

/// Does `work` on a thread of its own, and fails when it does not end.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    result.recv_timeout(PATIENCE).expect("it does not end")
}

fn account() -> Arc<Account> {
    Arc::new(Account::unlimited())
}

#[test]
fn a_run_for_which_no_thread_can_be_created_fails_and_the_next_one_succeeds() {
    in_time(|| {
        let name = ModelName::parse("wine").unwrap();
        let model = Arc::new(stub::loaded(&name, "1", |_| Ok(Vec::new())));
        let executor = ModelExecutor::with_threads(limits(), account(), thread_or_none);
        REFUSE.set(true);
        for _ in 0..3 {
            let error = run(&executor, &model).unwrap_err();
            assert!(
                matches!(error, RunError::Engine(EngineError::Thread(_))),
                "{error:?}"
            );
        }
        let state = executor.shared.lock();
        assert_eq!((state.workers, state.idle), (0, 0));
        assert!(!state.queue.has_work(), "the places in the queue are free");
        drop(state);
        REFUSE.set(false);
        run(&executor, &model).unwrap();
    });
}

#[test]
fn a_run_waits_for_the_only_thread_where_no_further_one_can_be_created() {
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
            thread_or_none,
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
                REFUSE.set(true);
                run(&executor, &model).map(drop)
            }
        });
        while !executor.shared.lock().queue.has_work() {
            thread::yield_now();
        }
        end.send(()).unwrap();
        end.send(()).unwrap();
        first.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
        assert_eq!(executor.shared.lock().workers, 1);
    });
}
