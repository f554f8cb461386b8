//! Packages of crates.io that a program of this workspace contains, as cargo resolves them.
//!
//! `cargo tree` resolves the features of one program alone, as `make layer` builds it. `cargo metadata` and
//! `Cargo.lock` describe the packages.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// Name and version of a package. One resolution has each pair once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PackageId {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// A package and its description.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) id: PackageId,
    /// SPDX expression.
    pub(crate) license: String,
    pub(crate) repository: Option<String>,
    /// SHA-256 of the package on crates.io, `None` for a member of the workspace.
    pub(crate) checksum: Option<String>,
    pub(crate) dependencies: BTreeSet<PackageId>,
    /// Folder of the sources.
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct MetadataPackage {
    name: String,
    version: String,
    id: String,
    license: Option<String>,
    repository: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

/// Packages of the workspace and their dependencies, for one target.
#[derive(Debug)]
pub(crate) struct Resolution {
    metadata: Metadata,
    checksums: BTreeMap<PackageId, String>,
    root: PathBuf,
    target: String,
}

impl Resolution {
    /// Reads the workspace at `root`.
    ///
    /// # Errors
    /// If cargo fails, or `Cargo.lock` cannot be read.
    pub(crate) fn read(root: &Path, target: &str) -> Result<Self> {
        let output = cargo(
            root,
            &[
                "metadata",
                "--format-version=1",
                "--filter-platform",
                target,
            ],
        )?;
        let lock = fs::read_to_string(root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
        Ok(Self {
            metadata: serde_json::from_str(&output)
                .context("cannot read the output of `cargo metadata`")?,
            checksums: checksums(&lock),
            root: root.to_owned(),
            target: target.to_owned(),
        })
    }

    /// Packages that a program consists of, the program's own included. Procedural macros, and packages that only build
    /// or test, are not in a program.
    ///
    /// # Errors
    /// If cargo fails.
    pub(crate) fn contained(&self, program: &str) -> Result<BTreeSet<PackageId>> {
        let arguments = [
            "tree",
            "--edges=normal,no-proc-macro",
            "--prefix=none",
            "--format={p}",
            "--target",
        ];
        let output = cargo(
            &self.root,
            &[&arguments[..], &[&self.target, "-p", program]].concat(),
        )?;
        let ids = output.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let name = words.next()?.to_owned();
            let version = words.next()?.trim_start_matches('v').to_owned();
            Some(PackageId { name, version })
        });
        Ok(ids.collect())
    }

    /// Descriptions of these packages, sorted.
    ///
    /// # Errors
    /// If one is not in the workspace's resolution, or has no licence.
    pub(crate) fn describe(&self, contained: &BTreeSet<PackageId>) -> Result<Vec<Package>> {
        let described = self
            .metadata
            .packages
            .iter()
            .map(|package| (package.id(), package));
        let described: BTreeMap<PackageId, &MetadataPackage> = described.collect();
        let ids = self
            .metadata
            .packages
            .iter()
            .map(|package| (&*package.id, package.id()));
        let ids: BTreeMap<&str, PackageId> = ids.collect();
        let nodes = self
            .metadata
            .resolve
            .nodes
            .iter()
            .map(|node| (&*node.id, node));
        let nodes: BTreeMap<&str, &Node> = nodes.collect();
        let describe = |id: &PackageId| {
            let unknown = || {
                format!(
                    "cannot describe {} {}: cargo does not know it",
                    id.name, id.version
                )
            };
            let package = described.get(id).with_context(unknown)?;
            let node = nodes.get(&*package.id).with_context(unknown)?;
            let license = package.license.as_ref();
            let license = license
                .with_context(|| format!("cannot describe {}: it declares no licence", id.name))?;
            let dependencies = node.dependencies.iter().filter_map(|id| ids.get(&**id));
            Ok(Package {
                id: id.clone(),
                // Before 2019 alternatives were separated by a slash.
                license: license.replace('/', " OR "),
                repository: package.repository.clone(),
                checksum: self.checksums.get(id).cloned(),
                dependencies: dependencies
                    .filter(|id| contained.contains(id))
                    .cloned()
                    .collect(),
                folder: package
                    .manifest_path
                    .parent()
                    .map(Path::to_owned)
                    .unwrap_or_default(),
            })
        };
        contained.iter().map(describe).collect()
    }
}

impl MetadataPackage {
    fn id(&self) -> PackageId {
        PackageId {
            name: self.name.clone(),
            version: self.version.clone(),
        }
    }
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<String> {
    let program = std::env::var_os("CARGO");
    let program = program.as_deref().unwrap_or(OsStr::new("cargo"));
    let output = Command::new(program)
        .current_dir(root)
        .args(arguments)
        .arg("--locked")
        .output();
    let output = output.context("cannot run cargo")?;
    if !output.status.success() {
        bail!(
            "cannot run cargo {}: {}",
            arguments[0],
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).context("cannot read the output of cargo")
}

/// Checksums of a `Cargo.lock`, whose entries have one field a line.
fn checksums(lock: &str) -> BTreeMap<PackageId, String> {
    let mut checksums = BTreeMap::new();
    for entry in lock.split("[[package]]") {
        let field = |name: &str| {
            let start = format!("{name} = \"");
            let value = entry.lines().find_map(|line| line.strip_prefix(&*start));
            value.map(|value| value.trim_end_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(checksum)) =
            (field("name"), field("version"), field("checksum"))
        {
            checksums.insert(PackageId { name, version }, checksum);
        }
    }
    checksums
}
