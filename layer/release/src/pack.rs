//! `release pack`: writes the zips of the layer and the handler, their SBOM, the templates that deploy them, and
//! `SHA256SUMS`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::arch::Arch;
use crate::packages::Resolution;
use crate::sbom::PypiPackage;
use crate::zip::Archive;
use crate::{digest, notices, sbom};

/// Programs in the artefacts: packages of this workspace.
const SIDECAR: &str = "model-sidecar";
const HANDLER: &str = "model-handler";
const LIBRARY: &str = "model-sidecar/lib/libonnxruntime.so.1.28.0";
const TEMPLATE: &str = "layer/deploy/template.yaml";
/// Dashboard and alarms, which the template nests by this file name.
const MONITORING: &str = "layer/deploy/monitoring.template.json";
/// Model in the handler's zip, for a deployment without a bucket.
const SAMPLE: &str = "tests/models/wine-v1.onnx";

/// Maximum sizes of an archive, in bytes.
pub(crate) struct Ceiling {
    pub(crate) zipped: u64,
    pub(crate) unzipped: u64,
}

/// Pack a built layer and handler
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Architecture of the programs
    #[arg(long)]
    arch: Arch,
    /// Folder that becomes /opt
    #[arg(long)]
    layer: PathBuf,
    /// Folder that becomes /var/task
    #[arg(long)]
    handler: PathBuf,
    /// Folder for the artefacts
    #[arg(long)]
    into: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// If a part is missing or too large, or the artefacts cannot be written.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let Arguments {
        arch,
        layer,
        handler,
        into,
    } = arguments;
    let resolution = Resolution::read(root, &arch.target())?;
    let (in_sidecar, in_handler) = (
        resolution.contained(SIDECAR)?,
        resolution.contained(HANDLER)?,
    );

    let mut archive = folder(layer)?;
    let notices = notices::text(&resolution.describe(&in_sidecar)?)?;
    archive.add(
        "model-sidecar/licenses/third-party.txt",
        notices.into_bytes(),
    )?;
    let library = archive.files().find(|(name, _)| *name == LIBRARY);
    let library = library.with_context(|| format!("{} has no {LIBRARY}", layer.display()))?;
    let onnxruntime = PypiPackage::read(&root.join("layer/onnxruntime"), *arch, library)?;
    // ONNX Runtime is smaller on arm64.
    let ceiling = match arch {
        Arch::X86 => Ceiling {
            zipped: 14_000_000,
            unzipped: 35_000_000,
        },
        Arch::Arm => Ceiling {
            zipped: 13_000_000,
            unzipped: 31_000_000,
        },
    };
    write(
        &archive,
        &ceiling,
        into,
        &format!("model-sidecar-{arch}.zip"),
    )?;

    let mut archive = folder(handler)?;
    let notices = notices::text(&resolution.describe(&in_handler)?)?;
    archive.add("licenses/third-party.txt", notices.into_bytes())?;
    archive.add("licenses/LICENSE", read(&root.join("LICENSE"))?)?;
    archive.add("sample/wine.onnx", read(&root.join(SAMPLE))?)?;
    let ceiling = Ceiling {
        zipped: 1_200_000,
        unzipped: 3_000_000,
    };
    write(
        &archive,
        &ceiling,
        into,
        &format!("model-handler-{arch}.zip"),
    )?;

    let both = resolution.describe(&in_sidecar.union(&in_handler).cloned().collect())?;
    let name = format!("model-sidecar-{arch}");
    let document = sbom::document(&name, &[SIDECAR, HANDLER], &both, &onnxruntime);
    write_sbom(&document, into, &name)?;

    let template = fs::read_to_string(root.join(TEMPLATE))
        .with_context(|| format!("cannot read {TEMPLATE}"))?;
    let path = into.join(format!("template-{arch}.yaml"));
    fs::write(&path, for_arch(&template, *arch))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let path = into.join("monitoring.template.json");
    fs::write(&path, read(&root.join(MONITORING))?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    digest::write_sums(into)
}

/// Template for a folder with the artefacts of an architecture. The original is for `x86_64`, and for its own folder.
fn for_arch(template: &str, arch: Arch) -> String {
    template
        .replace("../../dist/release/", "")
        .replace("x86_64", &arch.to_string())
}

/// Archive of a folder's files.
pub(crate) fn folder(folder: &Path) -> Result<Archive> {
    let mut archive = Archive::default();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries =
            fs::read_dir(&next).with_context(|| format!("cannot read {}", next.display()))?;
        for entry in entries {
            let path = entry
                .with_context(|| format!("cannot read {}", next.display()))?
                .path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).ok().and_then(Path::to_str);
            let name = name.with_context(|| {
                format!("cannot pack {}: its name is not UTF-8", path.display())
            })?;
            archive.add(name, read(&path)?)?;
        }
    }
    Ok(archive)
}

/// Writes the zip, and prints its sizes, if neither exceeds its ceiling.
pub(crate) fn write(archive: &Archive, ceiling: &Ceiling, into: &Path, name: &str) -> Result<()> {
    let zip = archive.to_bytes()?;
    let (zipped, unzipped) = (zip.len() as u64, archive.unzipped());
    for (kind, size, limit) in [
        ("zipped", zipped, ceiling.zipped),
        ("unzipped", unzipped, ceiling.unzipped),
    ] {
        if size > limit {
            bail!("cannot write {name}: {size} bytes {kind}, at most {limit} are allowed");
        }
    }
    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    let path = into.join(name);
    fs::write(&path, zip).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}: {zipped} bytes, {unzipped} unzipped", path.display());
    Ok(())
}

/// Writes `NAME.cdx.json`.
pub(crate) fn write_sbom(document: &Value, into: &Path, name: &str) -> Result<()> {
    let path = into.join(format!("{name}.cdx.json"));
    let text = serde_json::to_string_pretty(document)? + "\n";
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
