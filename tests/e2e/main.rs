//! End-to-end tests: Lambda event, handler, sidecar, S3 and `CloudWatch`, with the processes that ship.
//!
//! | group | subject |
//! |---|---|
//! | [`lifecycle`] | Init, invocations, freeze and thaw, resets, shutdown, configuration |
//! | [`reload`] | new versions: poll, download, load, validation, swap, rollback, eviction |
//! | [`sources`] | S3, `file://`, proxies, credentials: what can be named and what can fail |
//! | [`protocol`] | the local HTTP API and who may call it |
//! | [`limits`] | size, memory, time, queue and concurrency of requests |
//! | [`models`] | exported models, compared with scikit-learn or ONNX Runtime in Python |
//! | [`handler`] | Lambda events |
//! | [`metrics`] | metrics in `CloudWatch` and in the log |
//! | [`clients`] | third-party clients |
//! | [`release`] | the release on older libraries, by `make test-x86-64` and `make test-arm64` alone |
//!
//! Tests start the staged layer and function on AWS's Lambda emulator ([`support::lambda`]). Where time, memory or
//! processes are controlled, they use the lab's own platform ([`support::platform`]). Tests of the sidecar alone start
//! it without Lambda ([`support::Alone`]). Tests that inject no faults also run on `SeaweedFS` ([`support::any_s3`]).

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod clients;
mod handler;
mod lifecycle;
mod limits;
mod metrics;
mod models;
mod protocol;
mod release;
mod reload;
mod sources;
mod support;
