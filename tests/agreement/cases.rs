//! Cases in which RIE and the lab are compared; `differences.rs` has the known differences.
//!
//! A case has no races: where two actors would act concurrently, one waits for a file that the other creates.

mod errors;
mod extensions;
mod managed;
mod registration;
mod resets;
mod runtime;

use crate::case::Case;

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    [
        runtime::cases(),
        extensions::cases(),
        registration::cases(),
        errors::cases(),
        resets::cases(),
        managed::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
