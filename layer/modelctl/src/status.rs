//! `modelctl status`: a manifest, the objects that it names, and the fleet that reads it.

mod fleet;
mod series;

use std::collections::BTreeMap;

use model_sidecar::manifest::Manifest;
use serde_json::{Value, json};

use crate::changes::counted;
use crate::console::Console;
use crate::context::Context;
use crate::list;
use crate::published::Published;
use crate::s3::{S3Uri, date};
use crate::units;
use fleet::FleetOptions;

/// Show a manifest, find missing objects, and show what a fleet reports
///
/// Compares sizes of objects alone; `verify` reads the objects. With --function, CloudWatch is asked for the active
/// versions, rejections and rollbacks.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  modelctl status s3://models/fraud/manifest.json
  modelctl status s3://models/fraud/manifest.json --function fraud --minutes 60")]
pub(crate) struct Arguments {
    /// The manifest
    manifest: S3Uri,
    #[command(flatten)]
    fleet: FleetOptions,
}

/// Shows the state.
pub(crate) async fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Value> {
    let published = Published::read(&arguments.manifest, context).await?;
    let state = published.existing()?;
    let manifest = state.document.manifest()?;
    let written = date(state.modified);
    console.line(format_args!("{}", published.uri()));
    console.line(format_args!("written {written}, ETag {}", state.etag));
    let versions = list::versions(&state.document, console)?;
    let objects = objects(&published, &manifest);
    let mut problems = Vec::new();
    for (key, size) in &objects {
        let problem = match published.bucket.head(key).await? {
            None => "is missing".to_owned(),
            Some(head) if size.is_some_and(|size| size != head.size) => {
                format!(
                    "has {} bytes, declared are {}",
                    head.size,
                    size.unwrap_or_default()
                )
            }
            Some(_) => continue,
        };
        console.line(format_args!("{} {problem}", published.bucket.uri(key)));
        problems.push(json!({"key": key, "problem": problem}));
    }
    let total = manifest.versions().map(|(_, version)| version.size()).sum();
    let count = counted(objects.len(), "object");
    match problems.len() {
        0 => console.line(format_args!("{count} present ({})", units::bytes(total))),
        bad => console.line(format_args!("{bad} of {count} missing or of another size")),
    }
    let fleet = match &arguments.fleet.function {
        Some(function) => {
            let (options, document) = (&arguments.fleet, &state.document);
            Some(fleet::show(function, options, document, context, console).await?)
        }
        None => None,
    };
    Ok(json!({
        "manifest": published.uri(),
        "etag": state.etag,
        "written": written,
        "current": state.document.current,
        "previous": state.document.previous,
        "canary": state.document.canary,
        "version_labels": state.document.version_labels,
        "versions": versions,
        "objects": objects.len(),
        "problems": problems,
        "fleet": fleet,
    }))
}

/// Keys of the objects that a manifest names, with their sizes. The size of a compressed object is
/// not declared.
pub(crate) fn objects(published: &Published, manifest: &Manifest) -> BTreeMap<String, Option<u64>> {
    let versions = manifest.versions();
    let files = versions.flat_map(|(_, version)| {
        let files = version.files.iter();
        files.map(move |file| (version.path_of(file), file))
    });
    let objects = files.map(|(path, file)| {
        let size = (!file.is_compressed()).then_some(file.size);
        (published.key_of(path.as_str()), size)
    });
    objects.collect()
}
