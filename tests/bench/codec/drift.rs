//! Time that a request spends on the drift of its version: one row of 256 inputs and 3 outputs, with 10 bins each.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use model_sidecar::drift::DriftWindow;
use model_sidecar::manifest::{Baseline, Observed};
use model_sidecar::tensor::{Datatype, Kind, Port, Signature, Tensor, Value};

/// Number of inputs: the most that a baseline describes.
const FEATURES: u16 = 256;
const OUTPUTS: u16 = 3;
const REPETITIONS: usize = 20_001;

/// Measures requests whose inputs are the columns of one tensor, and requests with a tensor for each input.
pub(crate) fn measure() -> Result<[Vec<Duration>; 2]> {
    Ok([times(false)?, times(true)?])
}

fn times(separate: bool) -> Result<Vec<Duration>> {
    let input = |feature: u16| {
        if separate {
            format!("feature_{feature}")
        } else {
            "X".to_owned()
        }
    };
    let inputs = (0..FEATURES).map(|feature| {
        let column = if separate { 0 } else { feature };
        histogram(Observed::Input(input(feature)), column)
    });
    let outputs = (0..OUTPUTS).map(|class| histogram(Observed::Output("y".to_owned()), class));
    let baseline: Vec<Baseline> = inputs.chain(outputs).collect();
    let signature = Signature {
        inputs: if separate {
            (0..FEATURES)
                .map(|feature| port(&input(feature), 1))
                .collect()
        } else {
            vec![port("X", FEATURES)]
        },
        outputs: vec![port("y", OUTPUTS)],
    };
    let window = DriftWindow::new(&baseline, 1, &signature, 7).context("a baseline")?;
    anyhow::ensure!(window.mismatches().is_empty(), "{:?}", window.mismatches());
    let mut times = Vec::with_capacity(REPETITIONS);
    for number in 0..REPETITIONS {
        let value =
            |feature: u16| f32::from(u16::try_from(number % 997).unwrap_or(0) ^ feature) / 1024.0;
        let row: Vec<f32> = (0..FEATURES).map(value).collect();
        let inputs = if separate {
            (0..FEATURES)
                .map(|feature| named(&input(feature), &[value(feature)]))
                .collect::<Result<Vec<_>>>()?
        } else {
            vec![named("X", &row)?]
        };
        let outputs = vec![named("y", &row[..usize::from(OUTPUTS)])?];
        let started = Instant::now();
        let mut sampled = window.sample_inputs(black_box(&inputs));
        window.sample_outputs(black_box(&outputs), &mut sampled);
        window.count(&sampled);
        drop(sampled);
        times.push(started.elapsed());
    }
    let report = window.report().context("enough rows")?;
    anyhow::ensure!(
        report.inputs.len() == usize::from(FEATURES),
        "every input is counted"
    );
    Ok(times)
}

fn histogram(of: Observed, column: u16) -> Baseline {
    Baseline {
        of,
        column: Some(column.into()),
        edges: (0..=10).map(|tenth| f64::from(tenth) / 10.0).collect(),
        counts: vec![100; 10],
        nulls: 0,
    }
}

fn port(name: &str, columns: u16) -> Port {
    Port {
        name: name.to_owned(),
        kind: Kind::Tensor {
            datatype: Datatype::Fp32,
            shape: vec![None, Some(columns.into())],
        },
    }
}

/// A tensor of one row.
fn named(name: &str, row: &[f32]) -> Result<(String, Value)> {
    let tensor = Tensor::new(vec![1, row.len()], row.to_vec());
    let tensor = tensor.map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok((name.to_owned(), Value::Tensor(tensor)))
}
