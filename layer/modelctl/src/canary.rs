//! `modelctl canary`: begins, changes or ends a canary.

use anyhow::Context as _;
use serde_json::Value;

use crate::console::Console;
use crate::context::Context;
use crate::document::Canary;
use crate::failure::rejected;
use crate::publish::percent;
use crate::published::{EditOptions, Published};
use crate::s3::S3Uri;

/// Let a share of the environments run a version
///
/// Raising the percentage never removes an environment from the canary. `promote` finishes a canary.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  modelctl canary s3://models/fraud/manifest.json 25 --version 7
  modelctl canary s3://models/fraud/manifest.json --end")]
pub(crate) struct Arguments {
    /// The manifest
    manifest: S3Uri,
    /// Percentage of the environments, from 0 to 100
    #[arg(value_parser = percent, required_unless_present = "end")]
    percent: Option<f64>,
    /// The version [default: the canary's]
    #[arg(long, value_name = "NAME")]
    version: Option<String>,
    /// End the canary: its environments return to the current version
    #[arg(long, conflicts_with_all = ["percent", "version"])]
    end: bool,
    #[command(flatten)]
    edit: EditOptions,
}

/// Changes the canary.
pub(crate) async fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Value> {
    let mut published = Published::read(&arguments.manifest, context).await?;
    let edit = published.edit(&arguments.edit, console, |document| {
        let Some(percent) = arguments.percent else {
            document.canary = None;
            return Ok(());
        };
        let version = document.version_or_canary(arguments.version.as_deref())?;
        if version == document.current {
            return Err(rejected(format!(
                "version {version:?} is current; a canary is another version"
            )));
        }
        document.canary = Some(Canary { version, percent });
        Ok(())
    });
    edit.await.context("cannot change the canary")
}
