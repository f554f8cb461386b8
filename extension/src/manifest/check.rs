//! The parts of a manifest held against each other: names that point to something, files that can lie side by side.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::error::listed;
use super::written::{Versions, Written, WrittenVersion};
use super::{
    Golden, MAX_FILES, MAX_GOLDEN, Manifest, ManifestError, Observed, PublishedFile,
    PublishedVersion, VersionName,
};
use crate::ids::FilePath;

/// Makes a manifest of what was written, or names the first field that does not fit the others.
pub(super) fn manifest(written: Written) -> Result<Manifest, ManifestError> {
    let Versions(versions) = written.versions;
    let mut checked = BTreeMap::new();
    for (name, version) in versions {
        let version = self::version(&name, version)?;
        checked.insert(name, version);
    }
    agree_on_objects(&checked)?;
    let (current, previous) = (written.current, written.previous);
    let (canary, labels) = (written.canary, written.version_labels);
    let canary_version = canary.as_ref().map(|canary| &canary.version);
    let labelled = labels.iter();
    let labelled = labelled.map(|(label, name)| (format!("version_labels.{label}"), Some(name)));
    let named = [
        ("current".to_owned(), Some(&current)),
        ("previous".to_owned(), previous.as_ref()),
        ("canary.version".to_owned(), canary_version),
    ];
    for (field, name) in named.into_iter().chain(labelled) {
        if let Some(name) = name.filter(|name| !checked.contains_key(name)) {
            let allowed = match checked.len() {
                0 => "one of `versions`, and there are none".to_owned(),
                _ => format!("one of `versions`: {}", listed(checked.keys())),
            };
            return Err(ManifestError::not_allowed(field, name.as_str(), &allowed));
        }
    }
    if previous.as_ref() == Some(&current) {
        let allowed = "another version than `current`";
        return Err(ManifestError::not_allowed(
            "previous",
            current.as_str(),
            allowed,
        ));
    }
    Ok(Manifest {
        current,
        previous,
        canary,
        labels,
        versions: checked,
    })
}

fn version(name: &VersionName, written: WrittenVersion) -> Result<PublishedVersion, ManifestError> {
    let at = format!("versions.{name}");
    let folder = match written.folder {
        Some(folder) => folder,
        None => FilePath::parse(name.as_str())
            .map_err(|allowed| ManifestError::not_allowed(&at, name.as_str(), &allowed))?,
    };
    files(&format!("{at}.files"), &folder, &written.files)?;
    let model = model(
        &format!("{at}.model"),
        written.model.as_deref(),
        &written.files,
    )?
    .clone();
    let signature = written.signature;
    let signature = signature.map(|signature| signature.checked(&format!("{at}.signature")));
    most(
        &format!("{at}.golden"),
        "golden examples",
        written.golden.len(),
        MAX_GOLDEN,
    )?;
    for (index, golden) in written.golden.iter().enumerate() {
        self::golden(&format!("{at}.golden[{index}]"), golden)?;
    }
    let mut observed: HashMap<(&Observed, Option<usize>), usize> = HashMap::new();
    for (index, baseline) in written.baseline.iter().enumerate() {
        let at = format!("{at}.baseline[{index}]");
        baseline
            .check()
            .map_err(|(field, problem)| ManifestError::field(format!("{at}.{field}"), problem))?;
        if let Some(first) = observed.insert((&baseline.of, baseline.column), index) {
            let problem = format!("baseline[{first}] is of the same column already");
            return Err(ManifestError::field(at, problem));
        }
    }
    Ok(PublishedVersion {
        folder,
        model,
        files: written.files,
        labels: written.labels,
        signature: signature.transpose()?,
        golden: written.golden,
        baseline: written.baseline,
    })
}

fn most(at: &str, what: &str, number: usize, most: usize) -> Result<(), ManifestError> {
    if number <= most {
        return Ok(());
    }
    let problem = format!("there are {number} {what}; it must be at most {most}");
    Err(ManifestError::field(at, problem))
}

