//! Expressions of `CloudWatch`'s metric math, as far as the generated files use them: numbers, ids, `+ - * /`,
//! parentheses, `FILL(series, number)` and `TIME_SERIES(number)`.
//!
//! Source: `CloudWatch` user guide, "Using math expressions with CloudWatch metrics". An operation on two series has
//! a value where both have one; a division by zero has none.

use std::collections::BTreeMap;

use crate::cloudwatch::Points;

/// Value of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// One number.
    Scalar(f64),
    /// A value for each period.
    Series(Points),
}

/// An expression that cannot be evaluated.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("cannot evaluate {expression:?}: {reason}")]
pub struct ExpressionError {
    expression: String,
    reason: String,
}

/// Evaluates an expression over series by their ids. `times` are the starts of the periods of the range.
///
/// # Errors
/// [`ExpressionError`] for a syntax error, an unknown id or function, or an argument of the wrong type.
pub(super) fn evaluate(
    expression: &str,
    series: &BTreeMap<String, Points>,
    times: &[u64],
) -> Result<Operand, ExpressionError> {
    let mut parser = Parser {
        rest: expression,
        series,
        times,
    };
    let fail = |reason| ExpressionError {
        expression: expression.to_owned(),
        reason,
    };
    let value = parser.sum().map_err(fail)?;
    let rest = parser.rest.trim();
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(fail(format!("expected the end, found {rest:?}")))
    }
}

struct Parser<'a> {
    rest: &'a str,
    series: &'a BTreeMap<String, Points>,
    times: &'a [u64],
}

impl<'a> Parser<'a> {
    fn sum(&mut self) -> Result<Operand, String> {
        let mut value = self.product()?;
        while let Some(operator) = self.one_of(['+', '-']) {
            let other = self.product()?;
            value = combine(&value, &other, |a, b| {
                Some(if operator == '+' { a + b } else { a - b })
            });
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<Operand, String> {
        let mut value = self.factor()?;
        while let Some(operator) = self.one_of(['*', '/']) {
            let other = self.factor()?;
            value = combine(&value, &other, |a, b| match operator {
                '*' => Some(a * b),
                _ => (b != 0.0).then(|| a / b),
            });
        }
        Ok(value)
    }

    fn factor(&mut self) -> Result<Operand, String> {
        if self.one_of(['(']).is_some() {
            let value = self.sum()?;
            self.expect(')')?;
            return Ok(value);
        }
        let word = self.word();
        if word.is_empty() {
            return Err(format!(
                "expected a number, an id or a parenthesis at {:?}",
                self.rest
            ));
        }
        if let Ok(number) = word.parse() {
            return Ok(Operand::Scalar(number));
        }
        match word {
            "FILL" => self.fill(),
            "TIME_SERIES" => self.time_series(),
            id => match self.series.get(id) {
                Some(points) => Ok(Operand::Series(points.clone())),
                None => Err(format!("there is no series {id}")),
            },
        }
    }

    fn fill(&mut self) -> Result<Operand, String> {
        self.expect('(')?;
        let value = self.sum()?;
        self.expect(',')?;
        let filler = self.sum()?;
        self.expect(')')?;
        let (Operand::Series(mut points), Operand::Scalar(filler)) = (value, filler) else {
            return Err("FILL takes a series and a number".to_owned());
        };
        for time in self.times {
            points.entry(*time).or_insert(filler);
        }
        Ok(Operand::Series(points))
    }

    fn time_series(&mut self) -> Result<Operand, String> {
        self.expect('(')?;
        let value = self.sum()?;
        self.expect(')')?;
        let Operand::Scalar(number) = value else {
            return Err("TIME_SERIES takes a number".to_owned());
        };
        let points = self.times.iter().map(|time| (*time, number));
        Ok(Operand::Series(points.collect()))
    }

    fn one_of<const N: usize>(&mut self, letters: [char; N]) -> Option<char> {
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next()?;
        letters.contains(&first).then(|| {
            self.rest = &self.rest[first.len_utf8()..];
            first
        })
    }

    fn expect(&mut self, letter: char) -> Result<(), String> {
        match self.one_of([letter]) {
            Some(_) => Ok(()),
            None => Err(format!("expected {letter:?} at {:?}", self.rest)),
        }
    }

    /// Takes letters, digits, underscores and points.
    fn word(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || "_.".contains(letter);
        let end = self.rest.find(|letter| !is_part(letter));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }
}

fn combine(a: &Operand, b: &Operand, operation: impl Fn(f64, f64) -> Option<f64>) -> Operand {
    match (a, b) {
        // A series without values stands for the missing quotient.
        (Operand::Scalar(a), Operand::Scalar(b)) => {
            operation(*a, *b).map_or_else(|| Operand::Series(Points::new()), Operand::Scalar)
        }
        (Operand::Series(a), Operand::Scalar(b)) => each(a, |_, a| operation(a, *b)),
        (Operand::Scalar(a), Operand::Series(b)) => each(b, |_, b| operation(*a, b)),
        (Operand::Series(a), Operand::Series(b)) => each(a, |time, a| operation(a, *b.get(&time)?)),
    }
}

fn each(points: &Points, value: impl Fn(u64, f64) -> Option<f64>) -> Operand {
    let points = points
        .iter()
        .filter_map(|(time, point)| Some((*time, value(*time, *point)?)));
    Operand::Series(points.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluated(expression: &str) -> Result<Vec<(u64, f64)>, String> {
        let series = BTreeMap::from([
            ("errors".to_owned(), Points::from([(300, 1.0)])),
            (
                "requests".to_owned(),
                Points::from([(0, 4.0), (300, 4.0), (600, 0.0)]),
            ),
        ]);
        match evaluate(expression, &series, &[0, 300, 600]) {
            Ok(Operand::Series(points)) => Ok(points.into_iter().collect()),
            Ok(Operand::Scalar(number)) => Ok(vec![(u64::MAX, number)]),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn operators_bind_as_usual() {
        assert_eq!(
            evaluated("1 + 2 * (3 - 1) / 4 - 1").unwrap(),
            [(u64::MAX, 1.0)]
        );
        assert_eq!(evaluated("100 * errors / requests").unwrap(), [(300, 25.0)]);
    }

    #[test]
    fn missing_values_are_filled_and_a_division_by_zero_has_no_value() {
        let rate = evaluated("FILL(errors, 0) / requests").unwrap();
        assert_eq!(rate, [(0, 0.0), (300, 0.25)]);
        let line = evaluated("TIME_SERIES(2 * 3)").unwrap();
        assert_eq!(line, [(0, 6.0), (300, 6.0), (600, 6.0)]);
    }

    #[test]
    fn wrong_expressions_are_rejected() {
        for wrong in [
            "",
            "1 +",
            "(1",
            "1)",
            "missing",
            "SUM(errors)",
            "FILL(1, 0)",
            "FILL(errors)",
            "TIME_SERIES(errors)",
        ] {
            assert!(evaluated(wrong).is_err(), "{wrong}");
        }
    }
}
