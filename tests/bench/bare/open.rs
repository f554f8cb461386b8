//! Start of ONNX Runtime, split, for `make bench-coldstart`: what any program that runs a model in a new process waits
//! for.
//!
//! `bench-open LIBRARY MODEL` prints one line of milliseconds. `library` maps and relocates the library. `environment`
//! registers the schemas of all operators. `first_session` and `second_session` load the same model; the first one also
//! registers the kernels of all operators.

mod engine;

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use ort::session::Session;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, model] = &arguments[..] else {
        bail!("usage: bench-open LIBRARY MODEL");
    };
    let mut at = Instant::now();
    let mut lap = || {
        let begun = std::mem::replace(&mut at, Instant::now());
        at.duration_since(begun).as_secs_f64() * 1e3
    };
    // The environment opens the library as well, which is then open already.
    let builder = ort::init_from(library)?;
    let library_time = lap();
    drop(builder);
    let environment = engine::open(Path::new(library), 1)?;
    let environment_time = lap();
    let mut load = || -> Result<f64> {
        let session = Session::builder(&environment)?.commit_from_file(model)?;
        let time = lap();
        drop(session);
        lap();
        Ok(time)
    };
    let (first, second) = (load()?, load()?);
    println!(
        "library={library_time:.3} environment={environment_time:.3} first_session={first:.3} second_session={second:.3}"
    );
    Ok(())
}
