//! `modelctl publish`: uploads a model as a new version, and writes the manifest last.
//!
//! A file is never overwritten, and the manifest is written under the condition that it is the one
//! that was read. So any number of publishers may run at once. One that is killed at any moment leaves
//! the manifest as it was, or as it was going to be. The same command again continues: files
//! that are there are compared instead of uploaded, and a manifest that names them is success.

mod model;
mod placement;
mod version;

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Context as _;
use model_sidecar::engine::{Engine as _, Session};
use model_sidecar::manifest::{Manifest, PublishedVersion};
use model_sidecar::reload::validate_published;
use model_sidecar::tensor::Signature;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::changes;
use crate::console::Console;
use crate::context::Context;
use crate::document::Document;
use crate::failure::{Failure, rejected};
use crate::library;
use crate::published::Published;
use crate::s3::upload::Upload;
use crate::s3::{S3Uri, Written};
use crate::units;
pub(crate) use model::{LocalModel, describe};
use placement::PlacementOptions;
pub(crate) use placement::percent;
pub(crate) use version::signature_json;
use version::{NewVersion, VersionOptions};

/// Maximum number of attempts while other publishers write.
const ATTEMPTS: usize = 20;

/// Metadata of an uploaded object: the key of its manifest, percent-encoded. `prune` deletes no
/// object without it, unless a manifest named the object.
pub(crate) const OWNER: &str = "model-sidecar-manifest";

/// Upload a model as a new version, and make it current
///
/// Loads the model as the sidecar does, runs its golden examples, uploads its files below the
/// manifest's folder, and then writes the manifest. No file is overwritten. The version that was
/// current becomes the fallback version.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  modelctl publish model.onnx s3://models/fraud/manifest.json --golden golden.json
  modelctl publish model.onnx s3://models/fraud/manifest.json --canary 5 --meta commit=1a2b3c4")]
pub(crate) struct Arguments {
    /// The model's file, local or in S3 (`s3://BUCKET/KEY`); its external data is found next to it
    model: String,
    /// The manifest: `s3://BUCKET/…/manifest.json`, created if it is missing
    manifest: S3Uri,
    /// Name of the version [default: the version with the same content, or the next free number]
    #[arg(long, value_name = "NAME")]
    version: Option<String>,
    #[command(flatten)]
    placement: PlacementOptions,
    #[command(flatten)]
    content: VersionOptions,
    /// Accept a model that does not serve callers of the current version
    #[arg(long)]
    allow_incompatible: bool,
    /// Do not load the model, for one with custom operators; its signature is not declared
    #[arg(long)]
    no_load: bool,
    /// Size of the parts in which a large file is uploaded, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u64).range(5..=5120))]
    part_size: u64,
    /// Show the change of the manifest, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    library: library::Library,
}

/// Publishes the model.
pub(crate) async fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Value> {
    let placement = arguments.placement.placement();
    let mut published = Published::read(&arguments.manifest, context).await?;
    let model = LocalModel::open(
        &arguments.model,
        arguments.part_size << 20,
        context,
        console,
    )
    .await?;
    let session = load(arguments, &model, context)?;
    let signature = session
        .as_ref()
        .map(|session| session.signature().published());
    if let Some(signature) = signature.as_ref().filter(|_| !arguments.allow_incompatible) {
        serves_callers(signature, &model, &published)?;
    }
    let version = NewVersion::new(&arguments.content, &model, signature.as_ref())?;
    validate(session.as_deref(), &model, &version)?;
    drop(session);

    // Largest number whose folder has files of other content.
    let mut taken = 0;
    for _ in 0..ATTEMPTS {
        let before = published.state.as_ref().map(|state| &state.document);
        let name = version.name(arguments.version.as_deref(), before, taken)?;
        let mut document = version.added(&name, before)?;
        placement.apply(&mut document, &name, before.is_none())?;
        let manifest = document.manifest()?;
        let changes = changes::between(before, &document);
        let mut result = json!({
            "manifest": published.uri(),
            "version": name,
            "files": Value::Null,
            "changes": changes::to_json(&changes),
            "written": false,
        });
        if arguments.dry_run {
            changes::show(&changes, console);
            console.line("dry run: nothing was uploaded or written");
            return Ok(result);
        }

        let (_, target) = manifest.version(&name)?;
        let files = upload(&model, target, &published, console).await?;
        if let Some((key, _)) = files.iter().find(|(_, upload)| *upload == Upload::Taken) {
            if before.is_some_and(|before| before.versions.contains_key(&name)) {
                return Err(rejected(format!(
                    "cannot publish version {name:?}: {} has other content than the manifest says; see `modelctl \
                     verify`",
                    published.bucket.uri(key)
                )));
            }
            if arguments.version.is_some() {
                return Err(rejected(format!(
                    "cannot publish version {name:?}: {} exists with other content; publish under another --version",
                    published.bucket.uri(key)
                )));
            }
            taken = name.parse().unwrap_or(taken + 1);
            continue;
        }
        result["files"] = files
            .iter()
            .map(|(key, upload)| json!({"key": key, "uploaded": *upload == Upload::Stored}))
            .collect();
        if same(before, &manifest)? {
            console.line(format_args!(
                "{} has version {name} so already",
                published.uri()
            ));
            return Ok(result);
        }
        changes::show(&changes, console);
        match published.write(&document).await? {
            Written::Stored(etag) => {
                let roles = document.roles(&name).join(", ");
                console.line(format_args!(
                    "wrote {}: version {name} is {roles}",
                    published.uri()
                ));
                result["written"] = json!(true);
                result["etag"] = json!(etag);
                return Ok(result);
            }
            Written::Conflict => published.read_again().await?,
        }
    }
    Err(Failure::Conflict(format!(
        "cannot write {}: other publishers wrote {ATTEMPTS} times in between; publish again",
        published.uri()
    ))
    .into())
}

