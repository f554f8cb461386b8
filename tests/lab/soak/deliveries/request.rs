//! Requests of a client, valid and invalid, and their responses.

use serde_json::{Value, json};

use super::counts::Counts;
use crate::reference::WINE;

/// One request of this many is invalid.
const INVALID: usize = 20;

/// One request.
pub(super) struct Request {
    pub(super) event: Value,
    /// Number of rows; 0 for an invalid request.
    pub(super) rows: usize,
}

impl Request {
    /// Returns a request of a client, whose requests have consecutive numbers.
    pub(super) fn of(number: usize) -> Self {
        if number % INVALID == INVALID - 1 {
            return Self {
                event: json!({ "features": "none" }),
                rows: 0,
            };
        }
        let rows = [1, 9, 2, 100][number % 4];
        let from = number * 37 % (WINE.rows.len() - rows);
        Self {
            event: json!({ "features": WINE.rows[from..from + rows] }),
            rows,
        }
    }

    /// Maximum counts of the request, if its result is not known.
    pub(super) fn uncertain(&self) -> Counts {
        if self.rows > 0 {
            return Counts::at_most(self.rows);
        }
        let mut counts = Counts::default();
        counts.add_to("RejectedRequests", 1.0);
        counts
    }
}

/// Class of each row of a response, the one with the highest probability.
pub(super) fn classes(answer: Option<&Value>) -> Option<Vec<usize>> {
    let rows = answer?["probabilities"].as_array()?.iter();
    let class = |row: &Value| {
        let row = row.as_array()?.iter().enumerate();
        let probabilities = row.map(|(class, value)| value.as_f64().map(|value| (class, value)));
        let probabilities: Option<Vec<_>> = probabilities.collect();
        let highest = probabilities?
            .into_iter()
            .max_by(|(_, a), (_, b)| a.total_cmp(b));
        highest.map(|(class, _)| class)
    };
    rows.map(class).collect()
}
