//! `modelctl promote`: makes a version current.

use anyhow::Context as _;
use serde_json::Value;

use crate::console::Console;
use crate::context::Context;
use crate::published::{EditOptions, Published};
use crate::s3::S3Uri;

/// Make a version current, by default the canary
///
/// The version that was current becomes the fallback version, and the canary of the promoted
/// version ends.
#[derive(clap::Args)]
#[command(after_help = "Example:
  modelctl promote s3://models/fraud/manifest.json --version 7 --from 6")]
pub(crate) struct Arguments {
    /// The manifest
    manifest: S3Uri,
    /// The version [default: the canary's]
    #[arg(long, value_name = "NAME")]
    version: Option<String>,
    /// Reject the command unless this version, or already the promoted one, is current now
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    #[command(flatten)]
    edit: EditOptions,
}

/// Promotes the version.
pub(crate) async fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Value> {
    let mut published = Published::read(&arguments.manifest, context).await?;
    let edit = published.edit(&arguments.edit, console, |document| {
        let version = document.version_or_canary(arguments.version.as_deref())?;
        // An earlier run whose response was lost may have promoted it.
        if document.current != version {
            document.require_current(arguments.from.as_deref())?;
        }
        document.release(&version);
        Ok(())
    });
    edit.await.context("cannot promote")
}
