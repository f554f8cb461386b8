//! Baseline: histograms of a version's inputs and outputs at training time, against which drift is measured.
//!
//! # Bins
//! - A bin is half open: `edges[i] <= value < edges[i + 1]`. A value on an inner edge counts in the upper bin.
//! - The ends are open. A value below the first edge counts in the first bin, and a value at or above the last edge in
//!   the last bin. The same holds for infinities.
//! - NaN is a null: it counts in `nulls`, and in no bin. No other value is a null.
//! - Values are compared as 64-bit floats, after their conversion to the datatype of the model. Edges are read exactly,
//!   so that an edge can be a value.

use serde::de::{Deserializer, Error as _};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

use super::{json, number};

/// Histogram of one column of an input or an output.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Observed input or output.
    pub of: Observed,
    /// Index in the last dimension of the tensor; `None` for all elements together.
    pub column: Option<usize>,
    /// Edges of the bins in ascending order, one more than bins.
    pub edges: Vec<f64>,
    /// Number of values in each bin; at least one in total.
    pub counts: Vec<u64>,
    /// Number of nulls.
    pub nulls: u64,
}

/// An input or an output, by its name in the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Observed {
    /// Name of an input.
    Input(String),
    /// Name of an output.
    Output(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBaseline {
    #[serde(default, deserialize_with = "json::optional")]
    input: Option<String>,
    #[serde(default, deserialize_with = "json::optional")]
    output: Option<String>,
    #[serde(default, deserialize_with = "number::index")]
    column: Option<usize>,
    #[serde(deserialize_with = "number::exact_numbers")]
    edges: Vec<f64>,
    #[serde(deserialize_with = "number::counts")]
    counts: Vec<u64>,
    #[serde(default, deserialize_with = "number::count")]
    nulls: u64,
}

impl<'de> Deserialize<'de> for Baseline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = WrittenBaseline::deserialize(deserializer)?;
        let of = match (written.input, written.output) {
            (Some(name), None) => Observed::Input(name),
            (None, Some(name)) => Observed::Output(name),
            (Some(_), Some(_)) => {
                return Err(D::Error::custom(
                    "`input` and `output` are both set; only one is allowed",
                ));
            }
            (None, None) => return Err(D::Error::custom("missing field `input` or `output`")),
        };
        Ok(Self {
            of,
            column: written.column,
            edges: written.edges,
            counts: written.counts,
            nulls: written.nulls,
        })
    }
}

impl Serialize for Baseline {
    /// Serializes the histogram as a manifest has it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut written = serializer.serialize_struct("Baseline", 5)?;
        match &self.of {
            Observed::Input(name) => written.serialize_field("input", name)?,
            Observed::Output(name) => written.serialize_field("output", name)?,
        }
        match self.column {
            Some(column) => written.serialize_field("column", &column)?,
            None => written.skip_field("column")?,
        }
        written.serialize_field("edges", &self.edges)?;
        written.serialize_field("counts", &self.counts)?;
        match self.nulls {
            0 => written.skip_field("nulls")?,
            nulls => written.serialize_field("nulls", &nulls)?,
        }
        written.end()
    }
}

impl Baseline {
    /// Checks the fields against each other. The error holds the invalid field and what it must be.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.edges.len() < 2 {
            let number = self.edges.len();
            return Err((
                "edges",
                format!("there are {number} edges; the minimum is 2"),
            ));
        }
        if let Some(pair) = self.edges.windows(2).find(|pair| pair[0] >= pair[1]) {
            let (one, next) = (pair[0], pair[1]);
            return Err((
                "edges",
                format!("{next} follows {one}; edges must be in ascending order"),
            ));
        }
        let (bins, given) = (self.edges.len() - 1, self.counts.len());
        if given != bins {
            let edges = self.edges.len();
            return Err((
                "counts",
                format!("there are {given} counts; {edges} edges need {bins}"),
            ));
        }
        let sum = self
            .counts
            .iter()
            .try_fold(0_u64, |sum, count| sum.checked_add(*count));
        match sum {
            Some(0) => Err((
                "counts",
                "all counts are 0; at least one must be positive".to_owned(),
            )),
            None => Err(("counts", "the sum of the counts is 2^64 or more".to_owned())),
            Some(sum) if sum.checked_add(self.nulls).is_none() => Err((
                "nulls",
                "the sum of the counts and the nulls is 2^64 or more".to_owned(),
            )),
            Some(_) => Ok(()),
        }
    }
}
