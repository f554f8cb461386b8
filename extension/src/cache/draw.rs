//! What this execution environment has drawn, as long as it lives.
//!
//! It decides which environments try a canary. A start in the same environment finds it again, since what was
//! decided is to hold until the environment ends; so it lies where nothing but this environment comes, and not in a
//! cache that others share.

use std::fs;
use std::io::Write as _;

use tracing::warn;

use super::{Cache, CacheError, failed, temporary};
use crate::manifest::Draw;
use crate::sys;

impl Cache {
    /// What this environment has drawn; draws where it has not yet. Where it cannot be kept it holds until the process
    /// ends.
    #[must_use]
    pub fn draw(&self) -> Draw {
        *self
            .drawn
            .get_or_init(|| self.kept_draw().unwrap_or_else(|| self.draw_anew()))
    }

    /// `None` also for a file that is damaged.
    fn kept_draw(&self) -> Option<Draw> {
        let text = fs::read_to_string(&self.draw).ok()?;
        u64::from_str_radix(text.trim_end(), 16).ok().map(Draw)
    }

    fn draw_anew(&self) -> Draw {
        let draw = Draw(sys::random_u64());
        if let Err(error) = self.keep_draw(draw) {
            warn!("a second start here may decide differently about a canary: {error}");
        }
        draw
    }

    fn keep_draw(&self, Draw(number): Draw) -> Result<(), CacheError> {
        let mut file = temporary(&self.journals)?;
        writeln!(file, "{number:016x}")
            .map_err(|error| failed("cannot write", &self.draw, error))?;
        file.persist(&self.draw)
            .map_err(|error| failed("cannot rename to", &self.draw, error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::Settings;
    use super::*;

    #[test]
    fn a_second_start_has_drawn_the_same_and_other_environments_differ() {
        let mut draws = HashSet::new();
        for _ in 0..10 {
            let environment = tempfile::tempdir().unwrap();
            let first = Cache::open(environment.path()).unwrap().draw();
            let second = Cache::open(environment.path()).unwrap();
            assert_eq!((second.draw(), second.clone().draw()), (first, first));
            draws.insert(first.0);
        }
        assert_eq!(draws.len(), 10);
    }

    #[test]
    fn environments_with_one_cache_draw_each_for_itself() {
        let shared = tempfile::tempdir().unwrap();
        let draw = |own: &tempfile::TempDir| {
            let settings = Settings {
                shared: Some(true),
                own: Some(own.path().to_owned()),
                ..Settings::default()
            };
            Cache::open_with(shared.path(), &settings).unwrap().draw()
        };
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_ne!(draw(&one), draw(&other));
        assert_eq!(draw(&one), draw(&one));
        assert!(!shared.path().join("draw").exists());
    }

    #[test]
    fn a_damaged_one_is_drawn_anew_and_kept() {
        let environment = tempfile::tempdir().unwrap();
        fs::write(environment.path().join("draw"), b"torn").unwrap();
        let draw = || Cache::open(environment.path()).unwrap().draw();
        assert_eq!(draw(), draw());
    }

    #[test]
    fn where_it_cannot_be_kept_it_holds_for_the_process() {
        let environment = tempfile::tempdir().unwrap();
        fs::create_dir(environment.path().join("draw")).unwrap();
        let cache = Cache::open(environment.path()).unwrap();
        assert_eq!(cache.draw(), cache.clone().draw());
    }
}
