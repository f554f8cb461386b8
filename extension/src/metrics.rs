//! Metrics: recording, validation and delivery.
//!
//! Code observes through the `metrics` facade, with the names of [`defs`]. The [`Recorder`] behind the facade keeps
//! each observation with the minute in which it was made, so that a late delivery changes nothing. It keeps
//! distributions, so that percentiles are exact. A [`Reporter`] validates the data and delivers them to a [`Sink`]: to
//! CloudWatch, to the log in Embedded Metric Format, or to nowhere.

mod cloudwatch;
pub mod defs;
mod emf;
mod from_config;
mod recorder;
mod reporter;
mod sink;
mod validation;

pub use cloudwatch::CloudWatchSink;
pub use emf::EmfSink;
pub use recorder::{Datum, Recorder};
pub use reporter::{Reporter, Undelivered};
pub use sink::{Delivery, NoSink, Rejection, Sink};
