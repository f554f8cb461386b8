//! Check of the source, and the limit of the wait for it.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::warn;

use super::progress::CheckProgress;
use super::{Reloader, VersionPayload};
use crate::cache::{Journal, ModelRecord};
use crate::reload::planner::Event;
use crate::reload::resolver::SourceCheck;
use crate::status::ModelStatus;

/// Maximum wait for the source without an active version, if the cache has one. S3 takes 10 to 200 ms; if packets to it
/// are dropped, the client gives up after 5 to 15 s.
pub(super) const MAX_WAIT_FOR_SOURCE: Duration = Duration::from_secs(1);

impl Reloader {
    /// Checks the source. In parallel, looks for the files of the version that is loaded if the source confirms it.
    pub(super) async fn check_source(
        &self,
        known: bool,
        in_cache: Option<ModelRecord>,
        journal: &Journal,
        progress: &mut CheckProgress,
    ) -> Event<VersionPayload> {
        let started = Instant::now();
        let (has_found, is_found) = oneshot::channel();
        let find = async {
            let found = self.find_timed(in_cache).await;
            let _ = has_found.send(found.0.is_some());
            found
        };
        let check = async {
            let check = tokio::select! {
                biased;
                check = self.resolver.changed(journal, known) => Some(check),
                () = self.waited_long_enough(is_found) => None,
            };
            (check, started.elapsed())
        };
        let ((check, check_time), (found, cache)) = tokio::join!(check, find);
        (progress.timings.check, progress.timings.cache) = (check_time, cache);
        let Some(check) = check else {
            warn!(
                model = %self.settings.name,
                "{} has not responded within {} ms; loading the version in the cache, and checking the source again",
                self.settings.location,
                MAX_WAIT_FOR_SOURCE.as_millis()
            );
            progress.must_repeat = true;
            return Event::Unreachable { found };
        };
        if check.is_ok() {
            let now = self.shared.clock.now();
            let is_changed = check.as_ref().is_ok_and(|check| check.change.is_some());
            let checked = |status: &mut ModelStatus| {
                status.checked_at = Some(now);
                if is_changed {
                    status.wanted_version_seen(now);
                }
            };
            self.shared.status.update(&self.settings.name, checked);
        }
        match check {
            Ok(SourceCheck {
                change: Some(change),
                state: source,
            }) => Event::Changed {
                change,
                source,
                found,
            },
            Ok(SourceCheck {
                change: None,
                state: source,
            }) => {
                if found.is_some() {
                    self.count_cache_hit();
                }
                Event::Unchanged { source, found }
            }
            Err(problem) => {
                progress.failed(problem);
                Event::Unreachable { found }
            }
        }
    }

    /// Waits for the maximum wait for the source; for ever, if a version is active or the cache has none.
    async fn waited_long_enough(&self, is_found: oneshot::Receiver<bool>) {
        tokio::time::sleep(MAX_WAIT_FOR_SOURCE).await;
        let is_usable = is_found.await.unwrap_or(false);
        if !is_usable || self.active().is_some() {
            std::future::pending::<()>().await;
        }
    }
}
