//! Models in one environment: time until all are ready, memory, and the latency of one of them.

use std::time::Instant;

use anyhow::Result;

use super::python::Python;
use super::{Series, float, show};
use crate::chart::Charts;
use crate::figures::{Figures, milliseconds, percentile};
use crate::inference::client::Client;
use crate::inference::contenders::{self, InferenceArtifacts};
use crate::inference::subject::Subject;
use lab::soak::usage::Usage;

const SIZES: [usize; 6] = [1, 2, 5, 10, 20, 50];
const CALLS: usize = 1_000;

pub(super) async fn measure(
    artifacts: &InferenceArtifacts,
    subject: &Subject,
    figures: &mut Figures,
    charts: &mut Charts,
) -> Result<()> {
    let new = || [Series::of("sidecar"), Series::of("ONNX Runtime in Python")];
    let (mut starts, mut memory) = (new(), new());
    let mut latency = Series::of("sidecar");
    for models in SIZES {
        let copies: Vec<(String, &Subject)> = (0..models)
            .map(|place| (format!("small-{place}"), subject))
            .collect();
        let started = Instant::now();
        let sidecar = contenders::sidecar_with(artifacts, &copies).await?;
        starts[0]
            .points
            .push((models, milliseconds(started.elapsed())));
        let request = subject.plain("/models/small-0/predict");
        let times = tokio::task::block_in_place(|| {
            let mut client = Client::connect(&sidecar.addresses[0])?;
            let answer = client.ask(&request)?;
            subject.check(answer)?;
            let mut times = Vec::with_capacity(CALLS);
            for _ in 0..CALLS {
                let sent = Instant::now();
                client.ask(&request)?;
                times.push(sent.elapsed().as_secs_f64() * 1e6);
            }
            anyhow::Ok(times)
        })?;
        latency.points.push((models, percentile(&times, 50.0)));
        memory[0].points.push((
            models,
            f64::from(Usage::of(sidecar.process.pid())?.resident),
        ));
        drop(sidecar);
        let started = Instant::now();
        let mut python = Python::start(artifacts, subject)?;
        python.load(models)?;
        starts[1]
            .points
            .push((models, milliseconds(started.elapsed())));
        memory[1]
            .points
            .push((models, f64::from(Usage::of(python.pid())?.resident)));
    }
    for place in [0, 1] {
        let per_model = (memory[place].at(50) - memory[place].at(1)) / float(49);
        let name = format!("models: memory of one more, {}", memory[place].contender);
        figures.add(name, per_model, "KB");
    }
    figures.add(
        "models: start with 50, of ONNX Runtime in Python",
        starts[0].at(50) / starts[1].at(50),
        "×",
    );
    figures.add(
        "models: p50 of one with 50, of p50 with 1",
        latency.at(50) / latency.at(1),
        "×",
    );
    show(charts, "time to ready in milliseconds", "models", &starts);
    show(charts, "resident memory in KB", "models", &memory);
    show(charts, "p50 in microseconds", "models", &[latency]);
    Ok(())
}
