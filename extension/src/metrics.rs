//! Metrics: what is observed, when, and where it goes.
//!
//! Code observes through the `metrics` facade, with the names of [`defs`]. The [`Recorder`] behind it keeps each
//! observation in the minute in which it was made, and its distribution, so that percentiles are real and a
//! late flush changes nothing. A [`Reporter`] validates the data and takes them to a sink: CloudWatch, lines of Embedded
//! Metric Format in the log, or nowhere.

mod cloudwatch;
pub mod defs;
mod emf;
mod recorder;
mod reporter;
mod validation;

pub use cloudwatch::CloudWatchSink;
pub use emf::EmfSink;
pub use recorder::{Datum, Recorder};
pub use reporter::{Delivery, NoSink, Rejection, Reporter, Sink, Undelivered};
