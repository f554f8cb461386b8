//! `make bench-coldstart`: from nothing to the first right answer, on the lab's platform.
//!
//! The sidecar as it ships, with its handler, beside three contenders in the same environments:
//! the tutorials' Python function, and a bare program ([`bench-bare`](../bare/main.rs)) that
//! fetches and loads, or loads only: the floors that link and ONNX Runtime set. All are started in
//! turns, so that whatever else the machine does meets them all, and every answer is held against
//! that of ONNX Runtime in Python. After each cold start the environment is reset, and a second
//! start in it measured.
//!
//! Times count from the call that makes the environment, sandboxes included, as the platform sees
//! them: *ready* is the call that ends Init, of the extension or the runtime. The comparison
//! favours the others a little: the bare program has no second process and checks nothing, and
//! Python finds its modules compiled.
//!
//! Two settings: loopback, straight to the lab's S3 with all CPUs; and a link of 625 Mbit/s with
//! 30 ms to the first byte and TLS, on the share of a CPU that 1,769 MB buy.

mod contenders;
mod judge;
mod models;
mod plot;
mod start;
mod table;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use lab::lambda::Limits;
use lab::link::Link;
use lab::s3::S3Server;

pub(crate) use contenders::is_stale;
use contenders::{BUCKET, Contender, ONE_CPU_MB, Parts, Setting};
use models::Model;
use start::Sample;

use crate::figures::percentile;
use crate::network::{LATENCY, LINK_BYTES};

/// All cold starts of one contender with one model in one setting.
pub(crate) struct Run<'a> {
    setting: &'a Setting,
    contender: Contender,
    model: &'a Model,
    samples: Vec<Sample>,
}

impl Run<'_> {
    /// One number of each sample that has it.
    fn values(&self, of: impl Fn(&Sample) -> Option<f64>) -> Vec<f64> {
        self.samples.iter().filter_map(of).collect()
    }

    /// The median of a number; `None` where no sample has it.
    fn median(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let values = self.values(of);
        (!values.is_empty()).then(|| percentile(&values, 50.0))
    }
}

pub(crate) async fn run(repetitions: usize) -> Result<ExitCode> {
    let started = Instant::now();
    let parts = Parts::find()?;
    let models = Model::all(&parts.models())?;
    let (near, far) = (S3Server::start().await?, S3Server::start_tls().await?);
    for model in &models {
        for (key, path) in model.files() {
            let bytes = std::fs::read(&path);
            let bytes = bytes.with_context(|| format!("cannot read {}", path.display()))?;
            let bytes = Bytes::from(bytes);
            for s3 in [&near, &far] {
                s3.put(BUCKET, &key, bytes.clone());
            }
        }
    }
    let link = Link::to(([127, 0, 0, 1], far.port()).into()).await?;
    link.bandwidth(LINK_BYTES);
    link.latency(LATENCY);
    let settings = [
        Setting {
            name: "loopback",
            s3: near,
            link: None,
            // Two CPUs' worth of threads.
            memory_mb: 2 * ONE_CPU_MB,
            limited: false,
            repetitions,
        },
        Setting {
            name: "link",
            s3: far,
            link: Some(Arc::new(link)),
            memory_mb: ONE_CPU_MB,
            limited: true,
            repetitions: repetitions.div_ceil(2),
        },
    ];
    introduce(&parts)?;
    let mut runs = Vec::new();
    for setting in &settings {
        runs.extend(all(setting, &models, &parts).await?);
    }
    table::tell(&settings, &models, &runs);
    plot::draw(&runs)?;
    println!("\nall of it took {} s", started.elapsed().as_secs());
    judge::figures(&parts, &models, &runs)?.end()
}

/// Says what is measured, and what is not.
fn introduce(parts: &Parts) -> Result<()> {
    let binary = parts.sidecar();
    let about = std::fs::metadata(&binary)?;
    let age = about.modified()?.elapsed().unwrap_or_default().as_secs() / 60;
    println!(
        "Cold starts on this machine, {} CPUs.\n\
         The sidecar is dist/layer, as `make layer` builds what ships: {} bytes, laid out {age} minutes ago{}.\n\
         The bare program is built in the same profile; S3, link and platform are the lab's, optimised as\n\
         well, and take their share of the same CPUs.",
        std::thread::available_parallelism()?,
        about.len(),
        if contenders::is_stale(&binary) {
            ", OLDER THAN ITS SOURCES"
        } else {
            ""
        }
    );
    match Limits::for_memory(ONE_CPU_MB) {
        Ok(_) => println!("The link's environments have 1,769 MB and one CPU, by control groups."),
        Err(why) => println!("The link's environments have NO limits of memory and CPU: {why}."),
    }
    Ok(())
}

/// All contenders with all models in one setting, in turns.
async fn all<'a>(setting: &'a Setting, models: &'a [Model], parts: &Parts) -> Result<Vec<Run<'a>>> {
    let mut runs = Vec::new();
    for model in models {
        for contender in Contender::ALL.into_iter().filter(|one| one.takes(model)) {
            runs.push(Run {
                setting,
                contender,
                model,
                samples: Vec::new(),
            });
        }
    }
    // Files that the kernel has not read yet would meet the first alone.
    for run in runs.iter().filter(|run| run.model.name == models[0].name) {
        start::measure(setting, run.contender, run.model, parts).await?;
    }
    for repetition in 1..=setting.repetitions {
        println!("{}: {repetition} of {}", setting.name, setting.repetitions);
        for turn in 0..models::MAX_TURNS {
            let mut order: Vec<&mut Run<'_>> = runs
                .iter_mut()
                .filter(|run| turn < run.model.turns)
                .collect();
            // What one leaves behind, such as pages to be written, meets another the next time.
            if (repetition + turn) % 2 == 0 {
                order.reverse();
            }
            for run in order {
                let sample = start::measure(setting, run.contender, run.model, parts).await;
                let who = run.contender.label();
                let sample = sample.with_context(|| format!("{who}, {}", run.model.name))?;
                run.samples.push(sample);
            }
        }
    }
    Ok(runs)
}
