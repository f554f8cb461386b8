//! Baseline: distributions of a version's inputs and outputs at training time, against which drift is measured.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::{json, number};

/// Histogram of one column of an input or an output.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Observed input or output.
    pub of: Observed,
    /// Index in the last dimension of the tensor; `None` for all elements together.
    pub column: Option<usize>,
    /// Edges of the bins in ascending order, one more than bins. A value on an edge counts in the upper bin; a value
    /// outside all bins counts in the first or the last bin.
    pub edges: Vec<f64>,
    /// Number of values in each bin; at least one in total.
    pub counts: Vec<u64>,
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
    #[serde(deserialize_with = "number::numbers")]
    edges: Vec<f64>,
    #[serde(deserialize_with = "number::counts")]
    counts: Vec<u64>,
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
        })
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
            Some(_) => Ok(()),
        }
    }
}
