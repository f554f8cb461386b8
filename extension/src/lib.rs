//! Model Sidecar: an AWS Lambda extension that serves an ONNX model from S3 on a local socket. It swaps versions
//! without losing a request, and sends metrics to CloudWatch.
//!
//! Each module has one subject and uses only modules below it; the test `module_boundaries` checks that.
//!
//! | module | responsibility |
//! |---|---|
//! | [`app`] | composition root: builds the parts from the configuration and runs them |
//! | [`help`], [`log`] | command line help; logging |
//! | [`runtime`] | the function's runtime, if the handler attaches: polls of Lambda's Runtime API |
//! | [`lifecycle`] | schedule of version checks and metrics deliveries, driven by Lambda's Extensions API or by timers |
//! | [`server`] | HTTP: acceptor, routes, authorization, limits |
//! | [`reload`] | version checks, downloads, loads, validation, activation, rollback |
//! | [`scheduler`] | queue, deadlines, concurrency and batches of inference runs |
//! | [`fetch`] | parallel, resumable and verified downloads |
//! | [`models`] | loaded versions of each model; swap and drain |
//! | [`source`] | locations of model files: S3 and local folders |
//! | [`metrics`] | recorder, and delivery to CloudWatch or to the log |
//! | [`cache`] | model files on disk, eviction, journal of loads |
//! | [`engine`] | ONNX Runtime |
//! | [`protocol`] | codecs between request bodies and tensors |
//! | [`aws`] | credentials and HTTP client of the AWS SDK |
//! | [`drift`] | distance between served rows and the baseline of a version |
//! | [`config`] | environment variables |
//! | [`manifest`] | format of the published pointer to a model's versions |
//! | [`onnx`] | parsing of model files |
//! | [`rollback`] | request of a rollback, and the decision by the evidence of failed runs |
//! | [`status`] | state of each model, for callers and operators |
//! | [`tensor`] | datatypes, shapes and buffers |
//! | [`request_memory`] | budget of the memory that requests occupy |
//! | [`clock`], [`excerpt`], [`ids`], [`sys`] | time and freezes; excerpts of long text; newtypes; system calls |
//! | [`growing_file`] | a file that is read while it is written |

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test fails by a panic"))]

pub mod app;
pub mod aws;
pub mod cache;
pub mod clock;
pub mod config;
pub mod drift;
pub mod engine;
pub mod excerpt;
pub mod fetch;
pub mod growing_file;
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
pub mod rollback;
pub mod runtime;
pub mod scheduler;
pub mod server;
pub mod source;
pub mod status;
pub mod sys;
pub mod tensor;
#[cfg(test)]
mod test_util;