/// The files of one version: each has a place of its own, in the bucket and where it is laid out.
fn files(at: &str, folder: &FilePath, files: &[PublishedFile]) -> Result<(), ManifestError> {
    if files.is_empty() {
        return Err(ManifestError::field(
            at,
            "there are no files; it must be at least 1",
        ));
    }
    most(at, "files", files.len(), MAX_FILES)?;
    let mut total = 0_u64;
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        let path = || format!("{at}[{index}].path");
        let laid_out = file.decompressed().map_err(|allowed| {
            let allowed = format!("{allowed}, `.zst` left out");
            ManifestError::not_allowed(path(), file.path.as_str(), &allowed)
        })?;
        FilePath::parse(&format!("{folder}/{}", file.path)).map_err(|_| {
            let problem = format!(
                "{:?} is too long behind the folder {folder}",
                file.path.as_str()
            );
            ManifestError::field(path(), problem)
        })?;
        if let Some(first) = places.insert(laid_out.as_str().to_owned(), index) {
            let place = laid_out.as_str();
            let problem = format!(
                "files[{first}] is laid out as {place:?} too; each file must have its own place"
            );
            return Err(ManifestError::field(path(), problem));
        }
        total = total.checked_add(file.size).ok_or_else(|| {
            let problem = "together the files have 2^64 bytes or more";
            ManifestError::field(format!("{at}[{index}].size"), problem)
        })?;
    }
    for (place, index) in &places {
        let parents = place.match_indices('/').map(|(end, _)| &place[..end]);
        for parent in parents {
            if let Some(file) = places.get(parent) {
                let problem = format!(
                    "{place:?} lies below {parent:?}, which is files[{file}] and no folder"
                );
                return Err(ManifestError::field(format!("{at}[{index}].path"), problem));
            }
        }
    }
    Ok(())
}

/// The file that is loaded.
fn model<'a>(
    at: &str,
    named: Option<&str>,
    files: &'a [PublishedFile],
) -> Result<&'a PublishedFile, ManifestError> {
    let choices = || listed(files.iter().map(|file| format!("{:?}", file.path.as_str())));
    match (named, files) {
        (None, [only]) => Ok(only),
        (None, _) => {
            let problem = format!(
                "it is missing; with several files it must be one of {}",
                choices()
            );
            Err(ManifestError::field(at, problem))
        }
        (Some(name), files) => files
            .iter()
            .find(|file| file.path.as_str() == name)
            .ok_or_else(|| {
                let allowed = format!("the path of one of the files: {}", choices());
                ManifestError::not_allowed(at, name, &allowed)
            }),
    }
}

fn golden(at: &str, golden: &Golden) -> Result<(), ManifestError> {
    if golden.outputs.is_empty() {
        let problem = "there are no outputs; it must be at least 1";
        return Err(ManifestError::field(format!("{at}.outputs"), problem));
    }
    for (side, tensors) in [("inputs", &golden.inputs), ("outputs", &golden.outputs)] {
        let mut names = HashSet::new();
        for (index, tensor) in tensors.iter().enumerate() {
            let field = |name| format!("{at}.{side}[{index}].{name}");
            if !names.insert(&tensor.name) {
                let problem = format!("{:?} is given twice", tensor.name);
                return Err(ManifestError::field(field("name"), problem));
            }
            tensor
                .check()
                .map_err(|problem| ManifestError::field(field("data"), problem))?;
        }
    }
    Ok(())
}

/// Versions may share a folder and files in it, but one object has only one content.
fn agree_on_objects(
    versions: &BTreeMap<VersionName, PublishedVersion>,
) -> Result<(), ManifestError> {
    let mut objects: HashMap<FilePath, (&VersionName, usize, &PublishedFile)> = HashMap::new();
    for (name, version) in versions {
        for (index, file) in version.files.iter().enumerate() {
            let place = version.place(file);
            match objects.get(&place) {
                Some((other, first, same))
                    if (&same.digest, same.size) != (&file.digest, file.size) =>
                {
                    let problem = format!(
                        "{:?} is versions.{other}.files[{first}] too, with another size or SHA-256",
                        place.as_str()
                    );
                    let at = format!("versions.{name}.files[{index}]");
                    return Err(ManifestError::field(at, problem));
                }
                Some(_) => {}
                None => {
                    objects.insert(place, (name, index, file));
                }
            }
        }
    }
    Ok(())
}
