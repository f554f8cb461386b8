//! Software bills of materials of artefacts: CycloneDX 1.6 in JSON.
//!
//! They have no serial number and no time, so that the same sources give the same bytes.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::VERSION;
use crate::arch::Arch;
use crate::digest::sha256;
use crate::packages::{Package, PackageId};

/// A package of `PyPI` in an artefact: the pinned wheel, and the library from it.
#[derive(Debug)]
pub(crate) struct PypiPackage {
    name: String,
    version: String,
    wheel_sha256: String,
    library: String,
    library_sha256: String,
}

impl PypiPackage {
    /// Reads the pin of an architecture in `folder`. `library` is the name and the content of the library.
    ///
    /// # Errors
    /// If the file is missing, or the pin is not `NAME==VERSION --hash=sha256:DIGEST`.
    pub(crate) fn read(folder: &Path, arch: Arch, library: (&str, &[u8])) -> Result<Self> {
        let path = folder.join(format!("{}.txt", arch.rust()));
        let pin =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let fields = pin.trim().split_once(" --hash=sha256:");
        let fields = fields.and_then(|(pin, wheel)| Some((pin.split_once("==")?, wheel)));
        let ((name, version), wheel) = fields.with_context(|| {
            let path = path.display();
            format!(
                "cannot read {path}: expected NAME==VERSION --hash=sha256:DIGEST, got {}",
                pin.trim()
            )
        })?;
        let file = library.0.rsplit('/').next().unwrap_or_default();
        Ok(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            wheel_sha256: wheel.to_owned(),
            library: file.to_owned(),
            library_sha256: sha256(library.1),
        })
    }

    fn reference(&self) -> String {
        format!("pkg:pypi/{}@{}", self.name, self.version)
    }

    fn component(&self) -> Value {
        json!({
            "type": "library",
            "bom-ref": self.reference(),
            "name": self.name,
            "version": self.version,
            "purl": self.reference(),
            "licenses": [{"expression": "MIT"}],
            "hashes": [{"alg": "SHA-256", "content": self.wheel_sha256}],
            "components": [{
                "type": "file",
                "name": self.library,
                "hashes": [{"alg": "SHA-256", "content": self.library_sha256}],
            }],
        })
    }
}

/// Document of the artefact `root`, which consists of a package of `PyPI` and of `programs`, packages of this
/// workspace. `packages` are all packages that the programs contain, themselves included.
pub(crate) fn document(
    root: &str,
    programs: &[&str],
    packages: &[Package],
    package: &PypiPackage,
) -> Value {
    let mut components: Vec<Value> = packages.iter().map(component).collect();
    components.push(package.component());
    let own = packages
        .iter()
        .filter(|package| programs.contains(&&*package.id.name));
    let direct: Vec<String> = own
        .map(|package| reference(&package.id))
        .chain([package.reference()])
        .collect();
    let mut dependencies = vec![json!({"ref": root, "dependsOn": direct})];
    dependencies.extend(packages.iter().map(|package| {
        let on: Vec<String> = package.dependencies.iter().map(reference).collect();
        json!({"ref": reference(&package.id), "dependsOn": on})
    }));
    dependencies.push(json!({"ref": package.reference(), "dependsOn": []}));
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": root,
                "version": VERSION,
                "licenses": [{"expression": "Apache-2.0"}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    })
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
