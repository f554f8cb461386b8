//! Model Sidecar: an AWS Lambda extension that fetches an ONNX model from S3, serves it on a local socket, swaps
//! in new versions without losing a request, and sends metrics to CloudWatch.
//!
//! Each module is a room with one subject, and uses only rooms below it: [`app`] builds the parts and runs them;
//! [`lifecycle`] says when what is done; [`reload`] brings new versions in, as a [`manifest`] names them, through
//! [`fetch`], [`cache`] and [`source`], and warms them up, through [`protocol`]; [`server`] answers requests, through [`protocol`] and [`scheduler`]; [`models`] holds what is
//! loaded, and [`engine`] runs it.

#![cfg_attr(
    test,
    expect(clippy::unwrap_used, reason = "a test ends at the first surprise")
)]

pub mod app;
pub mod aws;
pub mod cache;
pub mod clock;
pub mod config;
pub mod engine;
pub mod excerpt;
pub mod fetch;
pub mod help;
pub mod ids;
pub mod lifecycle;
pub mod log;
pub mod manifest;
pub mod metrics;
pub mod models;
pub mod onnx;
pub mod protocol;
pub mod reload;
pub mod request_memory;
pub mod scheduler;
pub mod server;
pub mod source;
pub mod status;
pub mod sys;
pub mod tensor;
#[cfg(test)]
mod test_util;
