//! Soak tests, run in full by `make soak-freeze` and `make soak-reload`, and in short by the
//! end-to-end tests.

pub mod adder;
pub mod callers;
pub mod cycles;
pub mod swaps;
pub mod usage;
