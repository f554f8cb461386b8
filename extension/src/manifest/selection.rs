//! Selection of the version that this environment runs, and of its fallbacks.
//!
//! Pure: the same manifest, choice and rollout position select the same version. A [canary](super::canary) runs on a
//! share of the environments.

use std::fmt::{self, Display};

use super::canary::RolloutPosition;
use super::choice::Choice;
use super::error::ManifestError;
use super::{Manifest, PublishedVersion};
use crate::ids::{ModelName, VersionName};

/// Version with its name.
pub type NamedVersion<'a> = (&'a VersionName, &'a PublishedVersion);

/// Version of a manifest that this environment should run.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection<'a> {
    /// The wanted version.
    pub version: NamedVersion<'a>,
    /// Fallback versions for the case that the wanted version cannot be fetched or is rejected; best first, without
    /// duplicates.
    pub fallbacks: Vec<NamedVersion<'a>>,
    /// Reason for the selection.
    pub reason: SelectionReason,
}

/// Reason for the selection of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectionReason {
    /// The version is current.
    Current,
    /// The environment is in the canary's share.
    Canary,
    /// `MODEL_VERSION` names the version.
    Pinned,
    /// The version has the label that `MODEL_LABEL` names.
    Labelled,
}

impl Display for SelectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SelectionReason::Current => "current",
            SelectionReason::Canary => "canary",
            SelectionReason::Pinned => "MODEL_VERSION",
            SelectionReason::Labelled => "MODEL_LABEL",
        })
    }
}

impl Manifest {
    /// Selects the version to run and its fallbacks. A pinned version has no fallback. A canary falls back to
    /// `current`, and every other version to `previous`. `position` is called only if the manifest has a canary that
    /// may be selected.
    ///
    /// # Errors
    /// The version or the label is not in the manifest; the error lists the known names.
    pub fn select(
        &self,
        choice: &Choice,
        model: &ModelName,
        position: impl FnOnce() -> RolloutPosition,
    ) -> Result<Selection<'_>, ManifestError> {
        let (current, previous) = (self.current(), self.previous());
        let canary = self.canary.as_ref().filter(|canary| {
            *choice == Choice::Newest
                && canary.version != self.current
                && position().is_in(canary, model)
        });
        let (version, fallbacks, reason) = match (choice, canary) {
            (Choice::Version(name), _) => {
                (self.version(name)?, [None, None], SelectionReason::Pinned)
            }
            (Choice::Label(label), _) => {
                let name = self.labels.version(label).ok_or_else(|| {
                    let labels = self.labels.iter().map(|(label, _)| label);
                    ManifestError::no_label(label, labels)
                })?;
                (
                    self.version(name.as_str())?,
                    [previous, None],
                    SelectionReason::Labelled,
                )
            }
            (Choice::Newest, Some(canary)) => {
                let version = self.version(canary.version.as_str())?;
                (version, [Some(current), previous], SelectionReason::Canary)
            }
            (Choice::Newest, None) => (current, [previous, None], SelectionReason::Current),
        };
        let fallbacks = fallbacks.into_iter().flatten();
        Ok(Selection {
            version,
            fallbacks: fallbacks.filter(|(name, _)| *name != version.0).collect(),
            reason,
        })
    }
}
