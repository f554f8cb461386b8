//! Metrics: delivery to `CloudWatch`, and the log as the fallback; dashboard and alarms.

mod dashboard;
mod delivery;
mod delivery_soak;
mod drift;
mod shutdown_flush;
