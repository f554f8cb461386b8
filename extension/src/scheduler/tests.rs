//! Tests of the scheduler; here of runs across a freeze, on both kinds of clock.

mod batching;
mod concurrency;
mod fixtures;
mod inline_execution;
mod memory_growth;

use std::sync::mpsc;

use super::*;
use crate::clock::wall::{Monotonic, Wall};

const HOUR: Duration = Duration::from_secs(3_600);

struct SchedulerBench {
    wall: Arc<Wall>,
    thaws: Thaws,
    name: ModelName,
    scheduler: Scheduler,
}

impl SchedulerBench {
    fn new() -> Self {
        Self::with(ExecutorLimits {
            runs: 1,
            queue: 0,
            batch: None,
        })
    }

    fn with(limits: ExecutorLimits) -> Self {
        let (wall, thaws) = (Wall::new(), Thaws::default());
        let name = ModelName::parse("wine").unwrap();
        let clock = Arc::clone(&wall) as _;
        let account = Arc::new(Account::unlimited());
        let scheduler = Scheduler::new([name.clone()], limits, clock, thaws.clone(), &account);
        Self {
            wall,
            thaws,
            name,
            scheduler,
        }
    }

    fn deadline_in(&self, time: Duration) -> Deadline {
        Deadline::after(self.wall.now(), time)
    }
}

fn nothing() -> Decoded {
    Decoded {
        inputs: Vec::new(),
        outputs: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passed_in_a_freeze_ends_the_request_and_its_run_at_the_thaw() {
    for clock in Monotonic::BOTH {
        let bench = SchedulerBench::new();
        let (began, has_begun) = tokio::sync::oneshot::channel();
        let began = std::sync::Mutex::new(Some(began));
        let (ended, has_ended) = mpsc::channel();
        let model = crate::models::stub::loaded(&bench.name, "1", move |cancel| {
            began.lock().unwrap().take().unwrap().send(()).unwrap();
            while !cancel.is_cancelled() {
                std::thread::yield_now();
            }
            ended.send(()).unwrap();
            Err(EngineError::Cancelled)
        });
        let deadline = bench.deadline_in(Duration::from_secs(10));
        let run = bench.scheduler.run(Arc::new(model), nothing(), deadline);
        let freeze = async {
            has_begun.await.unwrap();
            clock.freeze(&bench.wall, &bench.thaws, HOUR).await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        };
        let ran = tokio::select! {
            ran = run => ran,
            () = freeze => panic!("{clock:?}: the request still waits"),
        };
        assert!(matches!(ran, Err(RunError::Deadline)), "{clock:?}: {ran:?}");
        has_ended.recv().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_the_monotonic_clock_does_not_expire_a_deadline() {
    let bench = SchedulerBench::new();
    let (began, has_begun) = tokio::sync::oneshot::channel();
    let began = std::sync::Mutex::new(Some(began));
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let model = crate::models::stub::loaded(&bench.name, "1", move |_| {
        began.lock().unwrap().take().unwrap().send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        Ok(Vec::new())
    });
    let deadline = bench.deadline_in(Duration::from_secs(10));
    let run = bench.scheduler.run(Arc::new(model), nothing(), deadline);
    let freeze = async {
        has_begun.await.unwrap();
        // The wall clock, which counts, advanced by two seconds only.
        tokio::time::advance(HOUR).await;
        bench.wall.pass(Duration::from_secs(2));
        bench.thaws.note(bench.wall.now());
        tokio::task::yield_now().await;
        go_on.send(()).unwrap();
    };
    let (ran, ()) = tokio::join!(run, freeze);
    assert!(ran.is_ok(), "{ran:?}");
}
