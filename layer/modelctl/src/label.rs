//! `modelctl label`: gives, moves or removes a label.

use anyhow::Context as _;
use serde_json::Value;

use crate::console::Console;
use crate::context::Context;
use crate::failure::rejected;
use crate::published::{EditOptions, Published};
use crate::s3::S3Uri;

/// Give a version a label, which functions follow with `MODEL_LABEL`
#[derive(clap::Args)]
#[command(after_help = "Examples:
  modelctl label s3://models/fraud/manifest.json staging=7
  modelctl label s3://models/fraud/manifest.json staging --remove")]
pub(crate) struct Arguments {
    /// The manifest
    manifest: S3Uri,
    /// The label and its version: LABEL=VERSION; LABEL alone with --remove
    label: String,
    /// Remove the label; functions that follow it keep the version that they have
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    edit: EditOptions,
}

/// Changes the label.
pub(crate) async fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Value> {
    let mut published = Published::read(&arguments.manifest, context).await?;
    let edit = published.edit(&arguments.edit, console, |document| {
        let labels = &mut document.version_labels;
        match (arguments.label.split_once('='), arguments.remove) {
            (None, true) => match labels.remove(&arguments.label) {
                Some(_) => Ok(()),
                None => {
                    let known: Vec<&str> = labels.keys().map(String::as_str).collect();
                    Err(rejected(format!(
                        "there is no label {:?}; the labels are {known:?}",
                        arguments.label
                    )))
                }
            },
            (Some((label, version)), false) => {
                labels.insert(label.to_owned(), version.to_owned());
                document.require(version)
            }
            _ => Err(rejected(
                "expected LABEL=VERSION, such as staging=7, or LABEL with --remove",
            )),
        }
    });
    edit.await.context("cannot change the label")
}
