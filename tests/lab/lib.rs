//! A Lambda platform, an S3 and a `CloudWatch` on one machine, for tests and benches.
//!
//! - [`rie`] runs a layer and a function as Lambda runs them, under AWS's own emulator.
//! - [`process`] runs the sidecar alone, without Lambda.
//! - [`s3`] and [`cloudwatch`] are servers that AWS's SDKs talk to: they check signatures and
//!   limits as AWS does, remember what was asked of them, and fail on demand.
//! - [`seaweedfs`] runs an S3 that others wrote, to hold against what our own one cannot show: that
//!   both sides of our tests understand S3 in the same wrong way.
//! - [`http`] is a small client for the sidecar's own API.
//! - [`ports`] and [`artifacts`] are what a test needs to start any of it.
//!
//! Everything lives in the test's own process or under it, on loopback, on ports of its own, so
//! that tests run side by side; everything stops when its value is dropped. Nothing is waited for
//! by sleeping: each part has a way to wait for a condition, bounded by [`WAIT_LIMIT`], and a wait
//! that fails says what was seen instead.

#![cfg_attr(
    test,
    expect(clippy::unwrap_used, reason = "a test ends at the first surprise")
)]

use std::time::Duration;

pub mod artifacts;
pub mod cloudwatch;
pub mod credentials;
pub mod gate;
pub mod http;
pub mod lambda;
pub mod link;
pub mod log_capture;
pub mod ports;
pub mod process;
pub mod reference;
pub mod rie;
pub mod s3;
pub mod seaweedfs;
pub mod soak;

mod bubblewrap;
mod child;
mod listener;
mod processes;
mod records;
pub mod tls;

pub use records::NotSeen;
pub use tls::TlsError;

/// How long any wait of the lab lasts before it fails. Far above what anything here takes, so
/// that reaching it means a fault and never a slow machine.
pub const WAIT_LIMIT: Duration = Duration::from_mins(1);
