//! Replacement of the active version, where memory does not hold a second one.
//!
//! The active version is removed, so that new requests wait. Running requests finish, the session is dropped, and its
//! memory returns to the system; only then does the load begin. The status names the version for which requests wait. A
//! request that exceeds the time limit keeps the old version, which becomes active again; a later check retries.

use std::time::Duration;

use tracing::info;

use crate::ids::{ModelName, VersionName};
use crate::reload::Shared;
use crate::reload::error::CheckError;

/// Maximum wait for requests on the old version. New requests wait as well, each within its own deadline.
const MAX_DRAIN: Duration = Duration::from_secs(30);

/// Removes the active version from memory in favour of version `by`, and waits until its memory is free.
///
/// # Errors
/// [`CheckError::InUse`]; the old version is active again then.
pub(super) async fn drain_active(
    model: &ModelName,
    by: &VersionName,
    shared: &Shared,
) -> Result<(), CheckError> {
    shared.status.replacement_began(model, by);
    let Some(drain) = shared.models.begin_drain(model) else {
        return Ok(());
    };
    let Err(loaded) = drain.finish(MAX_DRAIN).await else {
        info!(%model, "the previous version is unloaded; requests wait for the new one");
        return Ok(());
    };
    let (version, loaded_at) = (loaded.version.clone(), loaded.loaded_at);
    shared.models.restore(loaded);
    shared.status.activated(model, &version, loaded_at);
    Err(CheckError::InUse {
        version,
        waited: MAX_DRAIN,
    })
}
