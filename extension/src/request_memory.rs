//! The memory that requests and loads may occupy together.
//!
//! An [`Account`] knows how much the environment has left, and a [`Charge`] is what one request holds of it: its body as
//! it arrives, as it is decompressed and as it is decoded, and its response. A charge grows before the memory is taken,
//! shrinks when it is given back, and ends when it is dropped. A [`LoadCharge`] is the same for the load of a model.
//!
//! Rules:
//! - Memory is allocated only after the charge has grown by it.
//! - A charge waits for memory only while it holds none, so that two requests never wait for each other.
//! - A request that needs more than the account has with nothing else in it is refused for good ([`Over::Always`]);
//!   another is refused for now ([`Over::Now`]).
//!
//! The first [`FREE`] bytes of each charge are not counted: the account's margin covers them for as many connections as
//! the server takes. A small request costs no atomic operation beyond its reference to the account.

mod account;
mod budget;
mod charge;
mod trim;

pub use account::{Account, LoadCharge};
pub use budget::{Size, expected_bytes, requests_share};
pub use charge::{Charge, FREE};

/// Why a request's work ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The account has no memory for it.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// Its deadline passed, or its caller went away.
    #[error("the deadline passed before the request was decoded")]
    Cancelled,
}

/// A request that does not fit in the account, with the numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot take the request: it needs at least {} of memory; {over}", budget::megabytes(*.needed))]
pub struct OverBudget {
    /// Bytes that the request needs in all, as far as it was read.
    pub needed: usize,
    /// The limit that it meets.
    pub over: Over,
}

/// The limit that a request meets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    /// It does not fit with nothing else in the account.
    #[error("all requests may take {} together; {size}", budget::megabytes(*.budget))]
    Always {
        /// Bytes of the account for requests.
        budget: usize,
        /// The setting that changes it.
        size: Size,
    },
    /// It does not fit along with what other requests and loads hold.
    #[error("{} of {} are left by other requests and loads: try again later", budget::megabytes(*.left), budget::megabytes(*.budget))]
    Now {
        /// Bytes that are left.
        left: usize,
        /// Bytes of the account for requests.
        budget: usize,
    },
}

#[cfg(test)]
mod tests;
