//! Consistency checks between the fields of a manifest: names must refer to versions, and files must not collide.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::baseline::{Baseline, Observed};
use super::error::{ManifestError, listed};
use super::golden::Golden;
use super::written::{WrittenManifest, WrittenVersion, WrittenVersions};
use super::{MAX_BASELINES, MAX_FILES, MAX_GOLDEN, Manifest, PublishedFile, PublishedVersion};
use crate::ids::{FilePath, VersionName};

/// Builds a manifest from its written form. The error names the first inconsistent field.
pub(super) fn manifest(written: WrittenManifest) -> Result<Manifest, ManifestError> {
    let WrittenVersions(versions) = written.versions;
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
                0 => "one of `versions`, which is empty".to_owned(),
                _ => format!("one of `versions`: {}", listed(checked.keys())),
            };
            return Err(ManifestError::not_allowed(field, name.as_str(), &allowed));
        }
    }
    if previous.as_ref() == Some(&current) {
        let allowed = "a version other than `current`";
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
    at_most(
        &format!("{at}.golden"),
        "golden examples",
        written.golden.len(),
        MAX_GOLDEN,
    )?;
    for (index, golden) in written.golden.iter().enumerate() {
        self::golden(&format!("{at}.golden[{index}]"), golden)?;
    }
    baselines(&format!("{at}.baseline"), &written.baseline)?;
    Ok(PublishedVersion {
        folder,
        model,
        files: written.files,
        labels: written.labels,
        signature: signature.transpose()?,
        golden: written.golden,
        baseline: written.baseline,
        meta: written.meta,
    })
}

fn at_most(at: &str, what: &str, number: usize, most: usize) -> Result<(), ManifestError> {
    if number <= most {
        return Ok(());
    }
    let problem = format!("there are {number} {what}; the maximum is {most}");
    Err(ManifestError::field(at, problem))
}

/// Checks the files of one version: each must have its own path, in the bucket and in the cache.
fn files(at: &str, folder: &FilePath, files: &[PublishedFile]) -> Result<(), ManifestError> {
    if files.is_empty() {
        return Err(ManifestError::field(
            at,
            "there are no files; the minimum is 1",
        ));
    }
    at_most(at, "files", files.len(), MAX_FILES)?;
    let mut total = 0_u64;
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        let path = || format!("{at}[{index}].path");
        let laid_out = file.decompressed().map_err(|allowed| {
            let allowed = format!("{allowed}, after `.zst` is removed");
            ManifestError::not_allowed(path(), file.path.as_str(), &allowed)
        })?;
        FilePath::parse(&format!("{folder}/{}", file.path)).map_err(|_| {
            let problem = format!(
                "{:?} is too long with the folder {folder}",
                file.path.as_str()
            );
            ManifestError::field(path(), problem)
        })?;
        if let Some(first) = places.insert(laid_out.as_str().to_owned(), index) {
            let place = laid_out.as_str();
            let problem = format!(
                "files[{first}] is stored as {place:?} as well; each file needs its own path"
            );
            return Err(ManifestError::field(path(), problem));
        }
        total = total.checked_add(file.size).ok_or_else(|| {
            let problem = "the sum of the sizes is 2^64 bytes or more";
            ManifestError::field(format!("{at}[{index}].size"), problem)
        })?;
    }
    for (place, index) in &places {
        let parents = place.match_indices('/').map(|(end, _)| &place[..end]);
        for parent in parents {
            if let Some(file) = places.get(parent) {
                let problem = format!(
                    "{place:?} is below {parent:?}, which is files[{file}] and not a folder"
                );
                return Err(ManifestError::field(format!("{at}[{index}].path"), problem));
            }
        }
    }
    Ok(())
}

/// Checks the histograms of a baseline: each column must have its own.
fn baselines(at: &str, baselines: &[Baseline]) -> Result<(), ManifestError> {
    let (inputs, outputs): (Vec<_>, Vec<_>) = baselines
        .iter()
        .partition(|baseline| matches!(baseline.of, Observed::Input(_)));
    at_most(at, "histograms of inputs", inputs.len(), MAX_BASELINES)?;
    at_most(at, "histograms of outputs", outputs.len(), MAX_BASELINES)?;
    let mut observed: HashMap<(&Observed, Option<usize>), usize> = HashMap::new();
    for (index, baseline) in baselines.iter().enumerate() {
        let at = format!("{at}[{index}]");
        baseline
            .check()
            .map_err(|(field, problem)| ManifestError::field(format!("{at}.{field}"), problem))?;
        if let Some(first) = observed.insert((&baseline.of, baseline.column), index) {
            let problem = format!("baseline[{first}] describes the same column");
            return Err(ManifestError::field(at, problem));
        }
    }
    Ok(())
}

/// Returns the file that is loaded.
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
                "the field is missing; with several files it must be one of {}",
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
        let problem = "there are no outputs; the minimum is 1";
        return Err(ManifestError::field(format!("{at}.outputs"), problem));
    }
    for (side, tensors) in [("inputs", &golden.inputs), ("outputs", &golden.outputs)] {
        let mut names = HashSet::new();
        for (index, tensor) in tensors.iter().enumerate() {
            let field = |name| format!("{at}.{side}[{index}].{name}");
            if !names.insert(&tensor.name) {
                let problem = format!("{:?} is defined twice", tensor.name);
                return Err(ManifestError::field(field("name"), problem));
            }
            tensor
                .check()
                .map_err(|problem| ManifestError::field(field("data"), problem))?;
        }
    }
    Ok(())
}

/// Checks that versions that share an object agree on its size and SHA-256.
fn agree_on_objects(
    versions: &BTreeMap<VersionName, PublishedVersion>,
) -> Result<(), ManifestError> {
    let mut objects: HashMap<FilePath, (&VersionName, usize, &PublishedFile)> = HashMap::new();
    for (name, version) in versions {
        for (index, file) in version.files.iter().enumerate() {
            let place = version.path_of(file);
            match objects.get(&place) {
                Some((other, first, same))
                    if (&same.digest, same.size) != (&file.digest, file.size) =>
                {
                    let problem = format!(
                        "{:?} is versions.{other}.files[{first}] as well, with another size or SHA-256",
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
