//! Fixtures: a model of rows, limits, and a gate for its runs.

use std::sync::{Condvar, Mutex};

use super::*;
use crate::engine::Cancel;
use crate::models::RunResult;
use crate::tensor::{Data, Datatype, Kind, Port, Signature, Tensor};

pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn limits(runs: usize, queue: usize) -> ExecutorLimits {
    ExecutorLimits {
        runs,
        queue,
        batch: None,
    }
}

pub(super) fn joining(runs: usize, rows: usize, delay: Duration) -> ExecutorLimits {
    ExecutorLimits {
        batch: Some(Batching { rows, delay }),
        ..limits(runs, 100)
    }
}

/// A gate at which runs wait until it is opened.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    /// Called by a run.
    pub(super) fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(_, open)| !*open).unwrap());
    }

    pub(super) fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    /// Waits until `count` runs have reached the gate, without blocking the runtime.
    pub(super) async fn reached(self: &Arc<Self>, runs: usize) {
        let gate = Arc::clone(self);
        let wait = tokio::task::spawn_blocking(move || {
            let state = gate.state.lock().unwrap();
            let wait = gate
                .changed
                .wait_timeout_while(state, TIMEOUT, |(come, _)| *come < runs);
            assert!(!wait.unwrap().1.timed_out(), "no {runs} runs");
        });
        wait.await.unwrap();
    }
}

/// Returns a model that maps rows of floats to rows of floats with `run`.
pub(super) fn rows_in_rows_out(
    bench: &SchedulerBench,
    run: impl Fn(&[f32], &Cancel) -> Result<Vec<f32>, EngineError> + Send + Sync + 'static,
) -> Arc<LoadedModel> {
    of_rows(bench, false, run)
}

/// Returns such a model with or without fixed work.
pub(super) fn of_rows(
    bench: &SchedulerBench,
    has_fixed_work: bool,
    run: impl Fn(&[f32], &Cancel) -> Result<Vec<f32>, EngineError> + Send + Sync + 'static,
) -> Arc<LoadedModel> {
    let port = |name: &str| Port {
        name: name.to_owned(),
        kind: Kind::Tensor {
            datatype: Datatype::Fp32,
            shape: vec![None],
        },
    };
    let signature = Signature {
        inputs: vec![port("x")],
        outputs: vec![port("y")],
    };
    let run = move |inputs: Vec<(String, Value)>, cancel: &Cancel| -> RunResult {
        let Value::Tensor(x) = &inputs[0].1 else {
            panic!("{inputs:?}")
        };
        let Data::Fp32(x) = x.data() else {
            panic!("{x:?}")
        };
        let y = run(x, cancel)?;
        let y = Tensor::new(vec![y.len()], y).unwrap();
        Ok(vec![("y".to_owned(), Value::Tensor(y))])
    };
    Arc::new(crate::models::stub::with_signature(
        &bench.name,
        "1",
        signature,
        has_fixed_work,
        run,
    ))
}

pub(super) fn request(rows: &[f32]) -> Decoded {
    let x = Tensor::new(vec![rows.len()], rows.to_vec()).unwrap();
    Decoded {
        inputs: vec![("x".to_owned(), Value::Tensor(x))],
        outputs: Vec::new(),
    }
}

pub(super) fn rows(ran: &RunOutcome) -> Vec<f32> {
    let Value::Tensor(y) = &ran.outputs[0].1 else {
        panic!("{ran:?}")
    };
    let Data::Fp32(y) = y.data() else {
        panic!("{y:?}")
    };
    y[..].to_vec()
}

impl SchedulerBench {
    pub(super) async fn ask(
        &self,
        model: &Arc<LoadedModel>,
        rows: impl AsRef<[f32]>,
    ) -> Result<RunOutcome, RunError> {
        let (rows, deadline) = (rows.as_ref(), self.deadline_in(TIMEOUT));
        let run = self
            .scheduler
            .run(Arc::clone(model), request(rows), deadline);
        run.await
    }
}
