//! `modelctl tune`: latency and cost of a function at several memory sizes, measured in the lab.
//!
//! Each size is an execution environment of the lab, whose control group has the memory and the share of CPU that
//! Lambda gives that size. Prices are those of `layer/deploy/prices.json`.

mod choice;
mod cost;
mod measure;
mod plot;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use lab::lambda::Limits;
use model_sidecar::engine::Engine as _;
use model_sidecar::onnx::Description;
use model_sidecar::sys;
use serde_json::{Value, json};

use crate::console::Console;
use crate::context::Context;
use crate::data::Rows;
use crate::library::Library;
use crate::list::table;
use choice::{Choice, choose};
use cost::{Load, Prices};
use measure::{Lab, Measured, Outcome, Sizes};

/// Memory size that has one CPU, in MB. Source: the developer guide, "Configure Lambda function memory".
const ONE_CPU_MB: u32 = 1_769;

/// Measure latency and cost at several memory sizes, and recommend one
///
/// Runs the layer and the handler in the lab, with the memory and the CPU of each size, cold and warm. The model comes
/// from an S3 over a link of 625 Mbit/s. Needs root, for control groups, and `make layer`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  modelctl tune model.onnx --rows rows.csv
  modelctl tune model.onnx --rows rows.json --memory 1024,1769,3538 --rate 20 --target 50")]
pub(crate) struct Arguments {
    /// The model's file
    model: PathBuf,
    /// Rows: a .csv with a heading, a .npy array, or .json: a list of rows, or the body of a request. Each request has
    /// one row
    #[arg(long, visible_alias = "data", value_name = "FILE")]
    rows: PathBuf,
    /// Memory sizes in MB
    #[arg(long, value_name = "MB,…", value_delimiter = ',', default_value = "512,1024,1769,3538",
        value_parser = clap::value_parser!(u32).range(128..=10_240))]
    memory: Vec<u32>,
    /// Requests per second of the whole function, for the cost of provisioned concurrency
    #[arg(long, value_name = "NUMBER", default_value_t = 10.0, value_parser = positive)]
    rate: f64,
    /// Percentage of requests that start an environment
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent)]
    cold_percent: f64,
    /// Limit of the latency in milliseconds, which 99 % of the warm requests must keep
    #[arg(long, value_name = "MILLISECONDS", value_parser = positive)]
    target: Option<f64>,
    /// Cold starts at each size
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    cold_starts: u32,
    /// Warm requests at each size
    #[arg(long, value_name = "NUMBER", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    requests: u32,
    /// Folder of the layer
    #[arg(long, value_name = "DIR", default_value = "dist/layer")]
    layer: PathBuf,
    /// Folder of the function
    #[arg(long, value_name = "DIR", default_value = "dist/handler")]
    function: PathBuf,
    /// The plot to write
    #[arg(long, value_name = "FILE", default_value = "tune.svg")]
    plot: PathBuf,
    #[command(flatten)]
    library: Library,
}

/// Memory size with its costs.
struct Row {
    measured: Measured,
    on_demand: f64,
    environments: u32,
    provisioned: f64,
}

