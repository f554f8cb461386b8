//! Licences of the packages in a program, as one text.
//!
//! Each licence text stands once, under the packages that have it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::packages::{Package, PackageId};

/// Openings of the names of licence files, in upper case.
const OPENINGS: [&str; 6] = [
    "LICENSE",
    "LICENCE",
    "COPYING",
    "COPYRIGHT",
    "NOTICE",
    "UNLICENSE",
];
const RULE: &str =
    "================================================================================";

/// Text with each package's licence and the licence files of its sources.
///
/// # Errors
/// If a folder or a file of the sources cannot be read.
pub(crate) fn text(packages: &[Package]) -> Result<String> {
    let mut text = "Packages of crates.io in this program, with the licences that their authors declare (SPDX).\n\
        Rust's standard library is in it as well: MIT OR Apache-2.0, https://github.com/rust-lang/rust\n\n"
        .to_owned();
    let mut licences: BTreeMap<String, Vec<&PackageId>> = BTreeMap::new();
    for package in packages.iter().filter(|package| package.checksum.is_some()) {
        let PackageId { name, version } = &package.id;
        let repository = package.repository.as_deref().unwrap_or("");
        let line = format!("{name} {version}: {} {repository}", package.license);
        writeln!(text, "{}", line.trim_end())?;
        for licence in files(&package.folder)? {
            licences.entry(licence).or_default().push(&package.id);
        }
    }
    // Ordered by the packages, so that a new package moves few lines.
    let mut licences: Vec<(String, Vec<&PackageId>)> = licences.into_iter().collect();
    licences.sort_by(|(text, packages), (other_text, other)| {
        packages.cmp(other).then_with(|| text.cmp(other_text))
    });
    for (licence, packages) in licences {
        let names: Vec<String> = packages
            .iter()
            .map(|id| format!("{} {}", id.name, id.version))
            .collect();
        write!(text, "\n{RULE}\n{}\n{RULE}\n\n{licence}", names.join(", "))?;
    }
    Ok(text)
}

/// Texts of the licence files in a package's folder and in the folders directly below, sorted by path. The latter hold
/// the licences of bundled C sources.
fn files(folder: &Path) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for path in children(folder)? {
        if path.is_dir() {
            paths.extend(children(&path)?);
        } else {
            paths.push(path);
        }
    }
    let is_licence = |path: &Path| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_uppercase();
        OPENINGS.iter().any(|opening| name.starts_with(opening))
            && path.extension().is_none_or(|extension| extension != "rs")
            && path.is_file()
    };
    let mut texts = Vec::new();
    for path in paths.into_iter().filter(|path| is_licence(path)) {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.trim().lines().map(str::trim_end).collect();
        let text = lines.join("\n") + "\n";
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    Ok(texts)
}

fn children(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
