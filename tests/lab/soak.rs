//! Soak tests, run in full by `make soak-freeze`, `make soak-reload` and `make soak-metrics`, and in short
//! by the end-to-end tests.

pub mod adder;
pub mod callers;
pub mod cycles;
pub mod deliveries;
pub mod swaps;
pub mod usage;
