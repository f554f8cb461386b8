//! Which of a manifest's versions this environment is to run, and what may stand in for it.
//!
//! Pure: the same manifest, choice and draw give the same version. A canary is a share of the environments: each has a
//! [`RolloutPosition`], which stays the same as long as the environment lives. For every model and every canary it is mixed anew,
//! so that not always the same environments try what is new; and whoever is in at one share is in at every larger one.

use std::fmt::{self, Display};

use sha2::{Digest as _, Sha256};

use super::{Canary, Manifest, ManifestError, PublishedVersion, VersionName};
use crate::config::Choice;
use crate::ids::ModelName;

/// What an environment has drawn, once: any number, each as likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutPosition(pub u64);

/// A version and its name.
pub type Named<'a> = (&'a VersionName, &'a PublishedVersion);

/// What a manifest has this environment run.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen<'a> {
    /// The version.
    pub version: Named<'a>,
    /// Those that may stand in where it cannot be had or is refused, the best first; none is there twice.
    pub stand_ins: Vec<Named<'a>>,
    /// Why that version.
    pub why: Why,
}

/// Why a version was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is the current one.
    Current,
    /// This environment is in the canary's share.
    Canary,
    /// `MODEL_VERSION` names it.
    Pinned,
    /// It has the label that `MODEL_LABEL` names.
    Labelled,
}

impl Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Current => "current",
            Why::Canary => "canary",
            Why::Pinned => "MODEL_VERSION",
            Why::Labelled => "MODEL_LABEL",
        })
    }
}

impl Manifest {
    /// The version to run, and what may stand in for it: nothing for one that is pinned, since whoever pins wants that
    /// one or none; for others `current` behind the canary, and `previous`. `draw` is asked only where there is a
    /// canary that may be chosen.
    ///
    /// The error says that a version or a label of this name is not there, and which are.
    pub fn choose(
        &self,
        choice: &Choice,
        model: &ModelName,
        draw: impl FnOnce() -> RolloutPosition,
    ) -> Result<Chosen<'_>, ManifestError> {
        let (current, previous) = (self.current(), self.previous());
        let canary = self.canary.as_ref().filter(|canary| {
            *choice == Choice::Newest
                && canary.version != self.current
                && draw().is_in(canary, model)
        });
        let (version, others, why) = match (choice, canary) {
            (Choice::Version(name), _) => (self.version(name)?, [None, None], Why::Pinned),
            (Choice::Label(label), _) => {
                let name = self.labels.version(label).ok_or_else(|| {
                    let labels = self.labels.iter().map(|(label, _)| label);
                    ManifestError::no_label(label, labels)
                })?;
                (
                    self.version(name.as_str())?,
                    [previous, None],
                    Why::Labelled,
                )
            }
            (Choice::Newest, Some(canary)) => {
                let version = self.version(canary.version.as_str())?;
                (version, [Some(current), previous], Why::Canary)
            }
            (Choice::Newest, None) => (current, [previous, None], Why::Current),
        };
        let others = others.into_iter().flatten();
        Ok(Chosen {
            version,
            stand_ins: others.filter(|(name, _)| *name != version.0).collect(),
            why,
        })
    }
}

impl RolloutPosition {
    fn is_in(self, canary: &Canary, model: &ModelName) -> bool {
        self.place(model, &canary.version) * 100.0 < canary.percent
    }

    /// Where this environment stands among all, from 0 up to 1, for one version of one model.
    fn place(self, model: &ModelName, version: &VersionName) -> f64 {
        /// As many bits as a float holds exactly.
        const BITS: u32 = 53;
        let mut hash = Sha256::new_with_prefix(self.0.to_le_bytes());
        for name in [model.as_str(), version.as_str()] {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
        }
        let first = hash.finalize().into_iter().take(8);
        let number = first.fold(0_u64, |number, byte| number << 8 | u64::from(byte));
        #[expect(clippy::cast_precision_loss, reason = "so many bits lose none")]
        let place = (number >> (u64::BITS - BITS)) as f64 / (1_u64 << BITS) as f64;
        place
    }
}
