//! The version of a manifest that is made of a model and its publisher's additions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use model_sidecar::ids::FilePath;
use model_sidecar::manifest::PublishedVersion;
use model_sidecar::tensor::{Port, Signature};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::model::LocalModel;
use super::read_json;
use crate::document::Document;

/// Additions of the publisher.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct VersionOptions {
    /// Golden examples, from `modelctl golden`
    #[arg(long, value_name = "FILE")]
    golden: Option<PathBuf>,
    /// Distributions of inputs and outputs, from `modelctl baseline`
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Names of the model's classes, in their order
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    classes: Vec<String>,
    /// Note about the version, such as `commit=1a2b3c4`; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = entry)]
    meta: Vec<(String, String)>,
}

fn entry(text: &str) -> Result<(String, String), String> {
    let entry = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let entry = entry.map(|(key, value)| (key.to_owned(), value.to_owned()));
    entry.ok_or_else(|| "expected KEY=VALUE, such as commit=1a2b3c4".to_owned())
}

/// Version without its name and its folder.
#[derive(Clone, Debug, Serialize)]
pub(super) struct NewVersion {
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<FilePath>,
    files: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    golden: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta: BTreeMap<String, String>,
}

impl NewVersion {
    pub(super) fn new(
        options: &VersionOptions,
        model: &LocalModel,
        signature: Option<&Signature>,
    ) -> anyhow::Result<Self> {
        let file = |option: &Option<PathBuf>, name| {
            let file = option.as_ref();
            file.map(|file| read_json(file, name)).transpose()
        };
        let files = model
            .files
            .iter()
            .map(|(path, file)| json!({"path": path, "size": file.size, "sha256": file.digest()}));
        Ok(Self {
            folder: None,
            model: (model.files.len() > 1).then(|| model.files[0].0.clone()),
            files: files.collect(),
            labels: options.classes.clone(),
            signature: signature.map(signature_json),
            golden: file(&options.golden, "--golden")?,
            baseline: file(&options.baseline, "--baseline")?,
            meta: options.meta.iter().cloned().collect(),
        })
    }

    /// Returns the document with this version under a name. A version of this name with the same
    /// content stays as it is.
    pub(super) fn added(&self, name: &str, before: Option<&Document>) -> anyhow::Result<Document> {
        let version = to_raw_value(self).context("cannot write the version")?;
        let Some(before) = before else {
            return Ok(Document::first(name, version));
        };
        let mut document = before.clone();
        if before.versions.contains_key(name) {
            // Checked by `name`.
            return Ok(document);
        }
        document.versions.insert(name.to_owned(), version);
        Ok(document)
    }

    /// Returns the name for this version: the given one, or that of a version with the same content.
    /// Otherwise it is a number above all others and above `taken`.
    pub(super) fn name(
        &self,
        given: Option<&str>,
        before: Option<&Document>,
        taken: u64,
    ) -> anyhow::Result<String> {
        let Some(before) = before else {
            let first = || (taken + 1).to_string();
            return Ok(given.map_or_else(first, str::to_owned));
        };
        let own = self.added("1", None)?.manifest()?;
        let (_, own) = own.current();
        let manifest = before.manifest()?;
        let mut same = manifest.versions().filter(|(_, other)| is_same(own, other));
        if let Some(given) = given {
            let there = manifest.version(given).ok();
            if there.is_some_and(|(_, there)| !is_same(own, there)) {
                return Err(crate::failure::rejected(format!(
                    "cannot publish version {given:?}: the manifest has it with other content; publish under another \
                     --version"
                )));
            }
            return Ok(given.to_owned());
        }
        if let Some((name, _)) = same.next() {
            return Ok(name.as_str().to_owned());
        }
        let numbers = manifest.versions();
        let numbers = numbers.filter_map(|(name, _)| name.as_str().parse::<u64>().ok());
        let last = numbers.max().unwrap_or_default().max(taken);
        Ok((last + 1).to_string())
    }
}

/// Returns `true` if both are the same in all but their folders.
fn is_same(own: &PublishedVersion, other: &PublishedVersion) -> bool {
    let mut own = own.clone();
    own.folder = other.folder.clone();
    own == *other
}

/// Signature in the form of the manifest.
pub(crate) fn signature_json(signature: &Signature) -> Value {
    let ports = |ports: &[Port]| -> Value {
        let ports = ports.iter().map(|port| {
            let (datatype, shape) = port.kind.outline();
            let length = |length: &Option<usize>| length.map_or(json!(-1), |length| json!(length));
            let shape: Vec<Value> = shape.iter().map(length).collect();
            json!({"name": port.name, "datatype": datatype, "shape": shape})
        });
        ports.collect()
    };
    json!({"inputs": ports(&signature.inputs), "outputs": ports(&signature.outputs)})
}
