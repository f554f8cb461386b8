//! Datum: the values of one metric in one minute.

use super::defs::Definition;
use crate::clock::Timestamp;

/// Values of one metric in one minute.
#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    /// Definition of the metric.
    pub metric: &'static Definition,
    /// Model of the observation; `None` if the metric is not about a model.
    pub model: Option<String>,
    /// Version of the model that was active; `None` if there was none.
    pub version: Option<String>,
    /// Start of the minute.
    pub minute: Timestamp,
    /// Distinct values in ascending order, each with its number of observations.
    pub values: Vec<(f64, f64)>,
}

impl Datum {
    /// Returns the memory that the datum occupies, in bytes.
    #[must_use]
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.model.as_ref().map_or(0, String::len)
            + self.version.as_ref().map_or(0, String::len)
            + self.values.len() * size_of::<(f64, f64)>()
    }
}
