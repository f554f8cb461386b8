//! One model's queue, and the threads that serve it.
//!
//! A run goes to a thread that may block, so that the server answers health checks meanwhile. The threads are the
//! executor's own: handing work to one of them and back takes half as long as by the runtime's pool, and the queue is then the only
//! one there is. They start when there is work for them, and stay. What is to be done next is for the
//! [`Queue`] to say. A run that is [known to be short](inline_execution) goes to no other thread.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::batch;
use super::inline_execution::{self, InlineExecution};
use super::memory_trim::{Sizes, elements};
use super::queue::{Full, Limits, Next, Queue, Ticket, Turn, Work};
use super::{RunError, RunOutcome};
use crate::engine::{Cancel, EngineError};
use crate::models::{Loaded, RunResult};
use crate::protocol::Decoded;
use crate::request_memory::Account;
use crate::tensor::Value;

/// How long a executor is idle before what a large run took is given back without another one.
const IDLE: Duration = Duration::from_secs(1);

/// How long a run takes at least that may have made the process grow by what is worth giving back: new memory is cleared
/// by the system, some 4 MB in this time. To look takes a hundredth of it.
const LONG: Duration = Duration::from_millis(1);

/// The queue of one model.
pub(super) struct ModelExecutor {
    shared: Arc<Shared>,
}

struct Shared {
    limits: Limits,
    /// Says by how much the process has grown.
    account: Arc<Account>,
    /// Makes the builder of each thread.
    thread: fn() -> thread::Builder,
    state: Mutex<State>,
    /// There is work, or the end.
    news: Condvar,
}

struct State {
    queue: Queue<Job>,
    /// Threads that there are, and those of them that wait.
    workers: usize,
    idle: usize,
    is_closed: bool,
    sizes: Sizes,
    spare: Spare,
    /// The version whose run took what is to be given back.
    spare_of: Weak<Loaded>,
    inline_execution: InlineExecution,
}

/// What a large run took and is still to be given back to the system. The largest part goes at its end; what lies in its
/// inputs, outputs and the answer goes when they are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Spare {
    #[default]
    None,
    /// That of the answer, and what the next run gives back.
    All,
    /// What the next run gives back.
    OfRuns,
}

/// The size of a run.
#[derive(Clone, Copy, Debug)]
struct Size {
    elements: u64,
    /// Whether memory is to be given back after it.
    is_outsize: bool,
}

/// A request on its way.
struct Job {
    model: Arc<Loaded>,
    request: Decoded,
    rows: Option<usize>,
    patient_until: Instant,
    reply: oneshot::Sender<Reply>,
}

struct Reply {
    outputs: Result<Vec<(String, Value)>, RunError>,
    queued: Duration,
    inferred: Duration,
    batched_requests: usize,
    is_first: bool,
}

impl Work for Job {
    fn rows(&self) -> Option<usize> {
        self.rows
    }

    fn patient_until(&self) -> Instant {
        self.patient_until
    }

    /// Versions never share a run, also where one was loaded twice.
    fn joins(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.model, &other.model) && batch::joins(&self.request, &other.request)
    }
}

impl ModelExecutor {
    pub(super) fn new(limits: Limits, account: Arc<Account>) -> Self {
        Self::with_threads(limits, account, thread::Builder::new)
    }

    /// A executor whose threads are created by the builders that `thread` makes.
    fn with_threads(
        limits: Limits,
        account: Arc<Account>,
        thread: fn() -> thread::Builder,
    ) -> Self {
        let state = State {
            queue: Queue::new(limits),
            workers: 0,
            idle: 0,
            is_closed: false,
            sizes: Sizes::default(),
            spare: Spare::None,
            spare_of: Weak::new(),
            inline_execution: InlineExecution::default(),
        };
        Self {
            shared: Arc::new(Shared {
                limits,
                account,
                thread,
                state: Mutex::new(state),
                news: Condvar::new(),
            }),
        }
    }

    /// Waits for a turn, and runs; waits for others no longer than half of `time`. Whoever drops this before its end
    /// frees the place in the queue, or stops the run.
    pub(super) async fn run(
        &self,
        model: Arc<Loaded>,
        request: Decoded,
        time: Duration,
    ) -> Result<RunOutcome, RunError> {
        if let Some(turn) = self.shared.turn_at_once(&model, &request) {
            return self.shared.run_at_once(turn, &model, request);
        }
        let (reply, answer) = oneshot::channel();
        let limits = self.shared.limits;
        let rows = limits
            .batch
            .and_then(|_| batch::rows(model.signature(), &request));
        let now = Instant::now();
        let job = Job {
            model,
            request,
            rows,
            patient_until: now.checked_add(time / 2).unwrap_or(now),
            reply,
        };
        let mut place = Place::take(&self.shared, job, now)?;
        let answer = answer.await;
        place.is_over = true;
        let answer = answer.map_err(|_| ended_early())?;
        Ok(RunOutcome {
            outputs: answer.outputs?,
            queued: answer.queued,
            inferred: answer.inferred,
            batched_requests: answer.batched_requests,
            is_first: answer.is_first,
        })
    }
}

