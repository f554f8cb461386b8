//! Room in memory for a new version, where there is none beside the one that answers.
//!
//! The old version is taken out, so that requests that begin wait; those that run on it finish; its session is taken
//! apart, and its memory goes back to the system. Only then may the load begin. What requests wait for is in the status
//! meanwhile. A request that runs for longer than all of that may take keeps the old version, which answers again: the
//! new one is brought in at a later check.

use std::time::Duration;

use tracing::info;

use super::Shared;
use crate::ids::{ModelName, VersionName};

/// How long requests on the old version are waited for. Those that begin wait as well, each by its own deadline.
const MAX_DRAIN: Duration = Duration::from_secs(30);

/// The old version is in use for too long.
#[derive(Debug, thiserror::Error)]
#[error(
    "requests still run on version {version} after {} s, and memory does not bear another beside it",
    MAX_DRAIN.as_secs()
)]
pub(super) struct InUse {
    version: VersionName,
}

/// Takes the version that answers out of memory, for the version `by`, and waits until its memory is free.
///
/// # Errors
/// [`InUse`]; the old version answers again then.
pub(super) async fn make_way(
    model: &ModelName,
    by: &VersionName,
    shared: &Shared,
) -> Result<(), InUse> {
    shared.status.replacement_began(model, by);
    let Some(leaving) = shared.models.take_out(model) else {
        return Ok(());
    };
    let Err(loaded) = leaving.gone(MAX_DRAIN).await else {
        info!(%model, "the version that answered is gone from memory, and requests wait");
        return Ok(());
    };
    let (version, loaded_at) = (loaded.version.clone(), loaded.loaded_at);
    shared.models.put_back(loaded);
    shared.status.activated(model, &version, loaded_at);
    Err(InUse { version })
}
