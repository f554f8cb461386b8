//! Metrics: delivery to `CloudWatch`, and the log as the fallback; dashboard and alarms. The log: queries, and secrets.

mod dashboard;
mod delivery;
mod delivery_soak;
mod drift;
mod log_queries;
mod secrets;
mod shutdown_flush;
