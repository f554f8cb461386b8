//! Metrics: recording, validation and delivery.
//!
//! Code observes through the `metrics` facade, with the names of [`defs`]. The [`Recorder`] behind the facade keeps
//! each observation with the minute in which it was made, so that a late delivery changes nothing. It keeps
//! distributions, so that percentiles are accurate. An observation takes no lock. A [`Reporter`] validates the data and
//! delivers them to a [`Sink`]: to CloudWatch, to the log in Embedded Metric Format, or to nowhere.

mod cloudwatch;
mod datum;
pub mod defs;
mod dimensions;
mod emf;
mod from_config;
pub mod prometheus;
mod recorder;
mod reporter;
mod sink;
mod totals;
mod validation;

pub use cloudwatch::CloudWatchSink;
pub use datum::Datum;
pub use dimensions::Dimensions;
pub use emf::EmfSink;
pub use recorder::Recorder;
pub use reporter::{Reporter, Undelivered};
pub use sink::{DeliveryProgress, NoSink, Rejection, Sink};
pub use totals::{SeriesTotal, Total};