fn same(before: Option<&Document>, after: &Manifest) -> anyhow::Result<bool> {
    Ok(match before {
        Some(before) => before.manifest()? == *after,
        None => false,
    })
}

/// Loads the model; `None` if it is not to be loaded.
fn load(
    arguments: &Arguments,
    model: &LocalModel,
    context: &Context,
) -> anyhow::Result<Option<Box<dyn Session>>> {
    if arguments.no_load {
        return Ok(None);
    }
    let engine = context.engine(&arguments.library.find()?)?;
    let session = engine.load(&model.file, None).map_err(|error| {
        rejected(format!(
            "cannot publish {}: {error}; `modelctl check` says more, and --no-load publishes a model with custom \
             operators",
            model.file.display()
        ))
    })?;
    Ok(Some(session))
}

/// Checks that a model with this signature serves callers of the current version.
fn serves_callers(
    signature: &Signature,
    model: &LocalModel,
    published: &Published,
) -> anyhow::Result<()> {
    let Some(state) = &published.state else {
        return Ok(());
    };
    let manifest = state.document.manifest()?;
    let (name, current) = manifest.current();
    let Some(declared) = &current.signature else {
        return Ok(());
    };
    signature.serves_callers_of(declared).map_err(|problem| {
        rejected(format!(
            "cannot publish {}: it does not serve callers of version {name}: {problem}; --allow-incompatible publishes \
             an intended change",
            model.file.display()
        ))
    })
}

/// Validates the version as the sidecar will before it becomes active there.
fn validate(
    session: Option<&dyn Session>,
    model: &LocalModel,
    version: &NewVersion,
) -> anyhow::Result<()> {
    // Without a session, the form alone.
    let manifest = version.added("1", None)?.manifest()?;
    let Some(session) = session else {
        return Ok(());
    };
    let (_, version) = manifest.current();
    validate_published(session, version).map_err(|reason| {
        rejected(format!(
            "cannot publish {}: {reason}; correct the model, or make new examples with `modelctl golden`",
            model.file.display()
        ))
    })
}

/// Uploads the files of the version in their order, so that of two publishers the first one has all
/// files. Returns each key with its outcome, up to the first key that is taken.
async fn upload(
    model: &LocalModel,
    version: &PublishedVersion,
    published: &Published,
    console: &Console,
) -> anyhow::Result<Vec<(String, Upload)>> {
    let owner = utf8_percent_encode(&published.key, NON_ALPHANUMERIC).to_string();
    let metadata = HashMap::from([(OWNER.to_owned(), owner)]);
    let progress = console.progress("uploading", model.size());
    let mut outcomes = Vec::new();
    for (path, file) in &model.files {
        let published_file = version.files.iter().find(|file| file.path == *path);
        let published_file =
            published_file.context("cannot find an uploaded file in the version")?;
        let key = published.key_of(version.path_of(published_file).as_str());
        let outcome = published
            .bucket
            .upload(&key, file, &metadata, &progress)
            .await?;
        if outcome == Upload::Stored {
            console.line(format_args!(
                "uploaded {} ({})",
                published.bucket.uri(&key),
                units::bytes(file.size)
            ));
        }
        let taken = outcome == Upload::Taken;
        outcomes.push((key, outcome));
        if taken {
            break;
        }
    }
    progress.finish_and_clear();
    Ok(outcomes)
}

/// Reads a JSON file of the version's content.
fn read_json(path: &PathBuf, option: &str) -> anyhow::Result<Box<serde_json::value::RawValue>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {option} {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("cannot read {option} {}: it is not JSON", path.display()))
}
