//! Tests of memory whose size depends on the values of inputs, not on their size.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::*;
use crate::clock::Timestamp;
use crate::engine::{Cancel, Session};
use crate::ids::{Digest, VersionName};
use crate::models::RunResult;
use crate::sys::MemoryProbe;
use crate::tensor::{Signature, Value};

const MB: u64 = 1024 * 1024;

/// A process with a model that keeps the memory of its largest run.
#[derive(Clone, Default)]
struct GrowingProcess {
    kept: Arc<AtomicU64>,
    takes: Arc<AtomicU64>,
    shrunk: Arc<AtomicUsize>,
}

impl MemoryProbe for GrowingProcess {
    fn free(&self) -> Option<u64> {
        None
    }

    fn own(&self) -> Option<u64> {
        Some(self.kept.load(Ordering::SeqCst))
    }
}

impl Session for GrowingProcess {
    fn signature(&self) -> &Signature {
        static NONE: Signature = Signature {
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        &NONE
    }

    fn run(&self, _: &[(String, Value)], _: &[String], _: &Cancel) -> RunResult {
        // The system takes longer to clear as much memory.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(2) {
            std::thread::yield_now();
        }
        let takes = self.takes.load(Ordering::SeqCst);
        self.kept.fetch_max(takes, Ordering::SeqCst);
        Ok(Vec::new())
    }

    fn shrink(&self) {
        self.kept.store(0, Ordering::SeqCst);
        self.shrunk.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn memory_of_a_small_request_is_released_before_its_result() {
    let process = GrowingProcess::default();
    let name = ModelName::parse("wine").unwrap();
    let account = Arc::new(Account::new(Some(1), None, Box::new(process.clone())));
    let clock = Wall::new();
    let limits = ExecutorLimits::default();
    let scheduler = Scheduler::new(
        [name.clone()],
        limits,
        Arc::clone(&clock) as _,
        Thaws::default(),
        &account,
    );
    let digest = Digest::of(Sha256::new());
    let model = Arc::new(LoadedModel::new(
        name,
        VersionName::derived(&digest),
        digest,
        Timestamp(0),
        Box::new(process.clone()),
    ));
    let ask = async |takes: u64| {
        process.takes.store(takes, Ordering::SeqCst);
        let deadline = Deadline::after(clock.now(), Duration::from_secs(60));
        let ran = scheduler.run(Arc::clone(&model), nothing(), deadline);
        ran.await.unwrap();
        process.shrunk.swap(0, Ordering::SeqCst)
    };
    for _ in 0..20 {
        assert_eq!(ask(MB).await, 0);
    }
    assert_eq!(ask(4_000 * MB).await, 1);
    assert_eq!(ask(MB).await, 0);
    assert_eq!(ask(4_000 * MB).await, 1, "the next run as well");
    // A model whose every run allocates as much keeps the memory.
    for _ in 0..4 {
        ask(4_000 * MB).await;
    }
    for _ in 0..20 {
        assert_eq!(ask(4_000 * MB).await, 0);
    }
}
