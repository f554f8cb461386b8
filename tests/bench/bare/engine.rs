//! ONNX Runtime, configured like the sidecar's engine.

use std::path::Path;

use anyhow::Result;
use ort::environment::{Environment, GlobalThreadPoolOptions};

/// Opens the library, with one global pool of this many threads, which do not spin.
pub(crate) fn open(library: &Path, threads: usize) -> Result<Environment> {
    let builder = ort::init_from(library)?;
    let pool = GlobalThreadPoolOptions::default()
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_spin_control(false)?;
    let environment = builder
        .with_telemetry(false)
        .with_global_thread_pool(pool)
        .build()?;
    Ok(environment)
}
