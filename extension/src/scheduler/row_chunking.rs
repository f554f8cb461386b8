//! More rows than a model takes at a time: as many runs as it needs, one answer.
//!
//! A model whose first dimension is fixed, as an exporter leaves it that was shown an example of one row, takes that many
//! rows and no other number. Each run of the loop waits for its turn like any other, so that a request of many rows does
//! not keep the others waiting; the deadline is the whole request's. The rows of a run are copied out of the request when
//! it is their turn, and those of its outputs are appended to the ones before, so that memory does not grow with the
//! number of runs. Rows that do not fill a last run are refused where the request is read: a row made up for it could be
//! cut off again only if rows have nothing to do with each other, and of a length that is fixed to more than one nobody
//! says that it counts rows that are independent.

use std::sync::Arc;

use super::{RunError, RunOutcome, Scheduler};
use crate::clock::Deadline;
use crate::engine::EngineError;
use crate::models::Loaded;
use crate::protocol::Decoded;
use crate::request_memory::Charge;
use crate::tensor::{Signature, Value, common_rows};

impl Scheduler {
    /// Runs `request` on `model` by `deadline`, as [`Self::run`] does; if it has more rows than the model takes at a time,
    /// in as many runs as that needs. Then each output must have a row for each row, and its memory is charged to
    /// `charge`.
    pub async fn run_rows(
        &self,
        model: Arc<Loaded>,
        request: Decoded,
        deadline: Deadline,
        charge: &mut Charge,
    ) -> Result<RunOutcome, RunError> {
        let Some(parts) = Parts::of(model.signature(), &request) else {
            return self.run(model, request, deadline).await;
        };
        let mut outputs = Outputs::of(&parts);
        let mut whole: Option<RunOutcome> = None;
        for start in (0..parts.rows).step_by(parts.batch) {
            let part = parts.part(&request, start).ok_or_else(no_rows)?;
            let mut ran = self.run(Arc::clone(&model), part, deadline).await?;
            outputs.append(std::mem::take(&mut ran.outputs), charge)?;
            // A run that is made at once gives other requests no chance to run.
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
    EngineError::Input("there are no rows".to_owned())
}

/// The runs that a request needs.
struct Parts {
    /// The rows of all of them.
    rows: usize,
    /// The rows of each.
    batch: usize,
}

impl Parts {
    /// The runs of a request; `None` where it is one run, or its rows cannot be told apart.
    fn of(signature: &Signature, request: &Decoded) -> Option<Self> {
        let batch = signature.fixed_batch()?;
        let is_tensor = |(_, value): &(String, Value)| matches!(value, Value::Tensor(_));
        let rows = common_rows(request.inputs.iter().map(|(_, value)| value))?;
        let fits =
            rows > batch && rows.is_multiple_of(batch) && request.inputs.iter().all(is_tensor);
        fits.then_some(Self { rows, batch })
    }

    /// The run whose rows begin at `start`.
    fn part(&self, request: &Decoded, start: usize) -> Option<Decoded> {
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

/// The outputs of the runs so far, as those of one.
struct Outputs {
    rows: usize,
    batch: usize,
    joined: Vec<(String, Value)>,
}

impl Outputs {
    fn of(parts: &Parts) -> Self {
        Self {
            rows: parts.rows,
            batch: parts.batch,
            joined: Vec::new(),
        }
    }

    /// Appends the outputs of the next run. With the first one, memory for all is charged and reserved.
    fn append(
        &mut self,
        outputs: Vec<(String, Value)>,
        charge: &mut Charge,
    ) -> Result<(), RunError> {
        let is_first = self.joined.is_empty();
        for (place, (name, mut value)) in outputs.into_iter().enumerate() {
            let fits = if common_rows([&value]) != Some(self.batch) {
                false
            } else if is_first {
                let bytes = value.memory().saturating_mul(self.rows / self.batch);
                charge.grow(bytes)?;
                reserve(&mut value, self.rows - self.batch);
                self.joined.push((name.clone(), value));
                true
            } else {
                let joined = self.joined.get_mut(place);
                joined.is_some_and(|(_, joined)| append(joined, value))
            };
            if !fits {
                let batch = self.batch;
                return Err(EngineError::Input(format!(
                    "output {name:?} does not have a row for each row, so that the model's answers to {batch} at a time \
                     cannot be put together: send {batch}"
                ))
                .into());
            }
        }
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

/// Appends the rows of `more`; `false` unless the two differ in the number of rows alone.
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
