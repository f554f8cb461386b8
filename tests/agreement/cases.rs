//! The situations in which RIE and the lab are compared. Each of them is a function that gives the
//! [`Case`]; what the two platforms do differently in it stands in `differences.rs`.
//!
//! A case holds nothing that a race decides: where two actors would do something at once, one of
//! them waits for a file that the other leaves.

mod errors;
mod extensions;
mod managed;
mod registration;
mod resets;
mod runtime;

use crate::scene::Case;

/// All of them.
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
