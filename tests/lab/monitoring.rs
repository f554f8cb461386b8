//! Dashboard and alarms of `layer/deploy` on the lab's `CloudWatch`: the values of their series, charts as SVG, and
//! states of alarms.
//!
//! The part of `CloudWatch` that computes series, for the previews of `lab serve --dashboard` and for tests. It knows
//! the statistics, expressions, searches and alarm rules that the generated files use, and rejects others.

mod alarm;
mod chart;
mod dashboard;
mod expression;

pub use alarm::{Alarm, AlarmState};
pub use chart::Size;
pub use dashboard::{Dashboard, Evaluated, Line, Series, TimeRange, Widget, WidgetKind};
pub use expression::{ExpressionError, Operand};

/// Values of placeholders `${Name}` in the generated files.
pub type Parameters = [(String, String)];

/// Replaces the placeholders of a generated file.
#[must_use]
pub fn substitute(text: &str, parameters: &Parameters) -> String {
    parameters
        .iter()
        .fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("${{{name}}}"), value)
        })
}
