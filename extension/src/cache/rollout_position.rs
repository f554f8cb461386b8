//! Persistence of the environment's rollout position.
//!
//! The position decides which environments run a canary. It stays the same for the life of the execution environment.
//! So it is stored in the directory for the state of this environment, never in a shared cache.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tracing::warn;

use super::directory::temporary_file;
use super::error::CacheError;
use crate::manifest::RolloutPosition;
use crate::sys;

/// File with the rollout position.
#[derive(Debug)]
pub(super) struct RolloutPositionFile {
    path: PathBuf,
    /// Directory for the temporary file, on the same file system.
    temporary: PathBuf,
    position: OnceLock<RolloutPosition>,
}

impl RolloutPositionFile {
    /// File in the `private` directory of this environment.
    pub(super) fn new(private: &Path, temporary: &Path) -> Self {
        Self {
            path: private.join("rollout-position"),
            temporary: temporary.to_owned(),
            position: OnceLock::new(),
        }
    }

    /// Returns the stored position, or draws and stores one. A position that cannot be stored is valid until the
    /// process ends.
    pub(super) fn get(&self) -> RolloutPosition {
        *self
            .position
            .get_or_init(|| self.read().unwrap_or_else(|| self.draw()))
    }

    /// Reads the position; `None` if the file is missing or damaged.
    fn read(&self) -> Option<RolloutPosition> {
        let text = fs::read_to_string(&self.path).ok()?;
        u64::from_str_radix(text.trim_end(), 16)
            .ok()
            .map(RolloutPosition)
    }

    fn draw(&self) -> RolloutPosition {
        let position = RolloutPosition(sys::random_u64());
        if let Err(error) = self.store(position) {
            warn!(
                "{error}; after a restart, this environment may decide differently about a canary"
            );
        }
        position
    }

    fn store(&self, RolloutPosition(number): RolloutPosition) -> Result<(), CacheError> {
        let mut file = temporary_file(&self.temporary)?;
        writeln!(file, "{number:016x}")
            .map_err(|error| CacheError::new("cannot write", &self.path, error))?;
        file.persist(&self.path)
            .map_err(|error| CacheError::new("cannot rename to", &self.path, error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::cache::{Cache, CacheSettings};

    #[test]
    fn a_restart_has_the_same_position_and_other_environments_differ() {
        let mut positions = HashSet::new();
        for _ in 0..10 {
            let environment = tempfile::tempdir().unwrap();
            let first = Cache::open(environment.path()).unwrap().rollout_position();
            let second = Cache::open(environment.path()).unwrap();
            assert_eq!(
                (second.rollout_position(), second.clone().rollout_position()),
                (first, first)
            );
            positions.insert(first.0);
        }
        assert_eq!(positions.len(), 10);
    }

    #[test]
    fn environments_that_share_a_cache_have_different_positions() {
        let shared = tempfile::tempdir().unwrap();
        let rollout_position = |own: &tempfile::TempDir| {
            let settings = CacheSettings {
                is_shared: Some(true),
                private_directory: Some(own.path().to_owned()),
                ..CacheSettings::default()
            };
            Cache::open_with(shared.path(), &settings)
                .unwrap()
                .rollout_position()
        };
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_ne!(rollout_position(&one), rollout_position(&other));
        assert_eq!(rollout_position(&one), rollout_position(&one));
        assert!(!shared.path().join("rollout-position").exists());
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        let environment = tempfile::tempdir().unwrap();
        fs::write(environment.path().join("rollout-position"), b"torn").unwrap();
        let rollout_position = || Cache::open(environment.path()).unwrap().rollout_position();
        assert_eq!(rollout_position(), rollout_position());
    }

    #[test]
    fn a_position_that_cannot_be_stored_is_valid_for_the_process() {
        let environment = tempfile::tempdir().unwrap();
        fs::create_dir(environment.path().join("rollout-position")).unwrap();
        let cache = Cache::open(environment.path()).unwrap();
        assert_eq!(cache.rollout_position(), cache.clone().rollout_position());
    }
}