/// Measures, and recommends a size.
pub(crate) async fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Value> {
    let prices = Prices::embedded()?;
    let price = prices.of_this_machine()?;
    let sizes = sizes(arguments, console)?;
    let events = events(arguments, context)?;
    let files = files(&arguments.model)?;
    let lab = Lab::start(&arguments.layer, &arguments.function, files, events).await?;
    let steps = u64::from(arguments.cold_starts + arguments.requests) * sizes.len() as u64;
    let progress = console.steps("measuring", steps + 1);
    let counts = Sizes {
        cold_starts: arguments.cold_starts,
        requests: arguments.requests,
    };
    // Files that are not in the page cache yet would slow the first size alone.
    lab.warm_up(sizes[sizes.len() - 1], &progress).await?;
    let mut rows = Vec::new();
    let mut unfit = Vec::new();
    for memory_mb in sizes {
        match lab.measure(memory_mb, counts, &progress).await? {
            Outcome::Measured(measured) => {
                let load = Load {
                    memory_mb,
                    warm_ms: measured.warm_billed,
                    cold_ms: measured.cold_billed,
                    cold_share: arguments.cold_percent / 100.0,
                    rate: arguments.rate,
                };
                let (environments, provisioned) = prices.provisioned(price, &load);
                rows.push(Row {
                    on_demand: prices.on_demand(price, &load),
                    environments,
                    provisioned,
                    measured,
                });
            }
            Outcome::Failed(reason) => unfit.push((memory_mb, reason)),
        }
    }
    progress.finish_and_clear();
    report(&rows, &unfit, console);
    if rows.is_empty() {
        let reasons = unfit
            .iter()
            .map(|(memory_mb, reason)| format!("{memory_mb} MB: {reason}"));
        bail!(
            "cannot recommend a memory size: the function fails at all of them ({}); try more memory with --memory",
            reasons.collect::<Vec<_>>().join(", ")
        );
    }
    let choice = choose(&rows, arguments.target);
    let choice_lines = choice.describe(arguments.cold_percent, arguments.target);
    let (measured, assumed) = (basis(arguments), assumptions(arguments, &prices));
    console.line("");
    for line in &choice_lines {
        console.line(line);
    }
    console.line(format_args!("measured: {measured}"));
    for line in &assumed {
        console.line(format_args!("assumed: {line}"));
    }
    let svg = plot::draw(&rows, choice.row.measured.memory_mb);
    std::fs::write(&arguments.plot, svg)
        .with_context(|| format!("cannot write {}", arguments.plot.display()))?;
    console.line(format_args!("wrote {}", arguments.plot.display()));
    Ok(result(
        &rows, &unfit, &choice, &measured, &assumed, arguments,
    ))
}

/// Returns the sizes in ascending order that this machine can limit a group to.
fn sizes(arguments: &Arguments, console: &Console) -> anyhow::Result<Vec<u32>> {
    let mut sizes = arguments.memory.clone();
    sizes.sort_unstable();
    sizes.dedup();
    let cpus = sys::cpus();
    let most = u32::try_from(cpus)
        .unwrap_or(u32::MAX)
        .saturating_mul(ONE_CPU_MB);
    let (sizes, large): (Vec<u32>, Vec<u32>) = sizes.into_iter().partition(|size| *size <= most);
    for size in large {
        console.warn(format_args!(
            "leaving out {size} MB: it has more CPUs than this machine, which has {cpus}"
        ));
    }
    let Some(first) = sizes.first() else {
        bail!(
            "cannot measure: --memory has no size of at most {most} MB, which are the {cpus} CPUs of this machine"
        );
    };
    if let Err(error) = Limits::for_memory(*first) {
        bail!(
            "cannot limit memory and CPU to a memory size: {error}; run as root, where control groups can be made"
        );
    }
    Ok(sizes)
}

/// Returns the body of a request for each row.
fn events(arguments: &Arguments, context: &Context) -> anyhow::Result<Vec<Vec<u8>>> {
    let engine = context.engine(&arguments.library.find()?)?;
    let session = engine.load(&arguments.model, None);
    let session = session.with_context(|| format!("cannot load {}", arguments.model.display()))?;
    let rows = Rows::read(&arguments.rows, session.signature())?;
    // Rows that the model does not take are an error here, and not at each size.
    rows.batches(session.signature(), 1)?;
    Ok(rows.bodies(session.signature()))
}

/// Returns the files of a model with their names: the model first.
fn files(model: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let cannot = || format!("cannot read {}", model.display());
    let file = std::fs::File::open(model).with_context(cannot)?;
    let description = Description::read(&file).with_context(cannot)?;
    let name = model.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{}: the name is not UTF-8", cannot()))?;
    let external = description.external.iter();
    let external = external.map(|path| (path.to_string(), model.with_file_name(path.as_str())));
    Ok(std::iter::once((name.to_owned(), model.to_owned()))
        .chain(external)
        .collect())
}

