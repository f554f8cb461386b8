//! Software bill of materials of an architecture's artefacts: CycloneDX 1.6 in JSON.
//!
//! It has no serial number and no time, so that the same sources give the same bytes.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::arch::Arch;
use crate::digest::sha256;
use crate::packages::{Package, PackageId};

/// ONNX Runtime in the layer: the pinned wheel, and the library from it.
#[derive(Debug)]
pub(crate) struct OnnxRuntime {
    version: String,
    wheel_sha256: String,
    library_sha256: String,
}

impl OnnxRuntime {
    /// Reads the pin of an architecture and the library.
    ///
    /// # Errors
    /// If a file is missing, or the pin is not `onnxruntime==VERSION --hash=sha256:DIGEST`.
    pub(crate) fn read(root: &Path, arch: Arch, library: &[u8]) -> Result<Self> {
        let path = root.join(format!("layer/onnxruntime/{}.txt", arch.rust()));
        let pin =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let fields = pin
            .trim()
            .strip_prefix("onnxruntime==")
            .and_then(|pin| pin.split_once(" --hash=sha256:"));
        let (version, wheel) = fields.with_context(|| {
            let path = path.display();
            format!(
                "cannot read {path}: expected onnxruntime==VERSION --hash=sha256:DIGEST, got {}",
                pin.trim()
            )
        })?;
        Ok(Self {
            version: version.to_owned(),
            wheel_sha256: wheel.to_owned(),
            library_sha256: sha256(library),
        })
    }
}

/// The document. `programs` are the packages of this workspace that the artefacts consist of.
pub(crate) fn document(
    programs: &[&str],
    packages: &[Package],
    onnxruntime: &OnnxRuntime,
    arch: Arch,
) -> Value {
    let version = version(programs, packages);
    let root = format!("model-sidecar-{arch}");
    let runtime = format!("pkg:pypi/onnxruntime@{}", onnxruntime.version);
    let mut components: Vec<Value> = packages.iter().map(component).collect();
    components.push(json!({
        "type": "library",
        "bom-ref": runtime,
        "name": "onnxruntime",
        "version": onnxruntime.version,
        "purl": runtime,
        "licenses": [{"expression": "MIT"}],
        "hashes": [{"alg": "SHA-256", "content": onnxruntime.wheel_sha256}],
        "components": [{
            "type": "file",
            "name": format!("libonnxruntime.so.{}", onnxruntime.version),
            "hashes": [{"alg": "SHA-256", "content": onnxruntime.library_sha256}],
        }],
    }));
    let own = packages
        .iter()
        .filter(|package| programs.contains(&&*package.id.name));
    let direct: Vec<String> = own
        .map(|package| reference(&package.id))
        .chain([runtime.clone()])
        .collect();
    let mut dependencies = vec![json!({"ref": root, "dependsOn": direct})];
    dependencies.extend(packages.iter().map(|package| {
        let on: Vec<String> = package.dependencies.iter().map(reference).collect();
        json!({"ref": reference(&package.id), "dependsOn": on})
    }));
    dependencies.push(json!({"ref": runtime, "dependsOn": []}));
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": root,
                "version": version,
                "licenses": [{"expression": "Apache-2.0"}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    })
}

/// Version of the first program.
fn version<'a>(programs: &[&str], packages: &'a [Package]) -> &'a str {
    let package = packages
        .iter()
        .find(|package| Some(&&*package.id.name) == programs.first());
    package.map_or("", |package| &package.id.version)
}

fn component(package: &Package) -> Value {
    let reference = reference(&package.id);
    let mut component = json!({
        "type": if package.checksum.is_some() { "library" } else { "application" },
        "bom-ref": reference,
        "name": package.id.name,
        "version": package.id.version,
        "licenses": [{"expression": package.license}],
    });
    if let Some(checksum) = &package.checksum {
        component["purl"] = json!(reference);
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    if let Some(repository) = &package.repository {
        component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
    }
    component
}

fn reference(id: &PackageId) -> String {
    format!("pkg:cargo/{}@{}", id.name, id.version)
}
