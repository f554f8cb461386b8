//! Queries of `CloudWatch` Logs Insights over captured log lines, as far as the documentation uses the language.
//!
//! Commands: `fields`, `filter`, `stats`, `sort`, `limit`. Conditions: comparisons, `in`, `like` with a text,
//! `ispresent`, `and`, `or`, `not`, parentheses. Functions of `stats`: `count`, `count_distinct`, `sum`, `avg`, `min`,
//! `max`, `pct`, `earliest`, `latest`; groups are fields and `bin(PERIOD)`. Anything else is an error.
//!
//! Source: `CloudWatch` Logs user guide, "CloudWatch Logs Insights language query syntax".

mod condition;
mod event;
mod parser;
mod stats;
mod token;

use serde_json::Value;

use condition::Condition;
pub use event::{LogEvent, Row};
use stats::{Aggregate, Group};

/// Maximum number of rows without the command `limit`.
const DEFAULT_LIMIT: usize = 10_000;

/// Query.
#[derive(Clone, Debug)]
pub struct Query(Vec<Command>);

/// Part of a query between two `|`.
#[derive(Clone, Debug)]
enum Command {
    Fields(Vec<String>),
    Filter(Condition),
    Stats {
        aggregates: Vec<Aggregate>,
        groups: Vec<Group>,
    },
    Sort(Vec<SortKey>),
    Limit(usize),
}

/// Field by which rows are sorted.
#[derive(Clone, Debug)]
struct SortKey {
    field: String,
    is_descending: bool,
}

/// Text that is no query of the supported part of the language.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("cannot read the query: {0}")]
pub struct QueryError(String);

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// [`QueryError`] with the unexpected part.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        parser::parse(text).map(Self).map_err(QueryError)
    }

    /// Runs the query. A field without a value in an event is missing in its row.
    #[must_use]
    pub fn run(&self, events: &[LogEvent]) -> Vec<Row> {
        let mut rows: Vec<Row> = events.iter().map(LogEvent::row).collect();
        let mut shown: Option<&[String]> = None;
        let mut limit = DEFAULT_LIMIT;
        for command in &self.0 {
            match command {
                Command::Fields(fields) => shown = Some(fields),
                Command::Filter(condition) => rows.retain(|row| condition.holds(row)),
                Command::Stats { aggregates, groups } => {
                    rows = stats::aggregate(&rows, aggregates, groups);
                    shown = None;
                }
                Command::Sort(keys) => rows.sort_by(|a, b| {
                    let orders = keys.iter().map(|key| {
                        let order = event::compare(a.get(&key.field), b.get(&key.field));
                        if key.is_descending {
                            order.reverse()
                        } else {
                            order
                        }
                    });
                    orders.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
                }),
                Command::Limit(number) => limit = *number,
            }
        }
        rows.truncate(limit);
        if let Some(shown) = shown {
            for row in &mut rows {
                row.retain(|field, _| shown.contains(field));
            }
        }
        rows
    }
}

/// Returns a value as a number, also if it is a text of one.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
