//! Results of a bench against its goals: a table for the terminal, and `target/bench/NAME.json` for
//! comparisons between runs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

pub(crate) use lab::statistics::percentile;

/// One value.
#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// The goal; `null` for a value without one.
    goal: Option<String>,
    holds: bool,
}

/// Condition on a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

/// Values of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    #[serde(skip)]
    name: &'static str,
    figures: Vec<Figure>,
}

impl Figures {
    pub(crate) fn of(name: &'static str) -> Self {
        Self {
            name,
            figures: Vec::new(),
        }
    }

    /// Adds a value without a goal.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.push(name.into(), value, unit, None);
    }

    /// Adds a value with a goal.
    pub(crate) fn add_with_goal(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: Goal,
    ) {
        self.push(name.into(), value, unit, Some(goal));
    }

    fn push(&mut self, name: String, value: f64, unit: &'static str, goal: Option<Goal>) {
        let (goal, holds) = match goal {
            None => (None, true),
            Some(Goal::AtLeast(least)) => (Some(format!("≥ {}", text(least))), value >= least),
            Some(Goal::AtMost(most)) => (Some(format!("≤ {}", text(most))), value <= most),
            Some(Goal::Below(limit)) => (Some(format!("< {}", text(limit))), value < limit),
        };
        self.figures.push(Figure {
            name,
            value,
            unit,
            goal,
            holds,
        });
    }

    /// Prints and writes the values, and returns the exit code of the bench: failure if a goal is
    /// missed.
    pub(crate) fn end(&self) -> Result<ExitCode> {
        let width = self.figures.iter().map(|one| one.name.chars().count());
        let width = width.max().unwrap_or_default();
        println!("\n{:width$}  {:>10} {:10} {:>9}", "", "value", "", "goal");
        for one in &self.figures {
            let Figure { name, unit, .. } = one;
            let mark = match (&one.goal, one.holds) {
                (None, _) => "",
                (Some(_), true) => "holds",
                (Some(_), false) => "DOES NOT HOLD",
            };
            let goal = one.goal.as_deref().unwrap_or_default();
            let value = text(one.value);
            println!("{name:width$}  {value:>10} {unit:10} {goal:>9}  {mark}");
        }
        let folder = lab::artifacts::workspace().join("target/bench");
        let file = folder.join(format!("{}.json", self.name));
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&file, serde_json::to_vec_pretty(self)?))
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("\nwritten to target/bench/{}.json", self.name);
        if self.figures.iter().all(|one| one.holds) {
            Ok(ExitCode::SUCCESS)
        } else {
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Formats a number, with three decimals if it has any.
fn text(value: f64) -> String {
    let text = format!("{value:.3}");
    text.strip_suffix(".000").unwrap_or(&text).to_owned()
}

/// Number of values as a float.
pub(crate) fn count<T>(values: &[T]) -> f64 {
    float(values.len())
}

/// A count as a float.
#[expect(clippy::cast_precision_loss, reason = "all counts are below 2^53")]
pub(crate) fn float(count: usize) -> f64 {
    count as f64
}

/// Milliseconds of a duration.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Sparkline of 60 segments of the values, scaled from the lowest to the highest.
pub(crate) fn sparkline(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let stretch = values.len().div_ceil(60).max(1);
    let medians: Vec<f64> = values
        .chunks(stretch)
        .map(|stretch| percentile(stretch, 50.0))
        .collect();
    let lowest = medians.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = medians.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let bar = |value: &f64| {
        let share = (value - lowest) / (highest - lowest).max(f64::MIN_POSITIVE);
        let steps = (1..8_u8).filter(|step| share * 7.0 >= f64::from(*step));
        BARS[steps.count()]
    };
    let line: String = medians.iter().map(bar).collect();
    format!("{line}  {} to {}", text(lowest), text(highest))
}
