//! State that an executor and its worker threads share.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::models::LoadedModel;
use crate::protocol::Decoded;
use crate::request_memory::Account;
use crate::scheduler::inline_execution::InlineExecution;
use crate::scheduler::memory_trim::RunSizes;
use crate::scheduler::queue::{ExecutorLimits, Queue, QueuedWork, Ticket};
use crate::scheduler::{RunError, batch};
use crate::tensor::Value;

/// Minimum duration of a run after which the growth of the process is measured. The system clears some 4 MB of new
/// memory in this time, and a measurement takes a hundredth of it.
const MIN_MEASURED_RUN: Duration = Duration::from_millis(1);

/// Shared state of an executor.
pub(super) struct ExecutorState {
    pub(super) limits: ExecutorLimits,
    /// Measures the growth of the process.
    pub(super) account: Arc<Account>,
    /// Creates the builder of a worker thread.
    pub(super) thread: fn() -> thread::Builder,
    inner: Mutex<Inner>,
    /// Signals new work, or the end of the executor.
    pub(super) changed: Condvar,
}

/// The part of the state that the mutex guards.
pub(super) struct Inner {
    pub(super) queue: Queue<InferenceJob>,
    /// Number of worker threads.
    pub(super) workers: usize,
    /// Number of worker threads that wait for work.
    pub(super) idle: usize,
    pub(super) is_closed: bool,
    sizes: RunSizes,
    pub(super) unreleased: Unreleased,
    /// Version whose run allocated the memory that is not released yet.
    unreleased_of: Weak<LoadedModel>,
    pub(super) inline_execution: InlineExecution,
}

/// Memory of a large run that is not released to the system yet. The largest part is released at the end of the run.
/// The memory of its inputs, outputs and response is released once they are dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Unreleased {
    /// None.
    #[default]
    Nothing,
    /// Memory of the response, and memory that the next run releases.
    Everything,
    /// Memory that the next run releases.
    AfterNextRun,
}

/// Size of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunSize {
    elements: u64,
    /// `true` if memory is released after the run.
    is_outsize: bool,
}

/// A queued request.
pub(super) struct InferenceJob {
    pub(super) model: Arc<LoadedModel>,
    pub(super) request: Decoded,
    pub(super) rows: Option<usize>,
    pub(super) batch_until: Instant,
    pub(super) reply: oneshot::Sender<JobResult>,
}

/// Result of a run for one request.
pub(super) struct JobResult {
    pub(super) outputs: Result<Vec<(String, Value)>, RunError>,
    pub(super) queued: Duration,
    pub(super) inferred: Duration,
    pub(super) batched_requests: usize,
    pub(super) is_first: bool,
}

impl QueuedWork for InferenceJob {
    fn rows(&self) -> Option<usize> {
        self.rows
    }

    fn batch_until(&self) -> Instant {
        self.batch_until
    }

    /// Versions never share a run, even if one version was loaded twice.
    fn can_join(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.model, &other.model) && batch::can_join(&self.request, &other.request)
    }
}

impl ExecutorState {
    pub(super) fn new(
        limits: ExecutorLimits,
        account: Arc<Account>,
        thread: fn() -> thread::Builder,
    ) -> Self {
        Self {
            limits,
            account,
            thread,
            inner: Mutex::new(Inner {
                queue: Queue::new(limits),
                workers: 0,
                idle: 0,
                is_closed: false,
                sizes: RunSizes::default(),
                unreleased: Unreleased::Nothing,
                unreleased_of: Weak::new(),
                inline_execution: InlineExecution::default(),
            }),
            changed: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a run that is about to begin, and makes it release memory at its end if it is outsize.
    pub(super) fn record_start(&self, model: &LoadedModel, elements: u64) -> RunSize {
        let is_outsize = self.lock().sizes.record(elements);
        if is_outsize {
            model.release_spare_memory();
        }
        RunSize {
            elements,
            is_outsize,
        }
    }

    /// Records the growth of the process in a run that took long enough to allocate much. Unused memory is released
    /// immediately.
    pub(super) fn record_growth(&self, model: &LoadedModel, size: &mut RunSize, time: Duration) {
        if time < MIN_MEASURED_RUN && !size.is_outsize {
            return;
        }
        let growth = self.account.growth();
        if self.lock().sizes.record_growth(size.elements, growth) {
            size.is_outsize = true;
            model.shrink();
        }
    }

    /// Ends the run of `leader`.
    pub(super) fn finish(&self, leader: Ticket, model: &Arc<LoadedModel>, size: RunSize) {
        let mut inner = self.lock();
        inner.queue.finish(leader);
        if size.is_outsize {
            // The run itself could not release the memory of its outputs.
            model.release_spare_memory();
            inner.unreleased = Unreleased::Everything;
            inner.unreleased_of = Arc::downgrade(model);
            // A worker that waits for work must wake when the executor has been idle.
            self.changed.notify_one();
        }
    }

    /// Waits for a signal, at most for `timeout`. Releases memory if the executor was idle for that time.
    pub(super) fn wait<'a>(
        &'a self,
        inner: MutexGuard<'a, Inner>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, Inner> {
        let Some(timeout) = timeout else {
            let inner = self.changed.wait(inner);
            return inner.unwrap_or_else(PoisonError::into_inner);
        };
        let waited = self.changed.wait_timeout(inner, timeout);
        let (mut inner, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out()
            && inner.unreleased == Unreleased::Everything
            && !inner.queue.has_runnable()
        {
            inner.unreleased = Unreleased::AfterNextRun;
            let model = inner.unreleased_of.upgrade();
            drop(inner);
            if let Some(model) = model {
                model.shrink();
            }
            crate::sys::release_freed_memory();
            self.account.forget_growth();
            return self.lock();
        }
        inner
    }
}
