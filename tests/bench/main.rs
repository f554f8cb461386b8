//! Benches and soak tests on the lab's platform, one subcommand each; `make` has a target for each.
//!
//! Each prints its results in a table and writes them to `target/bench`. Values over time are shown
//! as sparklines. A bench fails if a goal is missed. Every value is compared with an alternative
//! measured in the same run.

mod bars;
mod chart;
mod coldstart;
mod fetch;
mod figures;
mod fleet;
mod inference;
mod metrics;
mod network;
mod next;
mod overhead;
mod read_ahead;
mod reload;
mod soak;
mod svg;
mod turns;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Bench {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// Freeze and thaw under traffic: no failed request, no growth
    SoakFreeze {
        /// Number of cycles with each kind of clock
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = at_least_20)]
        cycles: usize,
    },
    /// New versions under load: no failed request, no wrong response, no growth
    SoakReload {
        /// Number of versions of 100 KB; a fifth as many of 12 MB
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = at_least_20)]
        swaps: usize,
    },
    /// Metrics under faults: what `CloudWatch` and the log have is what clients counted
    SoakMetrics {
        /// Number of environments
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = at_least_20)]
        environments: usize,
        /// Minimum number of requests in all environments
        #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = at_least_20)]
        invocations: usize,
    },
    /// Fifty environments, a good new version and a bad one, while environments are created and
    /// removed
    Fleet {
        /// Number of environments
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_20)]
        environments: usize,
    },
    /// Time from INVOKE to the extension's call of `next`, with nothing due
    Next {
        /// Number of invocations of each alternative
        #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = at_least_20)]
        invocations: usize,
    },
    /// Time to the first correct response, compared with a bare program and the tutorials' Python
    Coldstart {
        /// Number of cold starts of each contender with each model on loopback; three times as many
        /// of small models, half as many on the link
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
        repetitions: u16,
        #[command(flatten)]
        selection: coldstart::Selection,
    },
    /// Latency and throughput, compared with the model alone and other servers
    Inference {
        /// Number of sequential requests to each contender
        #[arg(long, value_name = "N", default_value_t = 4_000, value_parser = at_least_20)]
        calls: usize,
        /// Number of requests while memory is sampled
        #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = at_least_20)]
        requests: usize,
    },
    /// Time and memory with the number of rows, models and callers, compared with Python
    Growth,
    /// The socket with a prepared response, which `inference` starts
    #[command(hide = true)]
    Echo {
        socket: PathBuf,
        answer: PathBuf,
        nanoseconds: u64,
    },
    /// Time that metrics add to a request, compared with a sidecar without metrics
    Overhead {
        /// Number of requests to each process in each round
        #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = at_least_20)]
        requests: usize,
    },
    /// Record of the pages that the start of ONNX Runtime uses, for the sidecar's read-ahead
    ReadAhead {
        /// File to write
        record: PathBuf,
        /// Unpacked layer with the library and the sidecar
        layer: PathBuf,
        /// Command that runs programs of the layer's architecture, if the machine does not
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        emulator: Vec<OsString>,
    },
    /// Download of 250 MB from S3 into a file, compared with AWS's C client and a parallel curl
    Fetch {
        /// Number of transfers of each
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
        repetitions: u16,
    },
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    match Bench::parse().subject {
        Subject::SoakFreeze { cycles } => soak::run(cycles).await,
        Subject::SoakReload { swaps } => reload::run(swaps).await,
        Subject::SoakMetrics {
            environments,
            invocations,
        } => metrics::run(environments, invocations).await,
        Subject::Fleet { environments } => fleet::run(environments).await,
        Subject::Next { invocations } => next::run(invocations).await,
        Subject::Coldstart {
            repetitions,
            selection,
        } => coldstart::run(repetitions.into(), &selection).await,
        Subject::Inference { calls, requests } => inference::run(calls, requests).await,
        Subject::Growth => inference::growth().await,
        Subject::Echo {
            socket,
            answer,
            nanoseconds,
        } => {
            inference::echo(&socket, &answer, Duration::from_nanos(nanoseconds))?;
            Ok(ExitCode::SUCCESS)
        }
        Subject::Overhead { requests } => overhead::run(requests).await,
        Subject::ReadAhead {
            record,
            layer,
            emulator,
        } => read_ahead::run(&record, &layer, &emulator).await,
        Subject::Fetch { repetitions } => fetch::run(repetitions.into()).await,
    }
}

/// Fewer values have no meaningful median and p99.
fn at_least_20(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number >= 20 => Ok(number),
        _ => Err("allowed: a whole number, at least 20".to_owned()),
    }
}
