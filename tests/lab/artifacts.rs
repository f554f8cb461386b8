//! Paths of what `make` builds and the tests run: the staged layer and function, the sidecar's
//! binary, ONNX Runtime, AWS's emulator, `SeaweedFS`.
//!
//! Nothing is built from here. A missing or stale artifact is an error that names the `make`
//! target. Staleness is checked because a binary older than its sources would make a test pass or
//! fail for yesterday's code.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Release of ONNX Runtime that the project pins.
const ONNXRUNTIME: &str = "libonnxruntime.so.1.28.0";

/// An artifact that a test needs is missing or stale.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The artifact was never built.
    #[error("{} is missing: run `make {target}`", path.display())]
    Missing {
        /// Expected path.
        path: PathBuf,
        /// Target that builds it.
        target: &'static str,
    },
    /// The sources changed after the build.
    #[error("{} is older than {}: run `make {target}`", path.display(), source_file.display())]
    Stale {
        /// The stale artifact.
        path: PathBuf,
        /// The most recently changed source.
        source_file: PathBuf,
        /// Target that builds it.
        target: &'static str,
    },
}

/// Folder of the staged layer, mounted at `/opt`.
///
/// # Errors
/// [`ArtifactError`] if `make stage` must be run.
pub fn layer() -> Result<PathBuf, ArtifactError> {
    let layer = target().join("stage/layer");
    let sidecar = layer.join("extensions/model-sidecar");
    fresh(&sidecar, "extension")?;
    // Its library is a part of the sidecar.
    fresh(&sidecar, "handler")?;
    present(layer.join("model-sidecar/lib").join(ONNXRUNTIME), "stage")?;
    Ok(layer)
}

/// Folder of the staged function, mounted at `/var/task`.
///
/// # Errors
/// [`ArtifactError`] if `make stage` must be run.
pub fn function() -> Result<PathBuf, ArtifactError> {
    let function = target().join("stage/function");
    fresh(&function.join("bootstrap"), "handler")?;
    Ok(function)
}

/// The sidecar's staged binary, for [`crate::process`]. It finds ONNX Runtime by itself.
///
/// # Errors
/// [`ArtifactError`] if `make stage` must be run.
pub fn sidecar() -> Result<PathBuf, ArtifactError> {
    Ok(layer()?.join("extensions/model-sidecar"))
}

/// ONNX Runtime's library for this machine.
///
/// # Errors
/// [`ArtifactError`] if `make onnxruntime` must be run.
pub fn onnxruntime() -> Result<PathBuf, ArtifactError> {
    let folder = target().join("onnxruntime").join(std::env::consts::ARCH);
    present(folder.join(ONNXRUNTIME), "onnxruntime")
}

/// AWS's Runtime Interface Emulator.
///
/// # Errors
/// [`ArtifactError`] if `make rie` must be run.
pub fn rie() -> Result<PathBuf, ArtifactError> {
    present(target().join("rie/aws-lambda-rie"), "rie")
}

/// `rotel`, a collector of OpenTelemetry.
///
/// # Errors
/// [`ArtifactError`] if `make rotel` must be run.
pub fn rotel() -> Result<PathBuf, ArtifactError> {
    present(target().join("rotel/rotel"), "rotel")
}

/// `SeaweedFS`, an independent implementation of S3.
///
/// # Errors
/// [`ArtifactError`] if `make seaweedfs` must be run.
pub fn seaweedfs() -> Result<PathBuf, ArtifactError> {
    present(target().join("seaweedfs/weed"), "seaweedfs")
}

/// The preloaded library that shows the lab's clock to processes.
///
/// # Errors
/// [`ArtifactError`] if `make stage` must be run.
pub fn clock() -> Result<PathBuf, ArtifactError> {
    let library = target().join("stage/clock.so");
    not_older(
        &library,
        "stage",
        &[workspace().join("tests/lab/lambda/clock.c")],
    )?;
    Ok(library)
}

/// Root folder of the project.
#[must_use]
pub fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// Cargo's target folder; a relative `CARGO_TARGET_DIR` counts from the project's folder.
fn target() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    workspace().join(named)
}

fn present(path: PathBuf, target: &'static str) -> Result<PathBuf, ArtifactError> {
    if path.is_file() {
        Ok(path)
    } else {
        Err(ArtifactError::Missing { path, target })
    }
}

/// Checks that a staged binary exists and is not older than the sources of its package.
fn fresh(binary: &Path, package: &str) -> Result<(), ArtifactError> {
    let package = workspace().join(package);
    not_older(
        binary,
        "stage",
        &[package.join("src"), package.join("Cargo.toml")],
    )
}

/// Checks that `built` exists and is not older than any of `sources`, files or folders.
fn not_older(built: &Path, target: &'static str, sources: &[PathBuf]) -> Result<(), ArtifactError> {
    present(built.to_owned(), target)?;
    let newest = sources.iter().filter_map(|source| newest(source)).max();
    match (modified(built), newest) {
        (Some(time), Some((changed, source_file))) if changed > time => Err(ArtifactError::Stale {
            path: built.to_owned(),
            source_file,
            target,
        }),
        _ => Ok(()),
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// The most recently changed file at or below `path`, with the time of the change.
fn newest(path: &Path) -> Option<(SystemTime, PathBuf)> {
    if !path.is_dir() {
        return modified(path).map(|time| (time, path.to_owned()));
    }
    let entries = fs::read_dir(path).ok()?.flatten();
    entries.filter_map(|entry| newest(&entry.path())).max()
}
