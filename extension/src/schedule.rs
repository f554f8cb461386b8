//! When a request's run gets its turn, and what stops it.
//!
//! A session runs one request at a time; the others wait, each no longer than its deadline allows. A run goes
//! to a thread that may block, so that the server answers health checks meanwhile. A request whose deadline
//! passes, or whose caller goes away, has its run stopped inside ONNX Runtime at the next node of the graph;
//! until it has ended, it keeps its turn. Deadlines are the wall clock's, so that a freeze neither hides one nor
//! brings one forward.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::clock::{Clock, Deadline, Thaws};
use crate::engine::{Cancel, EngineError};
use crate::ids::ModelName;
use crate::models::Loaded;
use crate::protocol::Decoded;
use crate::tensor::Value;

/// Gives runs their turn.
pub struct Scheduler {
    turns: BTreeMap<ModelName, Arc<Semaphore>>,
    clock: Arc<dyn Clock>,
    thaws: Thaws,
}

/// A run that came to its end.
#[derive(Debug)]
pub struct Ran {
    /// The outputs.
    pub outputs: Vec<(String, Value)>,
    /// How long the request waited for its turn.
    pub queued: Duration,
    /// How long the model ran.
    pub inferred: Duration,
}

/// Why there are no outputs.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The deadline came first.
    #[error("the deadline passed before the model had answered")]
    Deadline,
    /// The model or its engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Stops a run when the request that wants it is dropped.
struct CancelOnDrop(Arc<Cancel>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Scheduler {
    /// A scheduler for these models.
    #[must_use]
    pub fn new(
        models: impl IntoIterator<Item = ModelName>,
        clock: Arc<dyn Clock>,
        thaws: Thaws,
    ) -> Self {
        Self {
            turns: models
                .into_iter()
                .map(|name| (name, Arc::new(Semaphore::new(1))))
                .collect(),
            clock,
            thaws,
        }
    }

    /// Runs `request` on `model`, by `deadline`.
    pub async fn run(
        &self,
        model: Arc<Loaded>,
        request: Decoded,
        deadline: Deadline,
    ) -> Result<Ran, RunError> {
        let run = self.run_unbounded(model, request);
        let run = self.thaws.within(&*self.clock, deadline, run);
        run.await.unwrap_or(Err(RunError::Deadline))
    }

    async fn run_unbounded(&self, model: Arc<Loaded>, request: Decoded) -> Result<Ran, RunError> {
        let waiting = Instant::now();
        let turn = match self.turns.get(&model.name) {
            Some(turns) => Arc::clone(turns).acquire_owned().await.ok(),
            None => None,
        };
        let queued = waiting.elapsed();
        let guard = CancelOnDrop(Arc::default());
        let cancel = Arc::clone(&guard.0);
        let run = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let result = model.run(request.inputs, &request.outputs, &cancel);
            drop(turn);
            (result, started.elapsed())
        });
        let (outputs, inferred) = run
            .await
            .map_err(|error| EngineError::Thread(error.to_string()))?;
        Ok(Ran {
            outputs: outputs?,
            queued,
            inferred,
        })
    }
}

#[cfg(test)]
pub(crate) mod stub;
#[cfg(test)]
mod tests;
