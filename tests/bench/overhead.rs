//! `make bench-overhead`: time that a request takes longer with every metric on.
//!
//! The released sidecar serves the wine model from the lab's S3, in three processes. The first and the last one have
//! no metrics. The second one has every metric, and the drift of 13 features and the label. All three take turns of a
//! few hundred requests, over the Unix socket. Processes differ by a few percent, so each round starts new ones; the
//! third process shows that noise. The result is the median of the rounds' differences.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lab::cloudwatch::{CloudWatch, Filter};
use lab::reference::WINE;
use lab::s3::S3Server;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::chart::{Charts, Line};
use crate::figures::{Figures, Goal, float, percentile};
use crate::inference::client;
use crate::turns::{MeasuredSidecar, Turns};

const BUCKET: &str = "models";
const KEY: &str = "wine/1/model.onnx";
const PLAIN: &str = "wine/manifest.json";
const WITH_BASELINE: &str = "wine/baseline.json";
/// Rounds, each with new processes.
const ROUNDS: usize = 9;
/// Requests of a turn.
const TURN: usize = 250;
/// Bins of each histogram.
const BINS: usize = 10;
/// Maximum time that the metrics add to a request, in microseconds.
const ADDED: f64 = 15.0;

/// Kind of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    Off,
    On,
}

/// Processes of a round.
const SETTINGS: [Setting; 3] = [Setting::Off, Setting::On, Setting::Off];

/// Runs the bench with this many requests to each process.
pub(crate) async fn run(requests: usize) -> Result<ExitCode> {
    let begun = Instant::now();
    println!(
        "Added time of metrics, {ROUNDS} rounds of {requests} requests to each process; dist/layer of {} bytes, on this machine.",
        sidecar()?.metadata()?.len()
    );
    let s3 = S3Server::start().await?;
    publish(&s3)?;
    let cloudwatch = CloudWatch::start().await?;
    let request = request();
    let turns = Turns {
        unmeasured: 4 * TURN,
        count: requests.div_ceil(TURN),
        requests: TURN,
    };
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut measured = Vec::new();
        for setting in SETTINGS {
            let mut one = start(setting, &s3, &cloudwatch).await?;
            let problem = WINE.v1.differs(&one.response(&request)?, 0..1);
            ensure!(problem.is_none(), "{problem:?}");
            measured.push(one);
        }
        tokio::task::block_in_place(|| turns.take(&mut measured, &request))?;
        let mut medians = Vec::new();
        for one in measured {
            let microseconds = one.end().await?;
            medians.push([50.0, 99.0].map(|percent| percentile(&microseconds, percent)));
        }
        rounds.push(medians);
    }
    check_delivered(&cloudwatch, requests)?;
    draw(&rounds)?;
    println!("total duration {:.0} s", begun.elapsed().as_secs_f64());
    figures(&rounds).end()
}

/// Draws the medians of the processes by round.
fn draw(rounds: &[Vec<[f64; 2]>]) -> Result<()> {
    let mut charts = Charts::new();
    for (percentile, title) in [
        "p50 in microseconds by round",
        "p99 in microseconds by round",
    ]
    .into_iter()
    .enumerate()
    {
        let of = |process: usize| -> Vec<(f64, f64)> {
            let rounds = rounds.iter().enumerate();
            rounds
                .map(|(place, round)| (float(place + 1), round[process][percentile]))
                .collect()
        };
        let [off, on, again] = [of(0), of(1), of(2)];
        let most = [&off, &on, &again].into_iter().flatten();
        let most = most.map(|point| point.1).fold(0.0, f64::max);
        let lines = [
            ("#8a8f98", "without metrics", &off),
            ("#1b7f5c", "with every metric and drift", &on),
            ("#c5c8cc", "without metrics, again", &again),
        ];
        let lines = lines.map(|(colour, name, points)| Line {
            colour,
            name,
            points,
        });
        charts.add(title, [float(rounds.len()), most], &lines);
    }
    charts.write("overhead")
}

fn figures(rounds: &[Vec<[f64; 2]>]) -> Figures {
    let median = |of: &dyn Fn(&[[f64; 2]]) -> f64| {
        let values: Vec<f64> = rounds.iter().map(|round| of(round)).collect();
        percentile(&values, 50.0)
    };
    let mut figures = Figures::of("overhead");
    for (place, percent) in ["p50", "p99"].into_iter().enumerate() {
        let off = |round: &[[f64; 2]]| f64::midpoint(round[0][place], round[2][place]);
        let on = |round: &[[f64; 2]]| round[1][place];
        figures.add(format!("{percent} without metrics"), median(&off), "µs");
        figures.add(
            format!("{percent} with every metric and drift"),
            median(&on),
            "µs",
        );
        let added = median(&|round| on(round) - off(round));
        let name = format!("{percent} added");
        if percent == "p50" {
            figures.add_with_goal(name, added, "µs", Goal::AtMost(ADDED));
        } else {
            figures.add(name, added, "µs");
        }
        let ratio = median(&|round| on(round) / off(round));
        figures.add(format!("{percent} with metrics over without"), ratio, "×");
        let noise = median(&|round| (round[0][place] - round[2][place]).abs());
        figures.add(
            format!("{percent}: difference of two processes without metrics"),
            noise,
            "µs",
        );
    }
    figures
}

