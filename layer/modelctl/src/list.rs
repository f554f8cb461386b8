//! `modelctl list`: the versions of a manifest.

use model_sidecar::manifest::PublishedVersion;
use serde_json::{Value, json};

use crate::console::Console;
use crate::context::Context;
use crate::document::Document;
use crate::published::Published;
use crate::s3::S3Uri;
use crate::units;

/// List the versions of a manifest, with their roles
#[derive(clap::Args)]
#[command(after_help = "Example:
  modelctl list s3://models/fraud/manifest.json")]
pub(crate) struct Arguments {
    /// The manifest
    manifest: S3Uri,
}

/// Lists the versions.
pub(crate) async fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Value> {
    let published = Published::read(&arguments.manifest, context).await?;
    versions(&published.existing()?.document, console)
}

/// Prints a line for each version, and returns all as JSON.
pub(crate) fn versions(document: &Document, console: &Console) -> anyhow::Result<Value> {
    let manifest = document.manifest()?;
    let mut rows = Vec::new();
    let mut list = Vec::new();
    for (name, version) in manifest.versions() {
        let roles = document.roles(name.as_str());
        let meta = version
            .meta
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        rows.push([
            name.to_string(),
            roles.join(", "),
            units::bytes(version.size()),
            digest(version).get(..12).unwrap_or_default().to_owned(),
            meta.collect::<Vec<_>>().join(" "),
        ]);
        list.push(json!({
            "version": name.as_str(),
            "roles": roles,
            "bytes": version.size(),
            "sha256": digest(version),
            "files": version.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
            "golden": version.golden.len(),
            "meta": version.meta.iter().collect::<std::collections::BTreeMap<_, _>>(),
        }));
    }
    table(
        ["version", "role", "size", "sha256", "meta"],
        &rows,
        console,
    );
    Ok(list.into())
}

/// SHA-256 of the file that is loaded.
fn digest(version: &PublishedVersion) -> &str {
    version.model.digest.as_str()
}

/// Prints a table with aligned columns.
pub(crate) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]], console: &Console) {
    let heading = heading.map(str::to_owned);
    let all = || std::iter::once(&heading).chain(rows);
    let mut widths = [0; N];
    for row in all() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in all() {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
        console.line(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