/// Prints the table.
fn report(rows: &[Row], unfit: &[(u32, String)], console: &Console) {
    let lines: Vec<_> = rows
        .iter()
        .map(|row| {
            let measured = &row.measured;
            [
                format!("{} MB", measured.memory_mb),
                format!(
                    "{:.2}",
                    f64::from(measured.memory_mb) / f64::from(ONE_CPU_MB)
                ),
                format!("{:.0} ms", measured.cold),
                format!("{:.1} ms", measured.warm_p50),
                format!("{:.1} ms", measured.warm_p99),
                format!("{:.1} ms", measured.warm_billed),
                format!("{} MB", measured.peak_mb),
                format!("${:.3}", row.on_demand),
                format!("${:.3} ({})", row.provisioned, row.environments),
            ]
        })
        .collect();
    let heading = [
        "memory",
        "vCPU",
        "cold",
        "p50",
        "p99",
        "billed",
        "peak",
        "per million",
        "provisioned",
    ];
    table(heading, &lines, console);
    for (memory_mb, reason) in unfit {
        console.line(format_args!("{memory_mb} MB fails: {reason}"));
    }
}

/// Describes the conditions of the measurement.
fn basis(arguments: &Arguments) -> String {
    format!(
        "{} cold starts and {} warm requests at each size, one after the other, frozen in between, on this machine of \
         {} CPUs; memory and CPU limited by control groups, one CPU at {ONE_CPU_MB} MB; the model over TLS, 625 Mbit/s \
         and 30 ms",
        arguments.cold_starts,
        arguments.requests,
        sys::cpus()
    )
}

/// Lists the assumptions.
fn assumptions(arguments: &Arguments, prices: &Prices) -> Vec<String> {
    vec![
        "a CPU of this machine is as fast as a vCPU of Lambda; nothing ran on AWS".to_owned(),
        format!(
            "{} % of the requests start an environment; a cold start is billed with its Init",
            arguments.cold_percent
        ),
        format!(
            "provisioned concurrency: {} requests per second at random times, all environments are busy for 1 % of them",
            arguments.rate
        ),
        format!(
            "list prices of {} on {} for {}, from {}; without S3, logs, metrics and data transfer",
            prices.region,
            prices.date,
            cost::architecture(),
            prices.source
        ),
    ]
}

/// Returns the result as JSON.
fn result(
    rows: &[Row],
    unfit: &[(u32, String)],
    choice: &Choice<'_>,
    measured: &str,
    assumed: &[String],
    arguments: &Arguments,
) -> Value {
    let sizes = rows.iter().map(|row| {
        let it = &row.measured;
        json!({
            "memory_mb": it.memory_mb,
            "vcpu": f64::from(it.memory_mb) / f64::from(ONE_CPU_MB),
            "cold_ms": it.cold,
            "init_ms": it.init,
            "warm_p50_ms": it.warm_p50,
            "warm_p99_ms": it.warm_p99,
            "warm_billed_ms": it.warm_billed,
            "cold_billed_ms": it.cold_billed,
            "peak_mb": it.peak_mb,
            "dollars_per_million": row.on_demand,
            "provisioned": {
                "environments": row.environments,
                "dollars_per_million": row.provisioned,
            },
        })
    });
    let failed = unfit
        .iter()
        .map(|(memory_mb, reason)| json!({"memory_mb": memory_mb, "reason": reason}));
    json!({
        "sizes": sizes.collect::<Vec<_>>(),
        "failed": failed.collect::<Vec<_>>(),
        "recommended": {
            "memory_mb": choice.row.measured.memory_mb,
            "keeps_target": choice.keeps_target,
            "reason": choice.describe(arguments.cold_percent, arguments.target).join(" "),
        },
        "measured": measured,
        "assumed": assumed,
        "plot": arguments.plot,
    })
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 100".to_owned())
}
