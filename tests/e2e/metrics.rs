//! Metrics: delivery to `CloudWatch`, and the log as the fallback.

mod delivery;
mod shutdown_flush;
