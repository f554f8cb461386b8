//! `release wheel`: writes the programs as a wheel for PyPI, in the binary distribution format 1.0.
//!
//! ONNX Runtime is a dependency of the wheel, not a part of it. A launcher in Python finds its library.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::VERSION;
use crate::arch::Arch;
use crate::packages::Resolution;
use crate::zip::Archive;
use crate::{digest, notices};

/// Programs, the packages of this workspace that they are built from, and their functions in the launcher.
const PROGRAMS: [(&str, &str, &str); 3] = [
    ("model-sidecar", "model-sidecar", "sidecar"),
    ("modelctl", "modelctl", "modelctl"),
    ("lab", "lab", "lab"),
];
const LAUNCHER: &str = include_str!("../python/__init__.py");

/// Pack model-sidecar, modelctl and lab as a wheel
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Architecture of the programs
    #[arg(long)]
    arch: Arch,
    /// Folder of the programs
    #[arg(long)]
    binaries: PathBuf,
    /// Folder for the wheel
    #[arg(long)]
    into: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// If a program is missing, or the wheel cannot be written.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let Arguments {
        arch,
        binaries,
        into,
    } = arguments;
    // ONNX Runtime's own wheels have this tag.
    let tag = format!("py3-none-manylinux_2_28_{}", arch.rust());
    let info = format!("model_sidecar-{VERSION}.dist-info");
    let resolution = Resolution::read(root, &arch.target())?;

    let mut archive = Archive::default();
    let mut contained = BTreeSet::new();
    let mut scripts = "[console_scripts]\n".to_owned();
    for (program, package, function) in PROGRAMS {
        archive.add(
            format!("model_sidecar/bin/{program}"),
            read(&binaries.join(program))?,
        )?;
        contained.extend(resolution.contained(package)?);
        writeln!(scripts, "{program} = model_sidecar:{function}")?;
    }
    archive.add("model_sidecar/__init__.py", LAUNCHER.into())?;
    archive.add(format!("{info}/METADATA"), metadata().into_bytes())?;
    archive.add(
        format!("{info}/WHEEL"),
        format!(
            "Wheel-Version: 1.0\nGenerator: release {VERSION}\nRoot-Is-Purelib: false\nTag: {tag}\n"
        )
        .into_bytes(),
    )?;
    archive.add(format!("{info}/entry_points.txt"), scripts.into_bytes())?;
    archive.add(
        format!("{info}/licenses/LICENSE"),
        read(&root.join("LICENSE"))?,
    )?;
    let notices = notices::text(&resolution.describe(&contained)?)?;
    archive.add(
        format!("{info}/licenses/third-party.txt"),
        notices.into_bytes(),
    )?;
    let record = record(&archive, &format!("{info}/RECORD"))?;
    archive.add(format!("{info}/RECORD"), record.into_bytes())?;

    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    let path = into.join(format!("model_sidecar-{VERSION}-{tag}.whl"));
    let wheel = archive.to_bytes()?;
    fs::write(&path, &wheel).with_context(|| format!("cannot write {}", path.display()))?;
    println!(
        "{}: {} bytes, {} unzipped",
        path.display(),
        wheel.len(),
        archive.unzipped()
    );
    digest::write_sums(into)
}

/// Core metadata, version 2.4.
fn metadata() -> String {
    format!(
        "Metadata-Version: 2.4\n\
         Name: model-sidecar\n\
         Version: {VERSION}\n\
         Summary: Serves ONNX models, on AWS Lambda and locally: the sidecar, modelctl and the lab\n\
         License-Expression: Apache-2.0\n\
         License-File: LICENSE\n\
         License-File: third-party.txt\n\
         Classifier: Operating System :: POSIX :: Linux\n\
         Requires-Python: >=3.9\n\
         Requires-Dist: onnxruntime>=1.28\n\
         Description-Content-Type: text/plain\n\n\
         model-sidecar serves an ONNX model over HTTP, modelctl prepares models for it, and lab runs a function with\n\
         it as AWS Lambda does. Linux only. The programs run on the installed package onnxruntime.\n"
    )
}

/// List of all files with their digests and sizes, the list itself without.
fn record(archive: &Archive, own: &str) -> Result<String> {
    let mut record = String::new();
    for (name, content) in archive.files() {
        let digest = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(content));
        writeln!(record, "{name},sha256={digest},{}", content.len())?;
    }
    writeln!(record, "{own},,")?;
    Ok(record)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
