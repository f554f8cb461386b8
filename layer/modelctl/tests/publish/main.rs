//! `modelctl`'s commands on manifests, run as a user would, on the lab's S3 and on `SeaweedFS`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod call;
mod conflicts;
mod fleet;
mod init;
mod interruptions;
mod models;
mod pipeline;
mod properties;
mod support;
mod tune;
mod uploads;
