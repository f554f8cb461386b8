//! `release operators`: writes the zip of the layer with onnxruntime-extensions, and its SBOM.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::arch::Arch;
use crate::digest;
use crate::pack::{self, Ceiling};
use crate::sbom::{self, PypiPackage};

/// Beginning of the name of the package's library in the layer.
const MODULE: &str = "model-sidecar/operators/_extensions_pydll.";
/// Licence of the package, and notices of the libraries inside.
const NOTICES: [&str; 3] = [
    "model-sidecar/licenses/onnxruntime-extensions/LICENSE",
    "model-sidecar/licenses/onnxruntime-extensions/ThirdPartyNotices.txt",
    "model-sidecar/licenses/onnxruntime-extensions/FurtherNotices.txt",
];
const CEILING: Ceiling = Ceiling {
    zipped: 2_900_000,
    unzipped: 7_300_000,
};

/// Pack the layer of operators
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Architecture of the libraries
    #[arg(long)]
    arch: Arch,
    /// Folder that becomes /opt
    #[arg(long)]
    layer: PathBuf,
    /// Folder for the artefacts
    #[arg(long)]
    into: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// If the package's library or a notice is missing, or the zip is too large or cannot be written.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let Arguments { arch, layer, into } = arguments;
    let name = format!("model-sidecar-operators-{arch}");
    let archive = pack::folder(layer)?;
    let module = archive.files().find(|(name, _)| name.starts_with(MODULE));
    let module = module.with_context(|| format!("{} has no {MODULE}*.so", layer.display()))?;
    for notice in NOTICES {
        if !archive.files().any(|(name, _)| name == notice) {
            bail!("{} has no {notice}", layer.display());
        }
    }
    let package = PypiPackage::read(&root.join("layer/operators"), *arch, module)?;
    pack::write(&archive, &CEILING, into, &format!("{name}.zip"))?;
    let document = sbom::document(&name, &[], &[], &package);
    pack::write_sbom(&document, into, &name)?;
    digest::write_sums(into)
}
