//! Where the things are that `make` builds and the tests run: the staged layer and function, the
//! sidecar's binary, ONNX Runtime, AWS's emulator, `SeaweedFS`.
//!
//! Nothing is built from here. What is missing is an error that names the `make` target, and so
//! is what is stale: a staged binary older than the sources it was built from would let a test
//! pass or fail for yesterday's code.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The release of ONNX Runtime that the project pins.
const ONNXRUNTIME: &str = "libonnxruntime.so.1.28.0";

/// Something that a test needs is not there, or is of yesterday.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Never built.
    #[error("{} is missing: run `make {target}`", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// The target that makes it.
        target: &'static str,
    },
    /// Built, then the sources changed.
    #[error("{} is older than {}: run `make {target}`", path.display(), source_file.display())]
    Stale {
        /// What is too old.
        path: PathBuf,
        /// The newest of its sources.
        source_file: PathBuf,
        /// The target that makes it.
        target: &'static str,
    },
}

/// The staged layer's folder, to be mounted at `/opt`.
///
/// # Errors
/// [`ArtifactError`] when `make stage` is due.
pub fn layer() -> Result<PathBuf, ArtifactError> {
    let layer = target().join("stage/layer");
    fresh(&layer.join("extensions/model-sidecar"), "extension")?;
    present(layer.join("model-sidecar/lib").join(ONNXRUNTIME), "stage")?;
    Ok(layer)
}

/// The staged function's folder, to be mounted at `/var/task`.
///
/// # Errors
/// [`ArtifactError`] when `make stage` is due.
pub fn function() -> Result<PathBuf, ArtifactError> {
    let function = target().join("stage/function");
    fresh(&function.join("bootstrap"), "handler")?;
    Ok(function)
}

/// The sidecar's staged binary, for [`crate::process`]. It finds ONNX Runtime by itself.
///
/// # Errors
/// [`ArtifactError`] when `make stage` is due.
pub fn sidecar() -> Result<PathBuf, ArtifactError> {
    Ok(layer()?.join("extensions/model-sidecar"))
}

/// ONNX Runtime's library for this machine.
///
/// # Errors
/// [`ArtifactError`] when `make onnxruntime` is due.
pub fn onnxruntime() -> Result<PathBuf, ArtifactError> {
    let folder = target().join("onnxruntime").join(std::env::consts::ARCH);
    present(folder.join(ONNXRUNTIME), "onnxruntime")
}

/// AWS's Runtime Interface Emulator.
///
/// # Errors
/// [`ArtifactError`] when `make rie` is due.
pub fn rie() -> Result<PathBuf, ArtifactError> {
    present(target().join("rie/aws-lambda-rie"), "rie")
}

/// `SeaweedFS`, an S3 that others wrote.
///
/// # Errors
/// [`ArtifactError`] when `make seaweedfs` is due.
pub fn seaweedfs() -> Result<PathBuf, ArtifactError> {
    present(target().join("seaweedfs/weed"), "seaweedfs")
}

/// The library that shows processes the lab's clock.
///
/// # Errors
/// [`ArtifactError`] when `make stage` is due.
pub fn clock() -> Result<PathBuf, ArtifactError> {
    let library = target().join("stage/clock.so");
    not_older(
        &library,
        "stage",
        &[workspace().join("tests/lab/lambda/clock.c")],
    )?;
    Ok(library)
}

/// The project's own folder.
#[must_use]
pub fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// Where Cargo builds; a relative `CARGO_TARGET_DIR` counts from the project's folder.
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

/// Whether a staged binary is there and not older than the sources of its package.
fn fresh(binary: &Path, package: &str) -> Result<(), ArtifactError> {
    let package = workspace().join(package);
    not_older(
        binary,
        "stage",
        &[package.join("src"), package.join("Cargo.toml")],
    )
}

/// Whether `built` is there and not older than any of `sources`, files or folders.
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

/// The file at or below `path` that changed last, and when.
fn newest(path: &Path) -> Option<(SystemTime, PathBuf)> {
    if !path.is_dir() {
        return modified(path).map(|time| (time, path.to_owned()));
    }
    let entries = fs::read_dir(path).ok()?.flatten();
    entries.filter_map(|entry| newest(&entry.path())).max()
}
