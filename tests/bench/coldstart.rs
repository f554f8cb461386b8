//! `make bench-coldstart`: from an empty environment to the first correct response, on the lab's
//! platform.
//!
//! The sidecar as released, with its handler, is compared with other contenders in the same
//! environments. These are the tutorials' Python function, and a bare program
//! ([`bench-bare`](../bare/main.rs)) that fetches and loads, or loads only. The bare program sets
//! the lower bounds of link and ONNX Runtime. All contenders take turns, so that disturbances of
//! the machine affect them equally. Every response is compared with that of ONNX Runtime in Python.
//! After each cold start the environment is reset, and a second start in it is measured. *Snapshot*
//! is the sidecar from the restore of a snapshot of `SnapStart`, without the time that a platform
//! needs to load the snapshot.
//!
//! Times count from the call that creates the environment, sandboxes included, as seen by the
//! platform. *Ready* is the call that ends Init, of the extension or the runtime. The comparison
//! slightly favours the others: the bare program has no second process and verifies nothing, and
//! Python's modules are precompiled.
//!
//! Settings:
//! - warm: no start, but requests to a sidecar that has loaded the model, with plain and with int8 weights;
//! - loopback, directly to the lab's S3 with all CPUs;
//! - a link of 625 Mbit/s with 30 ms to the first byte and TLS, with the CPU share of 1,769 MB;
//! - a fresh host, as loopback, but with nothing of layer and function in the page cache, and reads
//!   of their files at 150 MB/s. Python's interpreter is the machine's, and not among them.

mod anonymous;
mod contenders;
mod judge;
mod models;
mod onnxruntime;
mod plot;
mod start;
mod table;
mod warm;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use lab::lambda::Limits;
use lab::link::Link;
use lab::s3::S3Server;
use lab::slow_folder::SlowFolder;

pub(crate) use contenders::is_stale;
use contenders::{BUCKET, ColdstartArtifacts, Contender, ONE_CPU_MB, Setting};
use models::Model;
use onnxruntime::OnnxRuntimeStarts;
use start::StartSample;
use warm::WarmRequests;

use crate::figures::percentile;

/// Name of the setting with files that are not in the page cache.
const FRESH_HOST: &str = "fresh-host";
/// Speed of the files on a fresh host, in bytes per second.
const FRESH_HOST_SPEED: u64 = 150_000_000;

/// All cold starts of one contender with one model in one setting.
pub(crate) struct Run<'a> {
    setting: &'a Setting,
    contender: Contender,
    model: &'a Model,
    samples: Vec<StartSample>,
}

impl Run<'_> {
    /// One value of each sample that has it.
    fn values(&self, of: impl Fn(&StartSample) -> Option<f64>) -> Vec<f64> {
        self.samples.iter().filter_map(of).collect()
    }

    /// Median of a value; `None` if no sample has it.
    fn median(&self, of: impl Fn(&StartSample) -> Option<f64>) -> Option<f64> {
        let values = self.values(of);
        (!values.is_empty()).then(|| percentile(&values, 50.0))
    }
}

/// Part of the bench to run. An empty list means all.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Selection {
    /// Settings to run, such as `link` or `warm`; goals are not judged then
    #[arg(long, value_name = "SETTING")]
    setting: Vec<String>,
    /// Models to run, such as `tabular-250mb`; goals are not judged then
    #[arg(long, value_name = "MODEL")]
    model: Vec<String>,
    /// Contenders to run, such as `int8`; goals are not judged then
    #[arg(long, value_name = "CONTENDER")]
    contender: Vec<String>,
}

impl Selection {
    fn is_all(&self) -> bool {
        self.setting.is_empty() && self.model.is_empty() && self.contender.is_empty()
    }

    fn has(list: &[String], name: &str) -> bool {
        list.is_empty() || list.iter().any(|one| one == name)
    }
}

