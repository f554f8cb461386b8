//! The whole way, with the processes that ship: Lambda event, handler, sidecar, S3, `CloudWatch`.
//!
//! One file for each subject. Under AWS's emulator run the staged layer and function as on Lambda
//! ([`support::lambda`]); where time stands still, runs out or takes something away they run on the
//! lab's own platform ([`support::platform`]); what concerns the sidecar alone is shown without Lambda
//! ([`support::Alone`]). What needs no faults is shown on an S3 that no one here wrote, too ([`any_s3`]). Whatever a model answers is held against scikit-learn, or against ONNX
//! Runtime in Python ([`reference`]).

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod adding;
mod any_s3;
mod blame;
mod budget;
mod clients;
mod cold_start;
mod compression;
mod crashes;
mod credentials;
mod custom_ops;
mod disk;
mod events;
mod fetch;
mod file;
mod forms;
mod freeze;
mod gate;
mod idle;
mod init;
mod kills;
mod limits;
mod local_machine;
mod looped;
mod managed;
mod memory;
mod metrics;
mod mistakes;
mod no_route;
mod openapi;
mod outsize;
mod proxy;
mod public_reasons;
mod real_models;
mod reference;
mod rejected_content;
mod reload;
mod reload_faults;
mod reload_soak;
mod reload_sources;
mod replace;
mod request_memory;
mod resets;
mod rollback;
mod rollout;
mod s3_down;
mod s3_errors;
mod seaweedfs;
mod server;
mod shared_cache;
mod short_invocations;
mod shutdown;
mod soak;
mod sqs;
mod state;
mod stopping;
mod support;
mod tfserving;
mod timeout;
mod token;
mod turns;
mod versions;
mod watch;
mod withdraw;
mod wrong_configuration;
mod zoo;
