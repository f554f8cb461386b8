//! Metrics: delivery to `CloudWatch`, and the log as the fallback; dashboard and alarms. The log: queries, and secrets.

mod alarms;
mod dashboard;
mod delivery;
mod delivery_soak;
mod drift;
mod log_queries;
mod monitored;
mod secrets;
mod shutdown_flush;
