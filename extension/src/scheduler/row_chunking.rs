//! Requests with more rows than a model takes per run: the rows are split into several runs, and the outputs are
//! joined.
//!
//! A model with a fixed first dimension, as exported from a one-row example, takes exactly that many rows. Each run is
//! queued like any other, so that a request with many rows does not block other requests; the deadline covers the whole
//! request. The rows of a run are copied when the run begins. Its outputs are appended to the previous ones, so that
//! memory does not grow with the number of runs.
//!
//! A number of rows that is not a multiple is rejected when the request is decoded. Padding rows could only be cut off
//! if rows were independent. A fixed length of more than one does not imply that it counts independent rows.

use std::sync::Arc;

use super::{RunError, RunOutcome, Scheduler};
use crate::clock::Deadline;
use crate::engine::EngineError;
use crate::models::LoadedModel;
use crate::protocol::Decoded;
use crate::request_memory::Charge;
use crate::tensor::{Signature, Value, common_rows};

impl Scheduler {
    /// Runs `request` on `model` by `deadline`, as [`Self::run`] does, in several runs if it has more rows than the
    /// model takes per run. Then each output must have one row per row, and `charge` is charged for its memory.
    pub async fn run_rows(
        &self,
        model: Arc<LoadedModel>,
        request: Decoded,
        deadline: Deadline,
        charge: &mut Charge,
    ) -> Result<RunOutcome, RunError> {
        let Some(chunks) = RowChunks::of(model.signature(), &request) else {
            return self.run(model, request, deadline).await;
        };
        let mut outputs = JoinedOutputs::of(&chunks);
        let mut whole: Option<RunOutcome> = None;
        for start in (0..chunks.rows).step_by(chunks.batch) {
            let chunk = chunks.chunk(&request, start).ok_or_else(no_rows)?;
            let mut ran = self.run(Arc::clone(&model), chunk, deadline).await?;
            outputs.append(std::mem::take(&mut ran.outputs), charge)?;
            // An inline run does not yield to other requests.
            tokio::task::yield_now().await;
            match &mut whole {
                None => whole = Some(ran),
                Some(whole) => {
                    whole.queued += ran.queued;
                    whole.inferred += ran.inferred;
                }
            }
        }
        Ok(RunOutcome {
            outputs: outputs.joined,
            ..whole.ok_or_else(no_rows)?
        })
    }
}

fn no_rows() -> EngineError {
    EngineError::Input("the request has no rows".to_owned())
}

/// Runs of a request.
struct RowChunks {
    /// Rows of the request.
    rows: usize,
    /// Rows per run.
    batch: usize,
}

impl RowChunks {
    /// Returns the runs of a request; `None` if it needs one run, or has no common rows.
    fn of(signature: &Signature, request: &Decoded) -> Option<Self> {
        let batch = signature.fixed_batch()?;
        let is_tensor = |(_, value): &(String, Value)| matches!(value, Value::Tensor(_));
        let rows = common_rows(request.inputs.iter().map(|(_, value)| value))?;
        let fits =
            rows > batch && rows.is_multiple_of(batch) && request.inputs.iter().all(is_tensor);
        fits.then_some(Self { rows, batch })
    }

    /// Returns the request for the rows that begin at `start`.
    fn chunk(&self, request: &Decoded, start: usize) -> Option<Decoded> {
        let inputs = request.inputs.iter().map(|(name, value)| {
            let Value::Tensor(tensor) = value else {
                return None;
            };
            let rows = tensor.rows(start..start + self.batch)?;
            Some((name.clone(), Value::Tensor(rows)))
        });
        Some(Decoded {
            inputs: inputs.collect::<Option<_>>()?,
            outputs: request.outputs.clone(),
        })
    }
}

/// Joined outputs of the runs so far.
struct JoinedOutputs {
    rows: usize,
    batch: usize,
    joined: Vec<(String, Value)>,
    /// Bytes that are charged for the outputs of all runs.
    charged: usize,
    /// Bytes of the outputs so far. Exceeds `charged` if the strings of later runs are longer.
    used: usize,
}

impl JoinedOutputs {
    fn of(chunks: &RowChunks) -> Self {
        Self {
            rows: chunks.rows,
            batch: chunks.batch,
            joined: Vec::new(),
            charged: 0,
            used: 0,
        }
    }

    /// Appends the outputs of the next run. The first run charges and reserves memory for all runs; later runs charge
    /// what their strings take beyond that.
    fn append(
        &mut self,
        outputs: Vec<(String, Value)>,
        charge: &mut Charge,
    ) -> Result<(), RunError> {
        let is_first = self.joined.is_empty();
        for (index, (name, mut value)) in outputs.into_iter().enumerate() {
            let bytes = value.memory();
            let fits = if common_rows([&value]) != Some(self.batch) {
                false
            } else if is_first {
                self.charge(bytes.saturating_mul(self.rows / self.batch), charge)?;
                self.used += bytes;
                reserve(&mut value, self.rows - self.batch);
                self.joined.push((name.clone(), value));
                true
            } else {
                self.used += bytes;
                let missing = self.used.saturating_sub(self.charged);
                self.charge(missing, charge)?;
                let joined = self.joined.get_mut(index);
                joined.is_some_and(|(_, joined)| append(joined, value))
            };
            if !fits {
                let batch = self.batch;
                return Err(EngineError::Input(format!(
                    "cannot join the outputs of several runs: output {name:?} does not have one row per input row; send \
                     {batch} rows per request"
                ))
                .into());
            }
        }
        Ok(())
    }
    fn charge(&mut self, bytes: usize, charge: &mut Charge) -> Result<(), RunError> {
        charge.grow(bytes)?;
        self.charged = self.charged.saturating_add(bytes);
        Ok(())
    }
}

/// Reserves memory for this many more rows.
fn reserve(value: &mut Value, rows: usize) {
    match value {
        Value::Tensor(tensor) => tensor.reserve_rows(rows),
        Value::Sequence(values) => values.reserve_exact(rows),
        Value::Maps(maps) => maps.reserve_rows(rows),
        Value::Map { .. } => {}
    }
}

/// Appends the rows of `more`; `false` if the two differ in more than the number of rows.
fn append(all: &mut Value, more: Value) -> bool {
    match (all, more) {
        (Value::Tensor(all), Value::Tensor(more)) => all.append(&more),
        (Value::Sequence(all), Value::Sequence(more)) => {
            all.extend(more);
            true
        }
        (Value::Maps(all), Value::Maps(more)) => all.append(&more),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