/// Returns what a run gave. The inputs are freed, unless it failed on them.
fn with_inputs(outputs: RunResult, request: Decoded) -> Result<Vec<(String, Value)>, RunError> {
    outputs.map_err(|error| RunError::failed(error, request))
}

/// What a mistake of our own in the middle of a run looks like.
fn ended_early() -> EngineError {
    EngineError::Thread("it ended in the middle of a run".to_owned())
}

impl Drop for ModelExecutor {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.news.notify_all();
    }
}

/// A place in the queue or in a run, for as long as somebody wants it.
struct Place {
    shared: Arc<Shared>,
    ticket: Ticket,
    is_over: bool,
}

impl Place {
    fn take(shared: &Arc<Shared>, job: Job, now: Instant) -> Result<Self, RunError> {
        let limit = shared.limits.queue;
        let mut state = shared.lock();
        let ticket = state.queue.enter(job, now);
        let ticket = ticket.map_err(|Full| RunError::Full { limit })?;
        if let Err(error) = shared.call_worker(state) {
            shared.lock().queue.leave(ticket);
            return Err(EngineError::Thread(error.to_string()).into());
        }
        Ok(Self {
            shared: Arc::clone(shared),
            ticket,
            is_over: false,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_over {
            let mut state = self.shared.lock();
            state.queue.leave(self.ticket);
            // Where a run was stopped, its turn goes to the next one.
            let _ = self.shared.call_worker(state);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn for a run that is so short that it is to be made here and now.
    fn turn_at_once(
        &self,
        model: &Arc<Loaded>,
        request: &Decoded,
    ) -> Option<(Ticket, Arc<Cancel>)> {
        let mut state = self.lock();
        // To give memory back can take longer than a run, and to wait for others is what batches are for.
        let may_be = self.limits.batch.is_none() && state.spare == Spare::None;
        if !may_be || !state.inline_execution.knows(model, &request.inputs) {
            return None;
        }
        state.queue.enter_at_once()
    }

    fn run_at_once(
        self: &Arc<Self>,
        (lead, cancel): (Ticket, Arc<Cancel>),
        model: &Arc<Loaded>,
        request: Decoded,
    ) -> Result<RunOutcome, RunError> {
        let mut size = self.notes_size(model, elements(&request.inputs));
        let started = Instant::now();
        let run = || model.run(&request.inputs, &request.outputs, &cancel);
        let outputs = std::panic::catch_unwind(AssertUnwindSafe(run));
        let inferred = started.elapsed();
        let outputs = match outputs {
            Ok(outputs) => with_inputs(outputs, request),
            Err(_) => Err(ended_early().into()),
        };
        self.notes_growth(model, &mut size, inferred);
        self.ended(lead, model, size);
        let mut state = self.lock();
        state.inline_execution.ran_here(inferred);
        // Others may have come meanwhile.
        let _ = self.call_worker(state);
        Ok(RunOutcome {
            outputs: outputs?,
            queued: Duration::ZERO,
            inferred,
            batched_requests: 1,
            is_first: true,
        })
    }

    /// Takes note of a run that is to begin, and has it give memory back at its end if it is outsize.
    fn notes_size(&self, model: &Loaded, elements: u64) -> Size {
        let is_outsize = self.lock().sizes.ran(elements);
        if is_outsize {
            model.release_spare_memory();
        }
        Size {
            elements,
            is_outsize,
        }
    }

    /// Takes note of what a run has made of the process, where it took so long that this may be much. Memory that no run
    /// uses any more is given back at once.
    fn notes_growth(&self, model: &Loaded, size: &mut Size, time: Duration) {
        if time < LONG && !size.is_outsize {
            return;
        }
        let growth = self.account.growth();
        if self.lock().sizes.grew(size.elements, growth) {
            size.is_outsize = true;
            model.shrink();
        }
    }

    fn ended(&self, lead: Ticket, model: &Arc<Loaded>, size: Size) {
        let mut state = self.lock();
        state.queue.ended(lead);
        if size.is_outsize {
            // What the outputs lie in could not be given back by the run itself.
            model.release_spare_memory();
            state.spare = Spare::All;
            state.spare_of = Arc::downgrade(model);
            // Who waits for work is to wait no longer than until the executor is idle.
            self.news.notify_one();
        }
    }

    /// Waits for news, or until `patience` is over. A executor that is idle for so long gives memory back.
    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        patience: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        let Some(patience) = patience else {
            let state = self.news.wait(state);
            return state.unwrap_or_else(PoisonError::into_inner);
        };
        let waited = self.news.wait_timeout(state, patience);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() && state.spare == Spare::All && !state.queue.has_work() {
            state.spare = Spare::OfRuns;
            let model = state.spare_of.upgrade();
            drop(state);
            if let Some(model) = model {
                model.shrink();
            }
            crate::sys::release_freed_memory();
            let _ = self.account.growth();
            return self.lock();
        }
        state
    }

    /// Sees to it that a thread takes what there is to do. Fails only when there is none at all.
    fn call_worker(self: &Arc<Self>, mut state: MutexGuard<'_, State>) -> std::io::Result<()> {
        if !state.queue.has_work() {
            return Ok(());
        }
        if state.idle > 0 {
            // One that wakes while the state is locked goes back to sleep.
            drop(state);
            self.news.notify_one();
            return Ok(());
        }
        // As many again may be in runs that nobody wants any more.
        if state.workers >= 2 * self.limits.runs {
            return Ok(());
        }
        // The worker begins inside the thread. Its end locks the state, which is locked here: a closure that is dropped
        // because no thread could be created must not hold one.
        let shared = Arc::clone(self);
        let thread = (self.thread)().name("run-model".to_owned());
        match thread.spawn(move || Worker(shared).work()) {
            Ok(_) => state.workers += 1,
            Err(error) if state.workers == 0 => return Err(error),
            Err(error) => tracing::warn!("no further thread for runs: {error}"),
        }
        Ok(())
    }
}

/// A thread that runs what it is given.
struct Worker(Arc<Shared>);

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.lock().workers -= 1;
    }
}

impl Worker {
    fn work(&self) {
        let mut state = self.0.lock();
        loop {
            let patience = match state.queue.next(Instant::now()) {
                Next::Run(turn) => {
                    let spare = std::mem::take(&mut state.spare);
                    // Whoever takes work sees to it that the rest is taken, too.
                    let _ = self.0.call_worker(state);
                    let lead = turn.lead();
                    // What panics in ONNX Runtime's bindings is an error already; a mistake of our own must not take the
                    // turn with it. Whoever waits for the run learns that there will be no reply.
                    let run = AssertUnwindSafe(|| self.run(turn));
                    if std::panic::catch_unwind(run).is_err() {
                        self.0.lock().queue.ended(lead);
                    }
                    if spare != Spare::None {
                        crate::sys::release_freed_memory();
                    }
                    state = self.0.lock();
                    continue;
                }
                Next::At(time) => Some(time.saturating_duration_since(Instant::now())),
                Next::Nothing if state.is_closed => return,
                Next::Nothing => (state.spare == Spare::All).then_some(IDLE),
            };
            state.idle += 1;
            state = self.0.wait(state, patience);
            state.idle -= 1;
        }
    }

