//! `modelctl history`: the earlier states of a manifest, which a bucket with versioning keeps.

use anyhow::bail;
use model_sidecar::manifest::MAX_BYTES;
use serde_json::{Value, json};

use crate::changes;
use crate::console::Console;
use crate::context::Context;
use crate::document::Document;
use crate::published::Published;
use crate::s3::{ListedVersion, S3Uri, date};

/// Show the changes of a manifest, newest first
///
/// Reads the S3 versions of the manifest; the bucket must have versioning enabled.
#[derive(clap::Args)]
#[command(after_help = "Example:
  modelctl history s3://models/fraud/manifest.json --last 5")]
pub(crate) struct Arguments {
    /// The manifest
    manifest: S3Uri,
    /// Maximum number of changes
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    last: usize,
}

/// Earlier state of a manifest. The document is the reason why it is unreadable, if it is.
pub(crate) struct Past {
    pub(crate) version: ListedVersion,
    pub(crate) document: Result<Document, String>,
}

/// Shows the changes.
pub(crate) async fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Value> {
    let published = Published::read(&arguments.manifest, context).await?;
    let listed = versions(&published).await?;
    if listed.is_empty() {
        bail!(
            "cannot find {}: the bucket has no version of it",
            published.uri()
        );
    }
    // One more than is shown, to compare with.
    let mut past = Vec::new();
    for version in listed.into_iter().take(arguments.last.saturating_add(1)) {
        past.push(read(&published, version).await?);
    }
    let mut entries = Vec::new();
    for (index, state) in past.iter().take(arguments.last).enumerate() {
        let ListedVersion { id, modified, .. } = &state.version;
        console.line(format_args!("{}  version ID {id}", date(*modified)));
        let before = past
            .get(index + 1)
            .and_then(|past| past.document.as_ref().ok());
        let changes = match &state.document {
            Ok(document) => {
                let changes = changes::between(before, document);
                changes::show(&changes, console);
                changes::to_json(&changes)
            }
            Err(reason) => {
                console.line(format_args!("  {reason}"));
                json!(reason)
            }
        };
        entries.push(json!({"at": date(*modified), "version_id": id, "changes": changes}));
    }
    Ok(entries.into())
}

/// Lists the versions of the manifest, newest first.
pub(crate) async fn versions(published: &Published) -> anyhow::Result<Vec<ListedVersion>> {
    let listed = published.bucket.versions(&published.key).await?;
    let own = listed
        .into_iter()
        .filter(|version| version.key == published.key);
    Ok(own.collect())
}

/// Reads one version of the manifest.
pub(crate) async fn read(published: &Published, version: ListedVersion) -> anyhow::Result<Past> {
    let document = if version.is_delete_marker {
        Err("the manifest was deleted".to_owned())
    } else {
        let (key, limit) = (&published.key, MAX_BYTES as u64);
        let id = Some(version.id.as_str()).filter(|id| *id != "null");
        match published.bucket.get_version(key, id, limit).await? {
            Some(content) => Document::parse(&content.bytes).map_err(|error| error.to_string()),
            None => Err("this version was deleted".to_owned()),
        }
    };
    Ok(Past { version, document })
}
