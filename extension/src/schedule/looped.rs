//! More rows than a model takes at a time: as many runs as it needs, one answer.
//!
//! A model whose first dimension is fixed, as an exporter leaves it that was shown an example of one row, takes that many
//! rows and no other number. Each run of the loop waits for its turn like any other, so that a request of many rows does
//! not keep the others waiting; the deadline is the whole request's. Rows that do not fill a last run are refused where
//! the request is read: a row made up for it could be cut off again only if rows have nothing to do with each other, and
//! of a length that is fixed to more than one nobody says that it counts rows that are independent.

use std::sync::Arc;

use super::{Ran, RunError, Scheduler};
use crate::clock::Deadline;
use crate::engine::EngineError;
use crate::models::Loaded;
use crate::protocol::Decoded;
use crate::tensor::{Maps, Signature, Tensor, Value, common_rows};

impl Scheduler {
    /// Runs `request` on `model` by `deadline`, as [`Self::run`] does; if it has more rows than the model takes at a time,
    /// in as many runs as that needs. Then each output must have a row for each row.
    pub async fn run_rows(
        &self,
        model: Arc<Loaded>,
        request: Decoded,
        deadline: Deadline,
    ) -> Result<Ran, RunError> {
        let Some(parts) = parts(model.signature(), &request) else {
            return self.run(model, request, deadline).await;
        };
        let batch = parts.batch;
        let mut whole: Option<Ran> = None;
        let mut outputs: Vec<Vec<(String, Value)>> = Vec::with_capacity(parts.requests.len());
        for part in parts.requests {
            let mut ran = self.run(Arc::clone(&model), part, deadline).await?;
            outputs.push(std::mem::take(&mut ran.outputs));
            // A run that is made at once gives nobody else a chance meanwhile.
            tokio::task::yield_now().await;
            match &mut whole {
                None => whole = Some(ran),
                Some(whole) => {
                    whole.queued += ran.queued;
                    whole.inferred += ran.inferred;
                }
            }
        }
        let whole = whole.ok_or_else(|| EngineError::Input("there are no rows".to_owned()))?;
        Ok(Ran {
            outputs: join(outputs, batch)?,
            ..whole
        })
    }
}

struct Parts {
    /// How many rows each has.
    batch: usize,
    requests: Vec<Decoded>,
}

/// The runs that a request needs; `None` where one run does, or none can be told from the other.
fn parts(signature: &Signature, request: &Decoded) -> Option<Parts> {
    let batch = signature.fixed_batch()?;
    let all = common_rows(request.inputs.iter().map(|(_, value)| value))?;
    if all <= batch || all % batch != 0 {
        return None;
    }
    let part = |start: usize| {
        let inputs = request.inputs.iter().map(|(name, value)| {
            let Value::Tensor(tensor) = value else {
                return None;
            };
            let rows = tensor.rows(start..start + batch)?;
            Some((name.clone(), Value::Tensor(rows)))
        });
        Some(Decoded {
            inputs: inputs.collect::<Option<_>>()?,
            outputs: request.outputs.clone(),
        })
    };
    let requests = (0..all).step_by(batch).map(part).collect::<Option<_>>()?;
    Some(Parts { batch, requests })
}

/// The outputs of all runs as those of one.
fn join(
    runs: Vec<Vec<(String, Value)>>,
    batch: usize,
) -> Result<Vec<(String, Value)>, EngineError> {
    let mut columns: Vec<(String, Vec<Value>)> = Vec::new();
    for outputs in runs {
        for (place, (name, value)) in outputs.into_iter().enumerate() {
            match columns.get_mut(place) {
                Some((_, values)) => values.push(value),
                None => columns.push((name, vec![value])),
            }
        }
    }
    let joined = |(name, values): (String, Vec<Value>)| match join_values(values, batch) {
        Some(value) => Ok((name, value)),
        None => Err(EngineError::Input(format!(
            "output {name:?} does not have a row for each row, so that the model's answers to {batch} at a time cannot \
             be put together: send {batch}"
        ))),
    };
    columns.into_iter().map(joined).collect()
}

/// `None` unless each value has so many rows, and they differ in nothing else.
fn join_values(values: Vec<Value>, batch: usize) -> Option<Value> {
    if values
        .iter()
        .any(|value| common_rows([value]) != Some(batch))
    {
        return None;
    }
    let parts = values.into_iter();
    match parts.as_slice().first()? {
        Value::Tensor(_) => {
            let tensor = |value| match value {
                Value::Tensor(tensor) => Some(tensor),
                _ => None,
            };
            join_tensors(parts.map(tensor)).map(Value::Tensor)
        }
        Value::Sequence(_) => {
            let items = |value| match value {
                Value::Sequence(items) => Some(items),
                _ => None,
            };
            let items: Vec<_> = parts.map(items).collect::<Option<_>>()?;
            Some(Value::Sequence(items.concat()))
        }
        Value::Maps(first) => {
            let keys = Arc::clone(first.keys());
            let table = |value| match value {
                Value::Maps(maps) if *maps.keys() == keys => Some(maps.into_parts().1),
                _ => None,
            };
            let joined = join_tensors(parts.map(table))?;
            Maps::new(keys, joined).map(Value::Maps)
        }
        Value::Map { .. } => None,
    }
}

fn join_tensors(parts: impl Iterator<Item = Option<Tensor>>) -> Option<Tensor> {
    let tensors: Vec<Tensor> = parts.collect::<Option<_>>()?;
    Tensor::joined(&tensors.iter().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
