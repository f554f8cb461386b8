//! `make bench-inference`: the latency and throughput of requests, compared with the model alone.
//!
//! The released sidecar is measured from a client in Rust, over its Unix socket, over TCP, and
//! through the handler on the lab's platform. The model alone (`bench-runs`, with identical session
//! options) is the lower bound. The alternatives are `FastAPI` on uvicorn, `BentoML`, `mosec`, and
//! the tutorials' Python function. Every run uses one thread. A socket with a prepared response shows
//! the operating system's share of the time.
//!
//! The client shares the CPUs with the server, so it is minimal. Every load is a closed loop: a
//! request follows the last response, at once or, for infrequent callers, after 20 ms. All
//! contenders run throughout and take turns, so that disturbances of the machine affect them
//! equally. Reported are medians and the 99th percentile; goals are differences and ratios within
//! one run. Every contender's response is compared with that of ONNX Runtime in Python before the
//! measurement.

pub(crate) mod client;
mod codec;
mod contenders;
mod echo;
mod growth;
mod judge;
mod latency;
mod memory;
mod plot;
mod subject;
mod table;
mod through;
mod throughput;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use contenders::{Bare, InferenceArtifacts};
pub(crate) use echo::serve as echo;
pub(crate) use growth::run as growth;
use subject::Subject;

use crate::figures::percentile;

/// Label of the small model with infrequent requests.
const RARE: &str = "seldom";

// Labels of the contenders.
const BARE: &str = "the model alone";
const ECHO: &str = "a socket that is busy for the time of a run";
const UNIX: &str = "sidecar, Unix socket";
const UNIX_BUFFERED: &str = "sidecar, Unix socket, large send buffer";
const TCP: &str = "sidecar, TCP";
const UNIX_JSON: &str = "sidecar, Unix socket, JSON";
const FASTAPI: &str = "FastAPI on uvicorn";
const BENTOML: &str = "BentoML";
const MOSEC: &str = "mosec";
const HANDLER: &str = "handler and sidecar";
const ATTACHED: &str = "sidecar as the runtime";
const HANDLER_ECHO: &str = "handler and such a socket";
const WITHIN: &str = "a handler with the model in its process";
const NOTHING: &str = "a handler that does nothing";
const PYTHON: &str = "the tutorials' Python";

/// Durations of one contender's requests with one model.
struct Times {
    subject: &'static str,
    contender: &'static str,
    microseconds: Vec<f64>,
}

impl Times {
    fn at(&self, percent: f64) -> f64 {
        percentile(&self.microseconds, percent)
    }
}

/// Median of the measured times.
fn median(times: &[Times], subject: &str, contender: &str) -> Result<Duration> {
    let micros = judge::find(times, subject, contender, 50.0)?;
    Ok(Duration::from_secs_f64(micros / 1e6))
}

/// Throughput of one contender with one model, with [`CLIENTS`] callers, by round.
struct Rate {
    subject: &'static str,
    contender: &'static str,
    per_second: Vec<f64>,
}

impl Rate {
    fn median(&self) -> f64 {
        percentile(&self.per_second, 50.0)
    }
}

/// Number of callers for throughput.
const CLIENTS: usize = 8;

/// Models in the order of the tables' rows.
struct Subjects {
    small: Subject,
    image: Subject,
    heavy: Subject,
}

/// Runs the bench, with `calls` sequential calls of each contender, and `requests` requests while
/// memory is sampled.
pub(crate) async fn run(calls: usize, requests: usize) -> Result<ExitCode> {
    let started = Instant::now();
    let artifacts = InferenceArtifacts::find()?;
    let folder = artifacts.models();
    let of = |name| Subject::of(&folder, name);
    let all = [of("small")?, of("image")?, of("heavy")?];
    print_conditions(&artifacts)?;
    let sidecar = contenders::sidecar(&artifacts, &all).await?;
    let mut bare = Bare::start(&artifacts, &all)?;
    let [small, image, heavy] = all;
    let subjects = Subjects {
        small,
        image,
        heavy,
    };
    let others = contenders::python_servers(&artifacts)?;
    let codec = codec::measure(&artifacts, &subjects)?;
    let (mut times, rates, memory) = tokio::task::block_in_place(|| {
        for server in &others {
            server.wait(&subjects.small)?;
        }
        println!("{calls} sequential calls of each");
        let times = latency::measure(&subjects, &sidecar, &mut bare, &others, calls)?;
        println!("{CLIENTS} concurrent callers");
        let rates = throughput::measure(&subjects, &sidecar, &mut bare, &others)?;
        println!("{requests} requests, while memory is sampled");
        let memory = memory::measure(&subjects.small, &sidecar, requests)?;
        anyhow::Ok((times, rates, memory))
    })?;
    // They would use a share of the CPUs.
    drop((sidecar, bare, others));
    println!("{calls} invocations of each function");
    let run = median(&times, "small", BARE)?;
    times.extend(through::measure(&artifacts, &subjects, calls, run).await?);
    table::print(&times, &rates, &codec, &memory);
    plot::draw(&times, &rates)?;
    println!("\ntotal duration {} s", started.elapsed().as_secs());
    judge::figures(&times, &rates, &codec, &memory)?.end()
}

/// Prints the conditions of the measurement.
fn print_conditions(artifacts: &InferenceArtifacts) -> Result<()> {
    let binary = artifacts.sidecar();
    let metadata = std::fs::metadata(&binary)?;
    let age = metadata.modified()?.elapsed().unwrap_or_default().as_secs() / 60;
    println!(
        "Inference on this machine, {} CPUs, shared by clients and servers.\n\
         The sidecar is dist/layer, built by `make layer`: {} bytes, staged {age} minutes ago{}.\n\
         Every run uses one thread; Python's servers have a process per CPU.",
        std::thread::available_parallelism()?,
        metadata.len(),
        if crate::coldstart::is_stale(&binary) {
            ", OLDER THAN ITS SOURCES"
        } else {
            ""
        }
    );
    Ok(())
}
