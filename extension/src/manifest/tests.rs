//! The format as its readers meet it.

mod choosing;
mod errors;
mod fixtures;
mod generated;
mod page;
mod properties;
mod reading;
