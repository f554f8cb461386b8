//! A Lambda platform, an S3 and a `CloudWatch` on one machine, for tests and benchmarks.
//!
//! Platforms, which run a layer and a function:
//! - [`lambda`] emulates Lambda: concurrent environments, freeze and thaw, resets, limits, reports.
//! - [`rie`] runs AWS's own emulator, against which [`lambda`] is verified.
//! - [`process`] runs the sidecar alone, without Lambda.
//!
//! Servers, used through AWS's SDKs:
//! - [`s3`] and [`cloudwatch`] check signatures and limits as AWS does, record requests, and fail
//!   on demand.
//! - [`seaweedfs`] runs an independent S3 implementation, so that a misunderstanding of S3 in both
//!   our client and our server is found.
//! - [`rotel`] is an independent collector of OpenTelemetry.
//! - [`xray`] is X-Ray's daemon, which checks each document.
//! - [`link`] is a network between the two: bandwidth, latency, broken connections.
//! - [`slow_folder`] has the files of a layer as a host has them that has not run the function before.
//!
//! Tools:
//! - [`http`] is a client for the sidecar's API.
//! - [`gate`] pauses a server in the middle of a response; [`log_capture`] collects the output of
//!   processes.
//! - [`artifacts`] finds what `make` builds; [`ports`], [`credentials`] and [`tls`] provide ports,
//!   keys and certificates.
//! - [`monitoring`] evaluates and draws the dashboard and the alarms of `layer/deploy`; [`preview`] serves them as a
//!   page.
//! - [`logs_insights`] runs queries of `CloudWatch` Logs Insights over captured log lines.
//! - [`reference`] has the expected outputs of the wine models; [`soak`] contains the soak tests; [`statistics`] has
//!   percentiles.
//!
//! The binary `lab` (`tests/command`) runs [`lambda`] in a terminal.
//!
//! Every part runs in the test's process or as its child, on loopback, on ports of its own, so that
//! tests run in parallel. Every part stops when its value is dropped. No test sleeps: each part has
//! methods that wait for a condition, bounded by [`WAIT_LIMIT`], with an error that shows the
//! actual state.

#![cfg_attr(
    test,
    expect(clippy::unwrap_used, reason = "a panic is how a test fails")
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
pub mod logs_insights;
pub mod monitoring;
pub mod ports;
pub mod preview;
pub mod process;
pub mod reference;
pub mod rie;
pub mod rotel;
pub mod s3;
pub mod script;
pub mod seaweedfs;
pub mod slow_folder;
pub mod soak;
pub mod statistics;
pub mod tls;
pub mod xray;

mod bubblewrap;
mod child;
mod listener;
mod processes;
mod records;

pub use records::NotSeen;
pub use tls::TlsError;

/// Maximum duration of any wait of the lab. Far above the duration of any operation here, so that
/// reaching it means a fault and not a slow machine.
pub const WAIT_LIMIT: Duration = Duration::from_mins(1);
