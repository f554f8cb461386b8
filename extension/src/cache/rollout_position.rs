//! What this execution environment has drawn, as long as it lives.
//!
//! It decides which environments try a canary. A start in the same environment finds it again, since what was
//! decided is to hold until the environment ends; so it lies where nothing but this environment comes, and not in a
//! cache that others share.

use std::fs;
use std::io::Write as _;

use tracing::warn;

use super::{Cache, CacheError, failed, temporary};
use crate::manifest::RolloutPosition;
use crate::sys;

impl Cache {
    /// What this environment has drawn; draws where it has not yet. Where it cannot be kept it holds until the process
    /// ends.
    #[must_use]
    pub fn rollout_position(&self) -> RolloutPosition {
        *self.drawn.get_or_init(|| {
            self.stored_rollout_position()
                .unwrap_or_else(|| self.new_rollout_position())
        })
    }

    /// `None` also for a file that is damaged.
    fn stored_rollout_position(&self) -> Option<RolloutPosition> {
        let text = fs::read_to_string(&self.rollout_position).ok()?;
        u64::from_str_radix(text.trim_end(), 16)
            .ok()
            .map(RolloutPosition)
    }

    fn new_rollout_position(&self) -> RolloutPosition {
        let rollout_position = RolloutPosition(sys::random_u64());
        if let Err(error) = self.store_rollout_position(rollout_position) {
            warn!("a second start here may decide differently about a canary: {error}");
        }
        rollout_position
    }

    fn store_rollout_position(
        &self,
        RolloutPosition(number): RolloutPosition,
    ) -> Result<(), CacheError> {
        let mut file = temporary(&self.journals)?;
        writeln!(file, "{number:016x}")
            .map_err(|error| failed("cannot write", &self.rollout_position, error))?;
        file.persist(&self.rollout_position)
            .map_err(|error| failed("cannot rename to", &self.rollout_position, error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::CacheSettings;
    use super::*;

    #[test]
    fn a_second_start_has_drawn_the_same_and_other_environments_differ() {
        let mut draws = HashSet::new();
        for _ in 0..10 {
            let environment = tempfile::tempdir().unwrap();
            let first = Cache::open(environment.path()).unwrap().rollout_position();
            let second = Cache::open(environment.path()).unwrap();
            assert_eq!(
                (second.rollout_position(), second.clone().rollout_position()),
                (first, first)
            );
            draws.insert(first.0);
        }
        assert_eq!(draws.len(), 10);
    }

    #[test]
    fn environments_with_one_cache_draw_each_for_itself() {
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
    fn a_damaged_one_is_drawn_anew_and_kept() {
        let environment = tempfile::tempdir().unwrap();
        fs::write(environment.path().join("rollout-position"), b"torn").unwrap();
        let rollout_position = || Cache::open(environment.path()).unwrap().rollout_position();
        assert_eq!(rollout_position(), rollout_position());
    }

    #[test]
    fn where_it_cannot_be_kept_it_holds_for_the_process() {
        let environment = tempfile::tempdir().unwrap();
        fs::create_dir(environment.path().join("rollout-position")).unwrap();
        let cache = Cache::open(environment.path()).unwrap();
        assert_eq!(cache.rollout_position(), cache.clone().rollout_position());
    }
}