    fn run(&self, turn: Turn<Job>) {
        if turn.members.len() > 1 {
            self.run_together(turn);
        } else {
            self.run_one(turn);
        }
    }

    fn run_one(&self, mut turn: Turn<Job>) {
        let Some(member) = turn.members.pop() else {
            return;
        };
        let since = member.since;
        let Job {
            model,
            request,
            reply,
            ..
        } = member.work;
        let mut size = self.0.notes_size(&model, elements(&request.inputs));
        let shapes = inline_execution::shapes(&model, &request.inputs);
        let started = Instant::now();
        let outputs = model.run(&request.inputs, &request.outputs, &turn.cancel);
        let inferred = started.elapsed();
        let outputs = with_inputs(outputs, request);
        if outputs.is_ok() {
            self.0.lock().inline_execution.ran(&model, shapes, inferred);
        }
        self.0.notes_growth(&model, &mut size, inferred);
        self.0.ended(turn.lead(), &model, size);
        // Whoever has the answer finds that nobody else has the version.
        drop(model);
        let _ = reply.send(Reply {
            outputs,
            queued: started - since,
            inferred,
            batched_requests: 1,
            is_first: true,
        });
    }

    /// Gives each member its part of one run. Where that is not to be had, each gets a run of its own: what one of them
    /// sent must not be the others' error.
    fn run_together(&self, turn: Turn<Job>) {
        let requests: Vec<&Decoded> = turn.members.iter().map(|one| &one.work.request).collect();
        let rows: Option<Vec<usize>> = turn.members.iter().map(|one| one.work.rows).collect();
        let (Some(inputs), Some(rows)) = (batch::join(&requests), rows) else {
            return self.0.lock().queue.retry(turn);
        };
        let (model, outputs) = (
            Arc::clone(&turn.members[0].work.model),
            &requests[0].outputs,
        );
        let mut size = self.0.notes_size(&model, elements(&inputs));
        let started = Instant::now();
        let outputs = model.run(&inputs, outputs, &turn.cancel);
        let inferred = started.elapsed();
        drop(inputs);
        if let Err(error) = &outputs {
            tracing::debug!("a run of {} requests together failed: {error}", rows.len());
        }
        let Some(parts) = outputs
            .ok()
            .and_then(|outputs| batch::split(outputs, &rows))
        else {
            return self.0.lock().queue.retry(turn);
        };
        self.0.notes_growth(&model, &mut size, inferred);
        self.0.ended(turn.lead(), &model, size);
        drop(model);
        let mut is_untold = true;
        for (member, outputs) in turn.members.into_iter().zip(parts) {
            let Job { model, reply, .. } = member.work;
            drop(model);
            // The one who tells of the run is one who is still there.
            let is_first = is_untold && !reply.is_closed();
            is_untold &= !is_first;
            let _ = reply.send(Reply {
                outputs: Ok(outputs),
                queued: started - member.since,
                inferred,
                batched_requests: rows.len(),
                is_first,
            });
        }
    }
}

#[cfg(test)]
mod tests;
