//! Soak tests, which `make soak-freeze` and `make soak-reload` run in full and the end-to-end tests in short.

pub mod adder;
pub mod callers;
pub mod cycles;
pub mod swaps;
pub mod usage;
