//! Benches and soaks on the lab's platform, one subcommand each; `make` has a target for each.
//!
//! Each prints what it measured in a table and, where time is the story, as a line of bars, writes
//! it to `target/bench`, and ends in failure when something is not as promised. A claim is measured
//! against its alternative in the same run.

mod bars;
mod chart;
mod coldstart;
mod fetch;
mod figures;
mod fleet;
mod inference;
mod network;
mod next;
mod reload;
mod soak;
mod svg;

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
    /// Freeze and thaw under traffic: no failed request, nothing that grows
    SoakFreeze {
        /// How many cycles by each kind of clock
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = at_least_20)]
        cycles: usize,
    },
    /// New versions under load: no failed request, no wrong answer, nothing that grows
    SoakReload {
        /// How many versions of 100 KB; a fifth of it of 12 MB
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = at_least_20)]
        swaps: usize,
    },
    /// Fifty environments, a good new version and a bad one, while environments come and go
    Fleet {
        /// How many environments
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_20)]
        environments: usize,
    },
    /// From INVOKE to the extension's call of `next`, with nothing due
    Next {
        /// How many invocations of each alternative
        #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = at_least_20)]
        invocations: usize,
    },
    /// From nothing to the first right answer, beside a bare program and the tutorials' Python
    Coldstart {
        /// How many cold starts of each, with each model, on loopback, thrice as many of small ones; half of it on the link
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
        repetitions: u16,
    },
    /// A request's way to the model and back, beside the model alone and the servers of others
    Inference {
        /// How many requests one at a time each contender answers
        #[arg(long, value_name = "N", default_value_t = 4_000, value_parser = at_least_20)]
        calls: usize,
        /// How many requests go by while memory is watched
        #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = at_least_20)]
        requests: usize,
    },
    /// The socket that has its answer ready, which `inference` starts
    #[command(hide = true)]
    Echo {
        socket: PathBuf,
        answer: PathBuf,
        nanoseconds: u64,
    },
    /// 250 MB from S3 to a file, beside AWS's C client and a parallel curl
    Fetch {
        /// How many transfers of each
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
        repetitions: u16,
    },
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    match Bench::parse().subject {
        Subject::SoakFreeze { cycles } => soak::run(cycles).await,
        Subject::SoakReload { swaps } => reload::run(swaps).await,
        Subject::Fleet { environments } => fleet::run(environments).await,
        Subject::Next { invocations } => next::run(invocations).await,
        Subject::Coldstart { repetitions } => coldstart::run(repetitions.into()).await,
        Subject::Inference { calls, requests } => inference::run(calls, requests).await,
        Subject::Echo {
            socket,
            answer,
            nanoseconds,
        } => {
            inference::echo(&socket, &answer, Duration::from_nanos(nanoseconds))?;
            Ok(ExitCode::SUCCESS)
        }
        Subject::Fetch { repetitions } => fetch::run(repetitions.into()).await,
    }
}

/// Fewer have no median and no p99 to speak of.
fn at_least_20(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number >= 20 => Ok(number),
        _ => Err("a whole number, 20 or more".to_owned()),
    }
}
