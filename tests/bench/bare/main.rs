//! The least that fetches, loads and runs a model, for `make bench-coldstart`: a function's
//! runtime that gets one object over one connection into a file, opens ONNX Runtime meanwhile,
//! loads the file, and answers events.
//!
//! It does what the sidecar cannot avoid, and nothing else: no credentials (the URL is signed by
//! whoever starts it), no check of what came, no second version, no metrics. It is built in the
//! profile that ships and makes its session as the sidecar's engine does, with one global thread
//! pool that does not spin; it uses none of the sidecar's code, so as not to share its mistakes.
//!
//! Variables: `BARE_URL` names the object, with `https` on the authorities that `SSL_CERT_FILE`
//! holds, or `BARE_FILE` a file that is loaded as it lies there; `BARE_THREADS` is the size of the
//! pool. Where the time went goes to standard error in one line.

mod engine;
mod function;
mod http;

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ort::session::Session;

/// Where a fetched model lies, as for the sidecar.
const FETCHED: &str = "/tmp/bare.onnx";

fn main() -> Result<()> {
    let started = Instant::now();
    let given = std::env::var("BARE_FILE");
    let file = given.as_deref().unwrap_or(FETCHED);
    let threads = std::env::var("BARE_THREADS").unwrap_or_default().parse();
    let threads = threads.context("BARE_THREADS is no number")?;
    let fetch = || match std::env::var("BARE_URL") {
        Ok(url) => timed(|| http::get(&url, &mut File::create(file)?)),
        Err(_) => Ok(((), Duration::ZERO)),
    };
    let (opened, fetched) = thread::scope(|scope| {
        let opening = scope.spawn(move || timed(|| function::open(threads)));
        let fetched = fetch();
        (opening.join(), fetched)
    });
    let ((), fetch_time) = fetched?;
    let opened = opened.ok().context("opening ONNX Runtime panicked")?;
    let (environment, open_time) = opened?;
    let (mut session, load_time) = timed(|| {
        let builder = Session::builder(&environment);
        let session = builder.and_then(|mut builder| builder.commit_from_file(file));
        session.with_context(|| format!("cannot load {file}"))
    })?;
    eprintln!(
        "bare total_ms={} fetch_ms={} open_onnxruntime_ms={} load_ms={}",
        milliseconds(started.elapsed()),
        milliseconds(fetch_time),
        milliseconds(open_time),
        milliseconds(load_time)
    );
    http::serve(|event| function::predict(&mut session, event))
}

fn timed<T>(what: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let started = Instant::now();
    Ok((what()?, started.elapsed()))
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
