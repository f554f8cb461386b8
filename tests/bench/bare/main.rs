//! Minimal program that fetches, loads and runs a model, for `make bench-coldstart`. It is a
//! function's runtime that downloads one object over one connection into a file and opens ONNX
//! Runtime in parallel. It then loads the file and handles events.
//!
//! The program does only what the sidecar cannot avoid. It has no credentials (the URL is
//! presigned), no verification of the download, no second version and no metrics. It is built in
//! the release profile and creates its session like the sidecar's engine, with one global thread
//! pool that does not spin. It shares no code with the sidecar, so as not to share its faults.
//!
//! Variables: `BARE_URL` names the object, by `https` with the authorities in `SSL_CERT_FILE`.
//! `BARE_FILE` names a file to load instead. `BARE_THREADS` is the size of the pool. The durations
//! of the phases are written to standard error in one line.

mod engine;
mod function;
mod http;
mod timing;

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ort::session::Session;

use timing::{milliseconds, timed};

/// Path of the downloaded model.
const FETCHED: &str = "/tmp/bare.onnx";

fn main() -> Result<()> {
    let started = Instant::now();
    let given = std::env::var("BARE_FILE");
    let file = given.as_deref().unwrap_or(FETCHED);
    let threads = std::env::var("BARE_THREADS").unwrap_or_default().parse();
    let threads = threads.context("BARE_THREADS is not a number")?;
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
