//! Replay of failed inputs on the version to which a model may be rolled back.
//!
//! The inputs run on the thread that has loaded the session, before a request can reach it. Each run has a time
//! limit, and so have all runs together; their memory is released afterwards. A run that is cut short proves nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::engine::{Cancel, EngineError, Session};
use crate::reload::Memory;
use crate::reload::timed_run::run_within;
use crate::rollback::{Evidence, FailedInput, Replayed};

/// Maximum duration of one run.
const MAX_RUN_TIME: Duration = Duration::from_secs(5);
/// Maximum duration of all runs.
const MAX_TIME: Duration = Duration::from_secs(10);
/// Memory that must be free for a run, apart from its inputs.
const MIN_FREE: u64 = 16 << 20;
/// Memory that must be free for each byte of input.
const FREE_PER_BYTE: u64 = 8;

/// Replay for one load.
pub(super) struct Replay {
    evidence: Evidence,
    in_place: bool,
    memory: Arc<Memory>,
    begins: Box<dyn FnOnce() + Send>,
    runtime: Handle,
}

/// Session to activate, and the reason for a rollback; or the result of each input, where the session is dropped.
pub(super) type ReplayDecision = Result<(Box<dyn Session>, Option<String>), Vec<Replayed>>;

impl Replay {
    /// Returns a replay of the evidence's inputs. `in_place`: no other version is in memory. `begins` is called
    /// before the first run. Must be called inside a Tokio runtime.
    pub(super) fn new(
        evidence: Evidence,
        in_place: bool,
        memory: Arc<Memory>,
        begins: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self {
            evidence,
            in_place,
            memory,
            begins: Box::new(begins),
            runtime: Handle::current(),
        }
    }

    /// Runs the inputs, and decides by the results. Must be called on a thread that may block.
    pub(super) fn decide(self, session: Box<dyn Session>) -> ReplayDecision {
        let Self {
            evidence,
            in_place,
            memory,
            begins,
            runtime,
        } = self;
        begins();
        let inputs = replay(&*session, &evidence.inputs, &memory, &runtime);
        if evidence.confirms(&inputs, in_place) {
            return Ok((session, Some(evidence.reason(&inputs))));
        }
        drop(session);
        crate::sys::release_freed_memory();
        Err(inputs)
    }
}

/// Runs each input once. A repeated input has the result of its first run.
fn replay(
    session: &dyn Session,
    inputs: &[Arc<FailedInput>],
    memory: &Memory,
    runtime: &Handle,
) -> Vec<Replayed> {
    let started = std::time::Instant::now();
    let mut results: Vec<Replayed> = Vec::with_capacity(inputs.len());
    for (position, input) in inputs.iter().enumerate() {
        let same = inputs[..position]
            .iter()
            .position(|other| Arc::ptr_eq(other, input));
        let result = match same {
            Some(same) => results[same],
            None if started.elapsed() > MAX_TIME || !has_memory_for(input, memory) => {
                Replayed::Unknown
            }
            None => run(session, input, runtime),
        };
        results.push(result);
    }
    results
}

fn has_memory_for(input: &FailedInput, memory: &Memory) -> bool {
    let bytes: usize = input.inputs.iter().map(|(_, value)| value.bytes()).sum();
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let needed = bytes.saturating_mul(FREE_PER_BYTE).saturating_add(MIN_FREE);
    memory.probe.free().is_none_or(|free| free >= needed)
}

fn run(session: &dyn Session, input: &FailedInput, runtime: &Handle) -> Replayed {
    session.release_spare_memory();
    let run = |cancel: &Cancel| session.run(&input.inputs, &input.outputs, cancel);
    match run_within(MAX_RUN_TIME, runtime, run) {
        Ok(_) => Replayed::Succeeded,
        Err(EngineError::Cancelled) => Replayed::Unknown,
        Err(error) if error.is_out_of_memory() => Replayed::Unknown,
        Err(_) => Replayed::Failed,
    }
}
