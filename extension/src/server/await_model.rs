//! Waiting for the version that answers: for the first one, for one that comes in the place of another, or, where it is
//! asked for, for a check of it.
//!
//! Deadlines are the wall clock's: one that passed in a freeze ends the wait at the thaw, and one that lies ahead
//! is waited for, whatever the monotonic clock did meanwhile.

use std::sync::Arc;
use std::time::Duration;

use super::Context;
use super::answer::known;
use super::error::ApiError;
use crate::clock::{Deadline, Timestamp};
use crate::ids::ModelName;
use crate::models::Loaded;
use crate::status::ModelStatus;

/// After a check that failed, requests are answered for so long before another is waited for.
const CHECK_PAUSE: Duration = Duration::from_secs(1);

/// The version that answers. While there is none, since the first one is still on its way or one is being replaced, waits
/// for it until `deadline`; when the last attempt failed, asks for another and waits for that. A version that was last confirmed too long ago is
/// checked first, and answers all the same when the check fails or does not end in half of the time: the model
/// needs the other half.
pub(super) async fn loaded(
    name: &ModelName,
    deadline: Deadline,
    context: &Context,
) -> Result<Arc<Loaded>, ApiError> {
    let Some(loaded) = context.models.current(name) else {
        return next(name, deadline, context).await;
    };
    let Some(limit) = context.max_staleness else {
        return Ok(loaded);
    };
    if is_fresh(name, limit, context) {
        return Ok(loaded);
    }
    drop(loaded);
    let now = context.clock.now();
    let half = Deadline::after(now, deadline.remaining(now) / 2);
    check(name, half, context).await;
    if !is_fresh(name, limit, context)
        && let Some(metrics) = context.metrics.get(name)
    {
        metrics.stale.increment(1);
    }
    match context.models.current(name) {
        Some(loaded) => Ok(loaded),
        // The check found another version, which takes the place of this one.
        None => next(name, deadline, context).await,
    }
}

/// Waits for a version where there is none.
async fn next(
    name: &ModelName,
    deadline: Deadline,
    context: &Context,
) -> Result<Arc<Loaded>, ApiError> {
    let Some(mut status) = context.status.watch(name) else {
        return Err(ApiError::NoSuchModel {
            given: name.to_string(),
            known: known(context),
        });
    };
    let before = status.borrow_and_update().clone();
    if before.attempts > 0 && !before.busy {
        context.status.want_check(name);
    }
    let answered = status.wait_for(|now| now.version.is_some() || now.attempts > before.attempts);
    let clock = &*context.clock;
    let _ = context.thaws.within(clock, deadline, answered).await;
    current(name, context)
}

/// Waits until a check of the source has ended, or until `deadline`.
async fn check(name: &ModelName, deadline: Deadline, context: &Context) {
    let Some(mut status) = context.status.watch(name) else {
        return;
    };
    let before = status.borrow_and_update().clone();
    if has_just_failed(&before, context.clock.now()) {
        return;
    }
    if !before.busy {
        context.status.want_check(name);
    }
    let ended = status.wait_for(|now| now.attempts > before.attempts);
    let _ = context.thaws.within(&*context.clock, deadline, ended).await;
}

fn has_just_failed(status: &ModelStatus, now: Timestamp) -> bool {
    let ended = status.attempted_at.filter(|_| status.problem.is_some());
    !status.busy && ended.is_some_and(|ended| now.since(ended) < CHECK_PAUSE)
}

fn is_fresh(name: &ModelName, limit: Duration, context: &Context) -> bool {
    let checked = context
        .status
        .watch(name)
        .and_then(|status| status.borrow().checked_at);
    checked.is_some_and(|checked| context.clock.now().since(checked) <= limit)
}

fn current(name: &ModelName, context: &Context) -> Result<Arc<Loaded>, ApiError> {
    let current = context.models.current(name);
    current.ok_or_else(|| ApiError::NotReady(context.status.why_missing(name)))
}

#[cfg(test)]
mod tests;
