//! Metrics: delivery to `CloudWatch`, and the log as the fallback.

mod delivery;
mod drift;
mod shutdown_flush;
