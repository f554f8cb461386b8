//! Codecs alone, as measured by `bench-codec`.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::Subjects;
use super::contenders::InferenceArtifacts;

/// Report of `bench-codec`.
#[derive(Debug, Deserialize)]
pub(super) struct Codec {
    /// Nanoseconds to decode the image in JSON.
    pub(super) ours: f64,
    /// Nanoseconds for `serde_json`'s `Value` of the same bytes.
    pub(super) value: f64,
    /// Nanoseconds to sample and count a row of 256 inputs for drift, as columns of one tensor.
    pub(super) drift: f64,
    /// Nanoseconds for the same with a tensor for each input.
    pub(super) drift_separate: f64,
    /// Size of the image's numbers in bytes.
    pub(super) tensor_bytes: f64,
    pub(super) image: Allocated,
    pub(super) row: Allocated,
    pub(super) plain: Allocated,
    pub(super) answer: Allocated,
}

/// Allocations of one decoding or encoding.
#[derive(Debug, Deserialize)]
pub(super) struct Allocated {
    pub(super) allocations: f64,
    pub(super) bytes: f64,
}

pub(super) fn measure(artifacts: &InferenceArtifacts, subjects: &Subjects) -> Result<Codec> {
    let folder = tempfile::tempdir()?;
    let [image, row] = [&subjects.image, &subjects.small].map(|subject| {
        let file = folder.path().join(subject.name);
        std::fs::write(&file, subject.json()).map(|()| file)
    });
    let output = Command::new(artifacts.codec())
        .arg(image?)
        .arg(row?)
        .output()?;
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "bench-codec: {problem}");
    serde_json::from_slice(&output.stdout).context("cannot parse the output of bench-codec")
}
