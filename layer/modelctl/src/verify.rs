//! `modelctl verify`: reads every object that a manifest names, and compares it with its digest.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;

use model_sidecar::manifest::{PublishedFile, PublishedVersion};
use serde_json::{Value, json};

use crate::changes::counted;
use crate::console::Console;
use crate::content;
use crate::context::Context;
use crate::failure::rejected;
use crate::published::Published;
use crate::s3::S3Uri;
use crate::units;

/// Read every object that the manifest names, and compare it with its SHA-256
#[derive(clap::Args)]
#[command(after_help = "Example:
  modelctl verify s3://models/fraud/manifest.json --version 7")]
pub(crate) struct Arguments {
    /// The manifest
    manifest: S3Uri,
    /// Verify this version alone; repeatable [default: all versions]
    #[arg(long = "version", value_name = "NAME")]
    versions: Vec<String>,
}

/// Verifies the objects.
pub(crate) async fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Value> {
    let published = Published::read(&arguments.manifest, context).await?;
    let manifest = published.existing()?.document.manifest()?;
    for version in &arguments.versions {
        published.existing()?.document.require(version)?;
    }
    let wanted = manifest.versions().filter(|(name, _)| {
        arguments.versions.is_empty() || arguments.versions.iter().any(|one| one == name.as_str())
    });
    let files: Vec<(&PublishedVersion, &PublishedFile)> = wanted
        .flat_map(|(_, version)| version.files.iter().map(move |file| (version, file)))
        .collect();
    let bytes = files.iter().map(|(_, file)| file.size).sum();
    let progress = console.progress("verifying", bytes);
    let mut verified = BTreeMap::new();
    for (version, file) in files {
        let key = published.key_of(version.path_of(file).as_str());
        let Entry::Vacant(entry) = verified.entry(key) else {
            continue;
        };
        let key = entry.key();
        let problem = content::read(&published, key, file, &mut io::sink(), &progress).await?;
        if let Some(problem) = &problem {
            console.line(format_args!("{}: {problem}", published.bucket.uri(key)));
        }
        entry.insert(problem);
    }
    progress.finish_and_clear();
    let bad = verified.values().flatten().count();
    let objects = counted(verified.len(), "object");
    if bad > 0 {
        return Err(rejected(format!(
            "cannot confirm {}: {bad} of {objects} differ; publish those versions again under new names",
            published.uri()
        )));
    }
    console.line(format_args!(
        "{objects} as declared ({})",
        units::bytes(bytes)
    ));
    Ok(json!({"manifest": published.uri(), "objects": verified.len(), "bytes": bytes}))
}