pub(crate) async fn run(repetitions: usize, selection: &Selection) -> Result<ExitCode> {
    let started = Instant::now();
    let artifacts = ColdstartArtifacts::find()?;
    let mut models = Model::all(&artifacts.models())?;
    models.retain(|model| Selection::has(&selection.model, model.name));
    let near = Arc::new(S3Server::start().await?);
    let far = Arc::new(S3Server::start_tls().await?);
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
    let link = Link::of_environment(&far).await?;
    print_conditions(&artifacts)?;
    let warm = match models.iter().find(|model| model.name == warm::MODEL) {
        Some(model) if Selection::has(&selection.setting, warm::NAME) => {
            let warm = WarmRequests::measure(&artifacts, model, &near).await?;
            println!("\n{warm}\n");
            Some(warm)
        }
        _ => None,
    };
    let mut settings = vec![
        Setting {
            name: "loopback",
            s3: Arc::clone(&near),
            link: None,
            // Enough for two CPUs' threads.
            memory_mb: 2 * ONE_CPU_MB,
            limited: false,
            file_speed: None,
            repetitions,
        },
        Setting {
            name: "link",
            s3: far,
            link: Some(Arc::new(link)),
            memory_mb: ONE_CPU_MB,
            limited: true,
            file_speed: None,
            repetitions: repetitions.div_ceil(2),
        },
        Setting {
            name: FRESH_HOST,
            s3: near,
            link: None,
            memory_mb: 2 * ONE_CPU_MB,
            limited: false,
            file_speed: Some(FRESH_HOST_SPEED),
            repetitions,
        },
    ];
    settings.retain(|setting| Selection::has(&selection.setting, setting.name));
    if settings.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    // Some machines have no slow files. All else is measured there.
    let has_slow_files = settings.iter().any(|setting| setting.file_speed.is_some());
    if has_slow_files && let Err(why) = SlowFolder::mount(&[], FRESH_HOST_SPEED) {
        println!("The fresh host is left out: {why}.");
        settings.retain(|setting| setting.file_speed.is_none());
    }
    let starts = OnnxRuntimeStarts::measure(&artifacts)?;
    let contenders = Contender::ALL
        .into_iter()
        .filter(|one| Selection::has(&selection.contender, one.label()))
        .collect::<Vec<_>>();
    let mut runs = Vec::new();
    for setting in &settings {
        runs.extend(all(setting, &models, &contenders, &artifacts).await?);
    }
    table::print(&settings, &models, &runs);
    starts.print();
    if !selection.is_all() {
        return Ok(ExitCode::SUCCESS);
    }
    plot::draw(&runs)?;
    println!("\ntotal duration {} s", started.elapsed().as_secs());
    let mut figures = judge::figures(&artifacts, &models, &runs)?;
    starts.judge(&mut figures);
    if let Some(warm) = &warm {
        warm.judge(&mut figures);
    }
    figures.end()
}

/// Prints the conditions of the measurement.
fn print_conditions(artifacts: &ColdstartArtifacts) -> Result<()> {
    let binary = artifacts.sidecar();
    let metadata = std::fs::metadata(&binary)?;
    let age = metadata.modified()?.elapsed().unwrap_or_default().as_secs() / 60;
    println!(
        "Cold starts on this machine, {} CPUs.\n\
         The sidecar is dist/layer, built by `make layer`: {} bytes, staged {age} minutes ago{}.\n\
         The bare program is built in the same profile. S3, link and platform are the lab's, optimised as\n\
         well, and share the same CPUs.",
        std::thread::available_parallelism()?,
        metadata.len(),
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

/// Measures all contenders with all models in one setting, in turns.
async fn all<'a>(
    setting: &'a Setting,
    models: &'a [Model],
    contenders: &[Contender],
    artifacts: &ColdstartArtifacts,
) -> Result<Vec<Run<'a>>> {
    let mut runs = Vec::new();
    for model in models {
        for &contender in contenders.iter().filter(|one| setting.has(**one, model)) {
            runs.push(Run {
                setting,
                contender,
                model,
                samples: Vec::new(),
            });
        }
    }
    // An unmeasured start of each, so that files not yet in the page cache do not slow the first
    // contender alone.
    for run in runs.iter().filter(|run| run.model.name == models[0].name) {
        start::measure(setting, run.contender, run.model, artifacts).await?;
    }
    for repetition in 1..=setting.repetitions {
        println!("{}: {repetition} of {}", setting.name, setting.repetitions);
        for turn in 0..models::MAX_TURNS {
            let mut order: Vec<&mut Run<'_>> = runs
                .iter_mut()
                .filter(|run| turn < run.model.turns)
                .collect();
            // The order alternates, because what a contender leaves behind, such as dirty pages,
            // slows the next one.
            if (repetition + turn) % 2 == 0 {
                order.reverse();
            }
            for run in order {
                let sample = start::measure(setting, run.contender, run.model, artifacts).await;
                let who = run.contender.label();
                let sample = sample.with_context(|| format!("{who}, {}", run.model.name))?;
                run.samples.push(sample);
            }
        }
    }
    Ok(runs)
}
