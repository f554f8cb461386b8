//! `modelctl rollback`: makes an earlier version current again.

use anyhow::Context as _;
use serde_json::Value;

use crate::console::Console;
use crate::context::Context;
use crate::failure::rejected;
use crate::published::{EditOptions, Published};
use crate::s3::S3Uri;

/// Make the previous version current again
///
/// The bad version is no longer named as a fallback version. It stays in the manifest until `prune`.
/// A canary is not touched, unless its version becomes current; `canary --end` ends it.
#[derive(clap::Args)]
#[command(after_help = "Example:
  modelctl rollback s3://models/fraud/manifest.json --from 7")]
pub(crate) struct Arguments {
    /// The manifest
    manifest: S3Uri,
    /// The version to return to [default: the previous one]
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// Reject the command unless this version is current now
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    #[command(flatten)]
    edit: EditOptions,
}

/// Rolls back.
pub(crate) async fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Value> {
    let mut published = Published::read(&arguments.manifest, context).await?;
    let edit = published.edit(&arguments.edit, console, |document| {
        document.require_current(arguments.from.as_deref())?;
        let to = arguments.to.clone().or_else(|| document.previous.clone());
        let to = to.ok_or_else(|| {
            rejected("the manifest names no previous version; name the version with --to")
        })?;
        document.require(&to)?;
        document.roll_back(&to);
        Ok(())
    });
    edit.await.context("cannot roll back")
}
