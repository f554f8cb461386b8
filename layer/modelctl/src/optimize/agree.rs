//! Comparison of the optimised model's outputs with the model's, and of their run times.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use model_sidecar::engine::{
    Cancel, DimensionNames, Engine as _, EngineError, OnnxRuntime, Session,
};
use model_sidecar::tensor::Value;

use super::gain::{Row, median};
use crate::compare::{Difference, compare as difference};
use crate::inputs::{self, Inputs};
use crate::units;

/// Minimum and maximum number of alternating runs of both models, and their total duration.
const ROUNDS: (usize, usize) = (3, 25);
const TIME_FOR_ROUNDS: Duration = Duration::from_secs(5);

/// Result of a comparison without an error.
pub(super) enum Comparison {
    Agree {
        /// Number of inputs in words.
        inputs: String,
        /// The first input.
        first: Inputs,
        outputs: Vec<(String, Difference)>,
        runs: Row,
        /// `true` if runs are slower than before by more than a tenth.
        slower: bool,
    },
    /// The model itself cannot be run on the generated inputs.
    NotCompared(String),
}

/// Runs both models on the same inputs, and fails if their outputs differ by more than the
/// tolerance.
pub(super) fn compare(
    engine: &OnnxRuntime,
    before: &Path,
    after: &Path,
    names: &DimensionNames,
    arguments: &inputs::InputOptions,
    tolerance: Option<f64>,
) -> anyhow::Result<Comparison> {
    let given = !arguments.files.is_empty();
    let before = engine.load(before, None)?;
    let after = engine
        .load(after, None)
        .context("cannot load the optimised model")?;
    if before.signature() != after.signature() {
        bail!("the optimised model has other inputs or outputs; nothing is written");
    }
    let all = arguments.read(before.signature(), names)?;
    let mut outputs: Vec<(String, Difference)> = Vec::new();
    for (index, inputs) in all.iter().enumerate() {
        let expected = match run(&*before, inputs) {
            Ok(expected) => expected,
            Err(error) if given => {
                let file = arguments.files[index].display();
                return Err(error)
                    .with_context(|| format!("--input {file}: the model cannot be run on it"));
            }
            Err(error) => return Ok(Comparison::NotCompared(error.to_string())),
        };
        let found = run(&*after, inputs)
            .context("the optimised model fails where the original does not; nothing is written")?;
        let between = differences(&expected, &found, tolerance)?;
        outputs = between
            .into_iter()
            .enumerate()
            .map(|(output, (name, next))| {
                let most = outputs.get(output).map_or(next, |(_, most)| most.max(next));
                (name, most)
            })
            .collect();
    }
    let kind = if given { "given" } else { "generated" };
    let (count, plural) = (all.len(), if all.len() == 1 { "" } else { "s" });
    let first = all.into_iter().next().unwrap_or_default();
    let (was, is) = time(&*before, &*after, &first)?;
    Ok(Comparison::Agree {
        inputs: format!("{count} {kind} input{plural}"),
        outputs,
        runs: Row {
            name: "one run",
            before: units::milliseconds(was),
            after: units::milliseconds(is),
        },
        slower: is > was * 11 / 10,
        first,
    })
}

fn run(session: &dyn Session, inputs: &Inputs) -> Result<Inputs, EngineError> {
    session.run(inputs, &[], &Cancel::default())
}

fn differences(
    before: &[(String, Value)],
    after: &[(String, Value)],
    tolerance: Option<f64>,
) -> anyhow::Result<Vec<(String, Difference)>> {
    if before.len() != after.len() {
        bail!(
            "the optimised model gives {} outputs instead of {}",
            after.len(),
            before.len()
        );
    }
    before
        .iter()
        .zip(after)
        .map(|((name, before), (_, after))| {
            let found = difference(before, after, tolerance).and_then(|found| {
                if found.of_allowed > 1.0 {
                    Err(format!(
                        "the largest difference is {:.1e}, {:.1} times the tolerance",
                        found.absolute, found.of_allowed
                    ))
                } else {
                    Ok(found)
                }
            });
            match found {
                Ok(found) => Ok((name.clone(), found)),
                Err(reason) => bail!(
                    "output {name:?} of the optimised model differs: {reason}; nothing is written"
                ),
            }
        })
        .collect()
}

/// Median duration of a run of each on these inputs.
fn time(
    before: &dyn Session,
    after: &dyn Session,
    inputs: &Inputs,
) -> Result<(Duration, Duration), EngineError> {
    let start = Instant::now();
    let mut times = (Vec::new(), Vec::new());
    let more =
        |done: usize| done < ROUNDS.0 || (done < ROUNDS.1 && start.elapsed() < TIME_FOR_ROUNDS);
    while more(times.0.len()) {
        for (session, times) in [(before, &mut times.0), (after, &mut times.1)] {
            let start = Instant::now();
            run(session, inputs)?;
            times.push(start.elapsed());
        }
    }
    Ok((median(times.0), median(times.1)))
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agree {
                inputs, outputs, ..
            } => {
                write!(f, "outputs agree on {inputs}; the largest difference:")?;
                for (name, most) in outputs {
                    write!(f, " {name} {}", number(most.absolute))?;
                }
                Ok(())
            }
            Self::NotCompared(reason) => write!(
                f,
                "outputs were NOT compared: inputs generated from the model's signature do not run \
                 ({reason}); give valid ones with --input, or other lengths with --dim"
            ),
        }
    }
}

fn number(difference: f64) -> String {
    if difference == 0.0 {
        "0".to_owned()
    } else {
        format!("{difference:.1e}")
    }
}
