//! The whole way, with the processes that ship: Lambda event, handler, sidecar, S3, `CloudWatch`.
//!
//! One file for each subject. Under AWS's emulator run the staged layer and function as on Lambda
//! ([`support::lambda`]); what concerns the sidecar alone is shown without Lambda
//! ([`support::Alone`]). Whatever a model answers is held against scikit-learn, or against ONNX
//! Runtime in Python ([`reference`]).

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod cold_start;
mod crashes;
mod events;
mod limits;
mod real_models;
mod reference;
mod reload;
mod s3_down;
mod server;
mod shutdown;
mod stopping;
mod support;
mod wrong_configuration;
