//! Key of the fingerprints and of the sampling.

use std::hash::{BuildHasher, DefaultHasher, Hash as _};

use crate::sys;

/// Secret key of hashes. The keys of `RandomState` are state of the thread, and would be the same in all environments
/// that are restored from one snapshot.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct HashKey([u64; 2]);

impl HashKey {
    pub(super) fn random() -> Self {
        Self([sys::random_u64(), sys::random_u64()])
    }
}

impl BuildHasher for HashKey {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher
    }
}
