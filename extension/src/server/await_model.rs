//! Waits for the active version of a model: the first version, the replacement of another, or the end of a check.
//!
//! Deadlines are in wall-clock time. A deadline that passed in a freeze ends the wait at the thaw. A later deadline
//! does not, independent of the monotonic clock during the freeze.

use std::sync::Arc;
use std::time::Duration;

use super::context::ServerContext;
use super::error::ApiError;
use super::lookup::known_models;
use crate::clock::{Deadline, Timestamp};
use crate::ids::ModelName;
use crate::models::LoadedModel;
use crate::status::ModelStatus;

/// Time after a failed check in which requests do not wait for another one.
const CHECK_PAUSE: Duration = Duration::from_secs(1);

/// Returns the active version.
///
/// While no version is active, waits for one until `deadline`; after a failed attempt, requests another one first. A
/// version whose last check is too long ago is checked first. This takes at most half of the remaining time: the run
/// needs the other half. When that check fails or does not end, the version serves all the same.
pub(super) async fn active_version(
    model: &ModelName,
    deadline: Deadline,
    context: &ServerContext,
) -> Result<Arc<LoadedModel>, ApiError> {
    let Some(loaded) = context.models.current(model) else {
        return next_version(model, deadline, context).await;
    };
    let Some(limit) = context.max_staleness else {
        return Ok(loaded);
    };
    if is_fresh(model, limit, context) {
        return Ok(loaded);
    }
    drop(loaded);
    let now = context.clock.now();
    let half = Deadline::after(now, deadline.remaining(now) / 2);
    check(model, half, context).await;
    if !is_fresh(model, limit, context) {
        context.observer.served_stale(model);
    }
    match context.models.current(model) {
        Some(loaded) => Ok(loaded),
        // The check found another version, which is replacing this one.
        None => next_version(model, deadline, context).await,
    }
}

/// Waits until a version is active, or an attempt to load one has failed.
async fn next_version(
    model: &ModelName,
    deadline: Deadline,
    context: &ServerContext,
) -> Result<Arc<LoadedModel>, ApiError> {
    let Some(mut status) = context.status.watch(model) else {
        return Err(ApiError::UnknownModel {
            given: model.to_string(),
            known: known_models(context),
        });
    };
    let before = status.borrow_and_update().clone();
    if before.checks_ended > 0 && !before.is_busy {
        context.status.request_check(model);
    }
    let ended =
        status.wait_for(|now| now.version.is_some() || now.checks_ended > before.checks_ended);
    let _ = context.thaws.within(&*context.clock, deadline, ended).await;
    let active = context.models.current(model);
    active.ok_or_else(|| ApiError::NotReady(context.status.unavailable_reason(model)))
}

/// Waits until a version check has ended, or until `deadline`.
async fn check(model: &ModelName, deadline: Deadline, context: &ServerContext) {
    let Some(mut status) = context.status.watch(model) else {
        return;
    };
    let before = status.borrow_and_update().clone();
    if has_just_failed(&before, context.clock.now()) {
        return;
    }
    if !before.is_busy {
        context.status.request_check(model);
    }
    let ended = status.wait_for(|now| now.checks_ended > before.checks_ended);
    let _ = context.thaws.within(&*context.clock, deadline, ended).await;
}

fn has_just_failed(status: &ModelStatus, now: Timestamp) -> bool {
    let ended = status.check_ended_at.filter(|_| status.problem.is_some());
    !status.is_busy && ended.is_some_and(|ended| now.since(ended) < CHECK_PAUSE)
}

fn is_fresh(model: &ModelName, limit: Duration, context: &ServerContext) -> bool {
    let checked = context
        .status
        .watch(model)
        .and_then(|status| status.borrow().checked_at);
    checked.is_some_and(|checked| context.clock.now().since(checked) <= limit)
}

#[cfg(test)]
mod tests;
