//! Place of a new version in the manifest: current, canary, labelled, or fallback version.

use crate::document::{Canary, Document};
use crate::failure::rejected;

/// Options for the place, at most one of them.
#[derive(Clone, Debug, clap::Args)]
#[group(multiple = false)]
pub(super) struct PlacementOptions {
    /// Let this percentage of the environments run the version, instead of making it current
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    canary: Option<f64>,
    /// Give the version this label, instead of making it current
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    /// Make the version the fallback version, instead of making it current
    #[arg(long)]
    previous: bool,
}

/// Place of a version.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Placement {
    Current,
    Canary(f64),
    Label(String),
    Previous,
}

/// Parses a percentage from 0 to 100.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').trim().parse().ok();
    let number = number.filter(|percent| (0.0..=100.0).contains(percent));
    number.ok_or_else(|| "expected a number from 0 to 100, such as 5".to_owned())
}

impl PlacementOptions {
    pub(super) fn placement(&self) -> Placement {
        match self {
            Self {
                canary: Some(percent),
                ..
            } => Placement::Canary(*percent),
            Self {
                label: Some(label), ..
            } => Placement::Label(label.clone()),
            Self { previous: true, .. } => Placement::Previous,
            _ => Placement::Current,
        }
    }
}

impl Placement {
    /// Places a version of the document. The first version of a manifest is always current.
    pub(super) fn apply(
        &self,
        document: &mut Document,
        version: &str,
        is_first: bool,
    ) -> anyhow::Result<()> {
        let is_current = !is_first && document.current == version;
        match self {
            Placement::Current => document.release(version),
            Placement::Label(label) => {
                document
                    .version_labels
                    .insert(label.clone(), version.to_owned());
            }
            Placement::Canary(_) | Placement::Previous if is_first => {
                return Err(rejected(
                    "there is no manifest yet, and its first version is current: publish without --canary or \
                     --previous",
                ));
            }
            Placement::Canary(_) | Placement::Previous if is_current => {
                return Err(rejected(format!(
                    "version {version:?} has this content and is current; nothing is left to roll out"
                )));
            }
            Placement::Canary(percent) => {
                document.canary = Some(Canary {
                    version: version.to_owned(),
                    percent: *percent,
                });
            }
            Placement::Previous => document.previous = Some(version.to_owned()),
        }
        Ok(())
    }
}
