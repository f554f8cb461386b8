//! Worker threads of an executor.
//!
//! A worker takes a batch from the queue, runs it, and sends the results. Workers start when there is work for them,
//! and stay until the executor is dropped.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use super::state::{ExecutorState, InferenceJob, Inner, JobResult, Unreleased};
use super::with_request;
use crate::protocol::Decoded;
use crate::scheduler::memory_trim::elements;
use crate::scheduler::queue::{Batch, NextStep};
use crate::scheduler::{batch, inline_execution};

/// Idle time after which the memory of a large run is released without another run.
const IDLE: Duration = Duration::from_secs(1);

/// Wakes or starts a worker for runnable work. Fails only if the executor has no worker at all.
pub(super) fn wake(
    state: &Arc<ExecutorState>,
    mut inner: MutexGuard<'_, Inner>,
) -> std::io::Result<()> {
    if !inner.queue.has_runnable() {
        return Ok(());
    }
    if inner.idle > 0 {
        // Unlock first: a worker that wakes while the state is locked would sleep again.
        drop(inner);
        state.changed.notify_one();
        return Ok(());
    }
    // As many workers again may be in abandoned runs.
    if inner.workers >= 2 * state.limits.runs {
        return Ok(());
    }
    // The worker is created inside the thread. Its end locks the state, which is locked here. So a closure that is
    // dropped because no thread could be created must not hold a worker.
    let shared = Arc::clone(state);
    let thread = (state.thread)().name("run-model".to_owned());
    match thread.spawn(move || Worker(shared).work()) {
        Ok(_) => inner.workers += 1,
        Err(error) if inner.workers == 0 => return Err(error),
        Err(error) => tracing::warn!("cannot start another thread for runs: {error}"),
    }
    Ok(())
}

/// A worker thread.
struct Worker(Arc<ExecutorState>);

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.lock().workers -= 1;
    }
}

impl Worker {
    fn work(&self) {
        let mut inner = self.0.lock();
        loop {
            let timeout = match inner.queue.next(Instant::now()) {
                NextStep::Run(batch) => {
                    let unreleased = std::mem::take(&mut inner.unreleased);
                    // Another worker takes the remaining work.
                    let _ = wake(&self.0, inner);
                    let leader = batch.leader();
                    // A panic in ONNX Runtime's bindings is an error already; a panic here must release the run slot.
                    // The dropped sender tells the request that there will be no result.
                    let run = AssertUnwindSafe(|| self.run(batch));
                    if std::panic::catch_unwind(run).is_err() {
                        self.0.lock().queue.finish(leader);
                    }
                    if unreleased != Unreleased::Nothing {
                        crate::sys::release_freed_memory();
                    }
                    inner = self.0.lock();
                    continue;
                }
                NextStep::WaitUntil(time) => Some(time.saturating_duration_since(Instant::now())),
                NextStep::Idle if inner.is_closed => return,
                NextStep::Idle => (inner.unreleased == Unreleased::Everything).then_some(IDLE),
            };
            inner.idle += 1;
            inner = self.0.wait(inner, timeout);
            inner.idle -= 1;
        }
    }

    fn run(&self, batch: Batch<InferenceJob>) {
        if batch.members.len() > 1 {
            self.run_batch(batch);
        } else {
            self.run_single(batch);
        }
    }

    fn run_single(&self, mut batch: Batch<InferenceJob>) {
        let Some(member) = batch.members.pop() else {
            return;
        };
        let since = member.since;
        let InferenceJob {
            model,
            request,
            reply,
            ..
        } = member.work;
        let mut size = self.0.record_start(&model, elements(&request.inputs));
        let shapes = inline_execution::shapes(&model, &request.inputs);
        let started = Instant::now();
        let outputs = model.run(&request.inputs, &request.outputs, &batch.cancel);
        let inferred = started.elapsed();
        let outputs = with_request(outputs, request);
        if outputs.is_ok() {
            let mut inner = self.0.lock();
            inner.inline_execution.record(&model, shapes, inferred);
        }
        self.0.record_growth(&model, &mut size, inferred);
        self.0.finish(batch.leader(), &model, size);
        // Dropped first: a request with its result no longer holds the version.
        drop(model);
        let _ = reply.send(JobResult {
            outputs,
            queued: started - since,
            inferred,
            batched_requests: 1,
            is_first: true,
        });
    }

    /// Runs several requests as one. If the joined run fails, each request gets a run of its own, so that one request's
    /// inputs do not fail the others.
    fn run_batch(&self, batch: Batch<InferenceJob>) {
        let requests: Vec<&Decoded> = batch.members.iter().map(|one| &one.work.request).collect();
        let rows: Option<Vec<usize>> = batch.members.iter().map(|one| one.work.rows).collect();
        let (Some(inputs), Some(rows)) = (batch::join(&requests), rows) else {
            return self.0.lock().queue.retry_individually(batch);
        };
        let (model, outputs) = (
            Arc::clone(&batch.members[0].work.model),
            &requests[0].outputs,
        );
        let mut size = self.0.record_start(&model, elements(&inputs));
        let started = Instant::now();
        let outputs = model.run(&inputs, outputs, &batch.cancel);
        let inferred = started.elapsed();
        drop(inputs);
        if let Err(error) = &outputs {
            tracing::debug!("a batch of {} requests failed: {error}", rows.len());
        }
        let Some(parts) = outputs
            .ok()
            .and_then(|outputs| batch::split(outputs, &rows))
        else {
            return self.0.lock().queue.retry_individually(batch);
        };
        self.0.record_growth(&model, &mut size, inferred);
        self.0.finish(batch.leader(), &model, size);
        drop(model);
        let mut is_unreported = true;
        for (member, outputs) in batch.members.into_iter().zip(parts) {
            let InferenceJob { model, reply, .. } = member.work;
            drop(model);
            // The first request that still waits reports the run.
            let is_first = is_unreported && !reply.is_closed();
            is_unreported &= !is_first;
            let _ = reply.send(JobResult {
                outputs: Ok(outputs),
                queued: started - member.since,
                inferred,
                batched_requests: rows.len(),
                is_first,
            });
        }
    }
}
