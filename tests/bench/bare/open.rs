//! Start of ONNX Runtime, split, for `make bench-coldstart`: what any program that runs a model in a new process waits
//! for.
//!
//! `bench-open LIBRARY MODEL` prints one line of `NAME_ms=NUMBER`. `library` maps and relocates the library.
//! `environment` registers the schemas of all operators. `first_session` and `second_session` load the same model; the
//! first one also registers the kernels of all operators.

mod engine;
mod timing;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use ort::session::Session;

use timing::{milliseconds, timed};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, model] = &arguments[..] else {
        bail!("usage: bench-open LIBRARY MODEL");
    };
    // The environment opens the library as well, which is then open already.
    let (builder, library_time) = timed(|| Ok(ort::init_from(library)?))?;
    drop(builder);
    let (environment, environment_time) = timed(|| engine::open(Path::new(library), 1))?;
    let load = || -> Result<Duration> {
        let (session, time) =
            timed(|| Ok(Session::builder(&environment)?.commit_from_file(model)?))?;
        drop(session);
        Ok(time)
    };
    let (first, second) = (load()?, load()?);
    println!(
        "library_ms={} environment_ms={} first_session_ms={} second_session_ms={}",
        milliseconds(library_time),
        milliseconds(environment_time),
        milliseconds(first),
        milliseconds(second)
    );
    Ok(())
}
