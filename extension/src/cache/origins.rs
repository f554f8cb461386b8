//! What a source has called the files that are here.
//!
//! A version that returns, or that another environment has fetched into the same directory, is known by what its source
//! says of it, before a byte of it is fetched. A note says which digest that was; nobody believes it further than the
//! file's own bytes agree.

use std::fs;

use super::partial::stem;
use super::{Cache, KeptFile, Wanted, entries, temporary};
use crate::ids::Digest;

impl Cache {
    /// The file that came of `wanted` before, if it is here whole, and its digest. Reads the whole file.
    #[must_use]
    pub fn recall(&self, wanted: &Wanted) -> Option<(KeptFile, Digest)> {
        let note = fs::read_to_string(self.origins.join(stem(wanted))).ok()?;
        let digest = Digest::parse(note.trim()).ok()?;
        Some((self.find_digest(&digest)?, digest))
    }

    /// Notes what came of `wanted`. Without it a later fetch brings the same again: no reason to fail now.
    pub(super) fn note_origin(&self, wanted: &Wanted, digest: &Digest) {
        let Ok(note) = temporary(&self.origins) else {
            return;
        };
        if fs::write(note.path(), digest.as_str()).is_ok() {
            let _ = note.persist(self.origins.join(stem(wanted)));
        }
    }

    /// Removes the notes of files that are not here any more.
    pub(super) fn sweep_origins(&self) {
        for note in entries(&self.origins) {
            let digest = fs::read_to_string(&note).ok();
            let digest = digest.and_then(|digest| Digest::parse(digest.trim()).ok());
            if !digest.is_some_and(|digest| self.path(&digest).exists()) {
                let _ = fs::remove_file(note);
            }
        }
    }
}
