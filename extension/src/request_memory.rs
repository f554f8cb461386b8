//! Memory budget of requests and loads.
//!
//! An [`Account`] measures how much memory the environment has left. A [`Charge`] is the share of one request: its body
//! as received, decompressed and decoded, and its response. A charge grows before the memory is allocated, shrinks when
//! it is freed, and ends when it is dropped. A [`LoadCharge`] is the share of the load of a model.
//!
//! Rules:
//! - Memory is allocated only after the charge has grown by it.
//! - A charge waits for memory only while it holds none, so that two requests never wait for each other.
//! - A request that exceeds the budget of an otherwise empty account is rejected permanently ([`Over::Always`], HTTP
//!   413). Any other request that does not fit is rejected temporarily ([`Over::Now`], HTTP 503).
//!
//! The first [`FREE`] bytes of each charge are not counted: the account's margin covers them for the maximum number of
//! connections. A small request needs no atomic operation beyond its reference to the account.

mod account;
mod budget;
mod charge;
mod trim;

pub use account::{Account, LoadCharge};
pub use budget::{BudgetOrigin, expected_bytes, requests_share};
pub use charge::{Charge, FREE};

/// Reason why the work of a request ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The account does not have enough memory.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The deadline passed, or the caller disconnected.
    #[error("the deadline passed before the request was decoded")]
    Cancelled,
}

/// Error of a request that does not fit in the account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot accept the request: it needs at least {} of memory; {over}", budget::megabytes(*.needed))]
pub struct OverBudget {
    /// Bytes that the part of the request read so far needs.
    pub needed: usize,
    /// The exceeded limit.
    pub over: Over,
}

/// A limit that a request exceeds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    /// The request exceeds the budget of an otherwise empty account.
    #[error("all requests together may use {}, {origin}", budget::megabytes(*.budget))]
    Always {
        /// Budget of all requests in bytes.
        budget: usize,
        /// Origin of the budget.
        origin: BudgetOrigin,
    },
    /// The request does not fit together with other requests and loads.
    #[error("other requests and loads leave {} of {}; try again later", budget::megabytes(*.left), budget::megabytes(*.budget))]
    Now {
        /// Remaining bytes.
        left: usize,
        /// Budget of all requests in bytes.
        budget: usize,
    },
}

#[cfg(test)]
mod tests;