async fn start(
    setting: Setting,
    s3: &S3Server,
    cloudwatch: &CloudWatch,
) -> Result<MeasuredSidecar> {
    let (manifest, metrics, sample) = match setting {
        Setting::Off => (PLAIN, "none", "0"),
        Setting::On => (WITH_BASELINE, "cloudwatch", "1"),
    };
    let uri = format!("s3://{BUCKET}/{manifest}");
    let variables = [
        ("MODEL_URI", &*uri),
        ("MODEL_NAME", "wine"),
        ("MODEL_METRICS", metrics),
        ("MODEL_METRICS_SET", "all"),
        ("MODEL_METRICS_INTERVAL", "1s"),
        ("MODEL_DRIFT_SAMPLE", sample),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let variables = cloudwatch.env().into_iter().chain(variables);
    let library = dist().join("model-sidecar/lib/libonnxruntime.so.1.28.0");
    MeasuredSidecar::start(&sidecar()?, &library, s3, variables).await
}

/// Checks that the metrics were on.
fn check_delivered(cloudwatch: &CloudWatch, requests: usize) -> Result<()> {
    for metric in ["Inferences", "PredictionConfidence", "NullFeatureShare"] {
        let filter = Filter::metric(metric);
        let observed = if metric == "Inferences" {
            cloudwatch.sum(&filter)
        } else {
            cloudwatch.count(&filter)
        };
        let expected = float(ROUNDS * requests);
        ensure!(observed >= expected, "{metric}: {observed} of {expected}");
    }
    for metric in ["FeatureDriftWorst", "PredictionDrift"] {
        ensure!(
            cloudwatch.count(&Filter::metric(metric)) >= 1.0,
            "{metric} was not measured"
        );
    }
    Ok(())
}

fn request() -> Vec<u8> {
    let body = json!({ "features": WINE.rows[..1] }).to_string();
    client::post("/predict", "", body.as_bytes())
}

/// Uploads the model, and a manifest of it without and with a baseline.
fn publish(s3: &S3Server) -> Result<()> {
    let path = lab::artifacts::workspace().join("tests/models/wine-v1.onnx");
    let model = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let digest = format!("{:x}", Sha256::digest(&model));
    let mut version =
        json!({ "files": [{ "path": "model.onnx", "size": model.len(), "sha256": digest }] });
    s3.put(BUCKET, KEY, model);
    let manifest = |version: &Value| {
        json!({ "format": "model-sidecar/1", "current": "1", "versions": { "1": version } })
            .to_string()
    };
    s3.put(BUCKET, PLAIN, manifest(&version));
    let mut baseline: Vec<Value> = (0..WINE.rows[0].len()).map(histogram).collect();
    baseline
        .push(json!({ "output": "output_label", "edges": [0, 1, 2, 3], "counts": [59, 71, 48] }));
    version["baseline"] = baseline.into();
    s3.put(BUCKET, WITH_BASELINE, manifest(&version));
    Ok(())
}

/// Histogram of a column of the training rows.
fn histogram(column: usize) -> Value {
    let values: Vec<f64> = WINE.rows.iter().map(|row| row[column]).collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = (most - least) / float(BINS);
    let edges: Vec<f64> = (0..=BINS).map(|edge| least + width * float(edge)).collect();
    let counts: Vec<usize> = (0..BINS)
        .map(|bin| {
            let is_last = bin + 1 == BINS;
            let within =
                |value: &&f64| **value >= edges[bin] && (is_last || **value < edges[bin + 1]);
            values.iter().filter(within).count()
        })
        .collect();
    json!({ "input": "X", "column": column, "edges": edges, "counts": counts })
}

fn dist() -> std::path::PathBuf {
    lab::artifacts::workspace().join("dist/layer")
}

fn sidecar() -> Result<std::path::PathBuf> {
    let program = dist().join("extensions/model-sidecar");
    ensure!(
        program.is_file(),
        "{} is missing: run `make bench-overhead`",
        program.display()
    );
    Ok(program)
}
