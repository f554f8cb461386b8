//! Conditions of the command `filter`. A condition on a missing field is false.

use std::cmp::Ordering;

use serde_json::Value;

use super::event::{Row, compare, text};

/// Condition.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Compare {
        field: String,
        operator: Operator,
        value: Value,
    },
    In {
        field: String,
        values: Vec<Value>,
    },
    /// The field contains the text.
    Like {
        field: String,
        text: String,
    },
    IsPresent(String),
}

/// Comparison of a field with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    /// Reads an operator.
    pub(super) fn read(symbol: &str) -> Option<Self> {
        Some(match symbol {
            "=" => Self::Equal,
            "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl Condition {
    /// Returns `true` if the condition holds for a row.
    pub(super) fn holds(&self, row: &Row) -> bool {
        match self {
            Self::All(conditions) => conditions.iter().all(|one| one.holds(row)),
            Self::Any(conditions) => conditions.iter().any(|one| one.holds(row)),
            Self::Not(condition) => !condition.holds(row),
            Self::Compare {
                field,
                operator,
                value,
            } => {
                let found = row.get(field);
                found.is_some_and(|found| operator.holds(compare(Some(found), Some(value))))
            }
            Self::In { field, values } => row.get(field).is_some_and(|found| {
                let mut values = values.iter();
                values.any(|value| compare(Some(found), Some(value)).is_eq())
            }),
            Self::Like {
                field,
                text: wanted,
            } => row
                .get(field)
                .is_some_and(|found| text(found).contains(wanted)),
            Self::IsPresent(field) => row.contains_key(field),
        }
    }
}
