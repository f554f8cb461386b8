//! `make bench-inference`: a request's way to the model and back, beside the model alone.
//!
//! The sidecar as it ships, over its Unix socket and over TCP, from a client in Rust, and through the handler on the
//! lab's platform; the model alone (`bench-runs`, with identical session options) as the limit; and what people would
//! run instead: `FastAPI` on uvicorn, `BentoML`, the tutorials' Python function. All of them run on one thread a run. A
//! socket that has its answer ready shows what of that time is the operating system's.
//!
//! The client shares the CPUs with what it measures, so it is as thin as can be, and everything is a closed loop: a
//! request goes out when the one before was answered, or, of callers who come seldom, 20 ms later. All contenders are
//! there all the time and take turns, so that whatever else the machine does meets them all; what is reported are
//! medians and, of the tail, the 99th percentile, and what is promised are differences and ratios within one run. Every
//! contender's answer is held against that of ONNX Runtime in Python before anything is measured.

mod client;
mod codec;
mod contenders;
mod echo;
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

use contenders::{Bare, Parts};
pub(crate) use echo::serve as echo;
use subject::Subject;

use crate::figures::percentile;

/// The small model, asked seldom, as tables call it.
const RARE: &str = "seldom";

// The contenders, as tables call them.
const BARE: &str = "the model alone";
const ECHO: &str = "a socket that is busy for a run's time";
const UNIX: &str = "sidecar, Unix socket";
const TCP: &str = "sidecar, TCP";
const UNIX_JSON: &str = "sidecar, Unix socket, JSON";
const FASTAPI: &str = "FastAPI on uvicorn";
const BENTOML: &str = "BentoML";
const HANDLER: &str = "handler and sidecar";
const HANDLER_ECHO: &str = "handler and such a socket";
const WITHIN: &str = "a handler with the model within";
const NOTHING: &str = "a handler that does nothing";
const PYTHON: &str = "the tutorials' Python";

/// How long one contender took with one model, request by request.
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

/// The median of what was measured.
fn median(times: &[Times], subject: &str, contender: &str) -> Result<Duration> {
    let micros = judge::find(times, subject, contender, 50.0)?;
    Ok(Duration::from_secs_f64(micros / 1e6))
}

/// What one contender does in a second with one model, asked by [`CLIENTS`] at once, round by round.
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

/// How many callers there are where throughput is measured.
const CLIENTS: usize = 8;

/// The models, in the order of their rows in the tables.
struct Subjects {
    small: Subject,
    image: Subject,
    heavy: Subject,
}

/// Runs it, with so many calls of each contender one at a time, and so many requests while memory is watched.
pub(crate) async fn run(calls: usize, requests: usize) -> Result<ExitCode> {
    let started = Instant::now();
    let parts = Parts::find()?;
    let folder = parts.models();
    let of = |name| Subject::of(&folder, name);
    let all = [of("small")?, of("image")?, of("heavy")?];
    introduce(&parts)?;
    let sidecar = contenders::sidecar(&parts, &all).await?;
    let mut bare = Bare::start(&parts, &all)?;
    let [small, image, heavy] = all;
    let subjects = Subjects {
        small,
        image,
        heavy,
    };
    let mut others = vec![(FASTAPI, contenders::fastapi(&parts)?)];
    match contenders::bentoml(&parts)? {
        Some(server) => others.push((BENTOML, server)),
        None => println!("BentoML could not be installed here, and is left out."),
    }
    let codec = codec::measure(&parts, &subjects)?;
    let (mut times, rates, memory) = tokio::task::block_in_place(|| {
        for (_, server) in &others {
            server.wait(&subjects.small)?;
        }
        println!("{calls} calls of each, one at a time");
        let times = latency::measure(&subjects, &sidecar, &mut bare, &others, calls)?;
        println!("{CLIENTS} callers at once");
        let rates = throughput::measure(&subjects, &sidecar, &mut bare, &others)?;
        println!("{requests} requests, while memory is watched");
        let memory = memory::measure(&subjects.small, &sidecar, requests)?;
        anyhow::Ok((times, rates, memory))
    })?;
    // They would take their share of the CPUs.
    drop((sidecar, bare, others));
    println!("{calls} invocations of each function");
    let run = median(&times, "small", BARE)?;
    times.extend(through::measure(&parts, calls, run).await?);
    table::tell(&times, &rates, &codec, &memory);
    plot::draw(&times, &rates)?;
    println!("\nall of it took {} s", started.elapsed().as_secs());
    judge::figures(&times, &rates, &codec, &memory)?.end()
}

/// Says what is measured, and what is not.
fn introduce(parts: &Parts) -> Result<()> {
    let binary = parts.sidecar();
    let about = std::fs::metadata(&binary)?;
    let age = about.modified()?.elapsed().unwrap_or_default().as_secs() / 60;
    println!(
        "Inference on this machine, {} CPUs, which clients and servers share.\n\
         The sidecar is dist/layer, as `make layer` builds what ships: {} bytes, laid out {age} minutes ago{}.\n\
         One thread a run everywhere; Python's servers have a process for each CPU.",
        std::thread::available_parallelism()?,
        about.len(),
        if crate::coldstart::is_stale(&binary) {
            ", OLDER THAN ITS SOURCES"
        } else {
            ""
        }
    );
    Ok(())
}
