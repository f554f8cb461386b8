//! How a version's inputs and outputs were distributed when it was made: what drift is measured against.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::{number, written};

/// A histogram of one column of an input or an output.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// What was observed.
    pub of: Observed,
    /// The index in the tensor's last dimension; `None` counts all elements together.
    pub column: Option<usize>,
    /// The limits of the bins, ascending: one more than there are bins. A value on a limit counts in the bin above;
    /// what lies outside all of them counts in the first bin or the last.
    pub edges: Vec<f64>,
    /// How many values fell into each bin: together at least one.
    pub counts: Vec<u64>,
}

/// An input or an output, by its name in the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Observed {
    /// What went in.
    Input(String),
    /// What came out.
    Output(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "written::given")]
    input: Option<String>,
    #[serde(default, deserialize_with = "written::given")]
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
        let written = Written::deserialize(deserializer)?;
        let of = match (written.input, written.output) {
            (Some(name), None) => Observed::Input(name),
            (None, Some(name)) => Observed::Output(name),
            (Some(_), Some(_)) => {
                return Err(D::Error::custom(
                    "`input` and `output` are both given; it must be one of them",
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
    /// Holds the fields against each other: the one that is wrong, and what it must be.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.edges.len() < 2 {
            let number = self.edges.len();
            return Err((
                "edges",
                format!("there are {number} edges; it must be at least 2"),
            ));
        }
        if let Some(pair) = self.edges.windows(2).find(|pair| pair[0] >= pair[1]) {
            let (one, next) = (pair[0], pair[1]);
            return Err((
                "edges",
                format!("{next} follows {one}; each must be more than the one before"),
            ));
        }
        let (bins, given) = (self.edges.len() - 1, self.counts.len());
        if given != bins {
            let edges = self.edges.len();
            return Err((
                "counts",
                format!("there are {given} counts; {edges} edges have {bins} bins"),
            ));
        }
        let sum = self
            .counts
            .iter()
            .try_fold(0_u64, |sum, count| sum.checked_add(*count));
        match sum {
            Some(0) => Err(("counts", "all are 0; at least one must not be".to_owned())),
            None => Err(("counts", "together they are 2^64 or more".to_owned())),
            Some(_) => Ok(()),
        }
    }
}
