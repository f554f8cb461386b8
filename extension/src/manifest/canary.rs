//! Canary: a version that a share of the environments runs.
//!
//! Each environment has a [`RolloutPosition`] for its lifetime. The position is hashed with the names of the model and
//! the version, so that each canary runs on other environments. Raising the percentage never removes an environment
//! from the canary.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::number;
use crate::ids::{ModelName, VersionName};

/// Version that a share of the environments runs instead of the current version.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// Name of the version.
    pub version: VersionName,
    /// Share of the environments, from 0 to 100 %.
    #[serde(deserialize_with = "number::percent")]
    pub percent: f64,
}

/// Position of an environment in all rollouts: a random number, drawn once from a uniform distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutPosition(pub u64);

impl RolloutPosition {
    /// Returns `true` if the environment runs this canary of the model.
    pub(super) fn is_in(self, canary: &Canary, model: &ModelName) -> bool {
        self.fraction(model, &canary.version) * 100.0 < canary.percent
    }

    /// Returns the position for one version of one model, from 0 (inclusive) to 1 (exclusive).
    fn fraction(self, model: &ModelName, version: &VersionName) -> f64 {
        /// Bits that a double represents exactly.
        const BITS: u32 = 53;
        let mut hash = Sha256::new_with_prefix(self.0.to_le_bytes());
        for name in [model.as_str(), version.as_str()] {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
        }
        let first = hash.finalize().into_iter().take(8);
        let number = first.fold(0_u64, |number, byte| number << 8 | u64::from(byte));
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
        let fraction = (number >> (u64::BITS - BITS)) as f64 / (1_u64 << BITS) as f64;
        fraction
    }
}
