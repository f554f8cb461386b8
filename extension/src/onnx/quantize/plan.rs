//! Decision for each weight: its form in the new file, or the reason why it stays.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::super::stored_weight::MAX_STORED_WEIGHTS;
use super::super::wire::WireReader;
use super::super::{ParseError, WeightStorage};
use super::index::{GraphIndex, Use};
use super::lstm::LstmWeight;
use super::names::free_name;
use super::product::{self, ProductWeight};
use super::tensor::Initializer;
use super::values::{self, Integers};
use super::{LeftAlone, MIN_ELEMENTS, Quantization, QuantizedWeights, StoredTensor};

/// Minimum number of elements per channel for a channel per row of an embedding. Below it the scales take too much of
/// the file, and the columns are the channels.
const MIN_ROW: u64 = 256;

/// Minimum version of the standard operators for int8, because of broadcasting.
const MIN_OPSET: u64 = 7;

/// Forms of the weights of a model.
pub(super) struct Plan {
    /// Names that are taken, those of new parts included.
    pub(super) names: HashSet<String>,
    /// New forms, by the index of the initializer.
    pub(super) forms: HashMap<usize, Form>,
    weights: QuantizedWeights,
}

/// New form of a weight, with names that are free in the graph.
pub(super) enum Form {
    Int8 {
        integers: Integers,
        axis: usize,
        names: PartNames,
    },
    Fp16 {
        bytes: Vec<u8>,
        names: PartNames,
    },
    /// Integers that are multiplied as they are.
    Product(ProductWeight),
    /// Integers of an LSTM.
    Lstm(LstmWeight),
}

/// Names of the parts of a stored weight.
pub(super) struct PartNames {
    pub(super) stored: String,
    pub(super) scales: String,
    pub(super) cast: String,
}

impl Form {
    /// Bytes of the elements and scales.
    fn bytes(&self) -> u64 {
        match self {
            Self::Int8 { integers, .. } | Self::Product(ProductWeight { integers, .. }) => {
                (integers.integers.len() + 4 * integers.scales.len()) as u64
            }
            Self::Fp16 { bytes, .. } => bytes.len() as u64,
            // Each scale has a zero point.
            Self::Lstm(weight) => {
                (weight.integers.integers.len() + 5 * weight.integers.scales.len()) as u64
            }
        }
    }
}

impl Plan {
    pub(super) fn of(
        reader: &mut WireReader<'_>,
        index: &GraphIndex,
        folder: &Path,
        method: Quantization,
    ) -> Result<Self, ParseError> {
        let storage = method.storage();
        let mut plan = Self {
            names: index.names.clone(),
            forms: HashMap::new(),
            weights: QuantizedWeights {
                operators: index.operators.iter().cloned().collect(),
                ..QuantizedWeights::default()
            },
        };
        let of_lstms = match method {
            Quantization::Int8Dynamic => lstm_weights(reader, index, folder)?,
            _ => HashSet::new(),
        };
        // Largest first, in case that there are too many.
        let mut order: Vec<usize> = (0..index.initializers.len()).collect();
        order.sort_by_key(|place| std::cmp::Reverse(index.initializers[*place].count()));
        for place in order {
            let initializer = &index.initializers[place];
            let Some(count) = initializer.count().filter(|count| *count >= MIN_ELEMENTS) else {
                continue;
            };
            let form = match axis_of(initializer, index, storage) {
                Ok(Some(_)) if plan.forms.len() == MAX_STORED_WEIGHTS => Err(format!(
                    "{MAX_STORED_WEIGHTS} larger weights are stored already"
                )),
                Ok(Some(axis)) => {
                    let numbers = initializer.floats(reader, folder)?;
                    numbers.and_then(|numbers| {
                        let (name, shape) = (&initializer.name, &initializer.shape);
                        if of_lstms.contains(name) {
                            let weight = LstmWeight::of(&numbers, shape, name, &mut plan.names);
                            return Ok(Form::Lstm(weight));
                        }
                        let names = PartNames::new(name, &mut plan.names);
                        let columns = match method {
                            Quantization::Int8Dynamic => product::column_axis(initializer, index),
                            _ => None,
                        };
                        match columns {
                            Some(axis) => product_form(&numbers, shape, axis, names),
                            None => form(&numbers, shape, axis, storage, names),
                        }
                    })
                }
                Ok(None) => continue,
                Err(reason) => Err(reason),
            };
            let bytes = 4 * count;
            let form = form.and_then(|form| match form.bytes() {
                stored if stored < bytes => Ok(form),
                _ => Err("it would not become smaller".to_owned()),
            });
            match form {
                Ok(form) => {
                    plan.weights.stored.push(StoredTensor {
                        name: initializer.name.clone(),
                        bytes,
                        stored_bytes: form.bytes(),
                    });
                    plan.forms.insert(place, form);
                }
                Err(reason) => plan.weights.left.push(LeftAlone {
                    name: initializer.name.clone(),
                    bytes,
                    reason,
                }),
            }
        }
        plan.leave_subgraphs(index);
        Ok(plan)
    }

    /// Lists the weights of subgraphs, which the loader of weights does not see.
    fn leave_subgraphs(&mut self, index: &GraphIndex) {
        let weights = index.of_subgraphs.iter().filter_map(|weight| {
            let count = weight.count().filter(|count| *count >= MIN_ELEMENTS)?;
            weight.is_fp32().then(|| LeftAlone {
                name: weight.name.clone(),
                bytes: 4 * count,
                reason: "it is in a subgraph, such as a branch of If".to_owned(),
            })
        });
        let left = &mut self.weights.left;
        left.extend(weights);
        left.sort_by_key(|weight| std::cmp::Reverse(weight.bytes));
    }

    /// Returns `true` if weights are stored for the sidecar to expand.
    pub(super) fn has_stored_weights(&self) -> bool {
        let is_computed = |form: &Form| matches!(form, Form::Product(_) | Form::Lstm(_));
        !self.forms.values().all(is_computed)
    }

    pub(super) fn into_weights(self) -> QuantizedWeights {
        self.weights
    }
}

/// Returns the names of weights that become integers of an LSTM: both of its weights, which no other node uses.
fn lstm_weights(
    reader: &mut WireReader<'_>,
    index: &GraphIndex,
    folder: &Path,
) -> Result<HashSet<String>, ParseError> {
    let mut found = HashSet::new();
    if index.initializers.len() > MAX_STORED_WEIGHTS {
        return Ok(found);
    }
    for lstm in &index.lstms {
        let mut is_convertible = true;
        for name in lstm.weights() {
            is_convertible &= is_lstm_weight(reader, index, folder, name)?;
        }
        if is_convertible {
            found.extend(lstm.weights().map(str::to_owned));
        }
    }
    Ok(found)
}

/// Returns `true` if an initializer is used once, as a weight, and has finite numbers.
fn is_lstm_weight(
    reader: &mut WireReader<'_>,
    index: &GraphIndex,
    folder: &Path,
    name: &str,
) -> Result<bool, ParseError> {
    let is_used_once = matches!(
        index.uses.get(name).map(Vec::as_slice),
        Some([Use::Weight { .. }])
    );
    let fits = |it: &&Initializer| {
        let is_large = it.count().is_some_and(|count| count >= MIN_ELEMENTS);
        // With one column, the scales are larger than the integers.
        let has_columns = matches!(it.shape[..], [_, _, columns] if columns > 1);
        it.name == name
            && is_large
            && has_columns
            && matches!(axis_of(it, index, WeightStorage::Int8), Ok(Some(_)))
    };
    let Some(initializer) = index.initializers.iter().find(fits) else {
        return Ok(false);
    };
    let numbers = initializer.floats(reader, folder)?;
    let is_finite = numbers.and_then(|numbers| check_finite(&numbers)).is_ok();
    Ok(is_used_once && is_finite)
}

/// Returns the axis of a weight's channels; `None` for a tensor that is no weight. A weight that must stay is an error
/// in words.
fn axis_of(
    initializer: &Initializer,
    index: &GraphIndex,
    storage: WeightStorage,
) -> Result<Option<usize>, String> {
    if !initializer.is_fp32() {
        // Integers are mostly indices and shapes.
        return match initializer.other_type() {
            Some(datatype) => Err(format!("it is {datatype} already")),
            None => Ok(None),
        };
    }
    if let Some(reason) = initializer.refusal() {
        return Err(reason);
    }
    let name = initializer.name.as_str();
    if index.inputs.contains(name) {
        return Err("it is an input, whose value a request can replace".to_owned());
    }
    if index.outputs.contains(name) {
        return Err("it is an output".to_owned());
    }
    if index.ambiguous.contains(name) {
        return Err("its name is used more than once".to_owned());
    }
    let mut candidates = Vec::new();
    let mut seen = HashSet::new();
    let rank = initializer.shape.len();
    uses(
        index,
        name,
        &(0..rank).collect::<Vec<_>>(),
        &mut seen,
        &mut candidates,
    )?;
    let preferred = candidates.iter().find(|(operator, _)| operator != "Gather");
    let Some((operator, axis)) = preferred.or(candidates.first()) else {
        return Err("it is not used".to_owned());
    };
    if storage == WeightStorage::Int8 && index.opset < MIN_OPSET {
        return Err(format!(
            "the model's opset {} is older than {MIN_OPSET}",
            index.opset
        ));
    }
    let axis = *axis;
    if operator == "Gather" && rank > 1 {
        let rows = initializer.shape[axis];
        let length = initializer.count().unwrap_or(0) / rows.max(1);
        if length < MIN_ROW && axis != rank - 1 {
            return Ok(Some(rank - 1));
        }
    }
    Ok(Some(axis))
}

/// Collects the operators that use a tensor as a weight, each with the axis of the weight's channels. `order` has the
/// weight's axes in the order of the tensor's. A use in another way is an error.
fn uses(
    index: &GraphIndex,
    name: &str,
    order: &[usize],
    seen: &mut HashSet<String>,
    found: &mut Vec<(String, usize)>,
) -> Result<(), String> {
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    for use_of in index.uses.get(name).into_iter().flatten() {
        match use_of {
            Use::Weight { operator, axis } => {
                let rank = i64::try_from(order.len()).unwrap_or(0);
                let axis = if *axis < 0 { axis + rank } else { *axis };
                let axis = usize::try_from(axis).ok().and_then(|axis| order.get(axis));
                match axis {
                    Some(axis) => found.push((operator.clone(), *axis)),
                    None => return Err(format!("its rank does not fit {operator}")),
                }
            }
            Use::Through {
                output,
                permutation,
            } => {
                if index.outputs.contains(output) {
                    return Err("it is an output".to_owned());
                }
                let permuted = match permutation {
                    None => order.iter().rev().copied().collect(),
                    Some(permuted) if permuted.is_empty() => order.to_vec(),
                    Some(permuted) => permuted
                        .iter()
                        .map(|axis| order.get(usize::try_from(*axis).ok()?).copied())
                        .collect::<Option<Vec<usize>>>()
                        .ok_or("its Transpose is invalid")?,
                };
                uses(index, output, &permuted, seen, found)?;
            }
            Use::Other(operator) => return Err(format!("it is used by {operator}")),
        }
    }
    Ok(())
}

/// Converts the numbers.
fn form(
    numbers: &[f32],
    shape: &[u64],
    axis: usize,
    storage: WeightStorage,
    names: PartNames,
) -> Result<Form, String> {
    check_finite(numbers)?;
    match storage {
        WeightStorage::Int8 => {
            let (channels, run) = layout(shape, axis)?;
            let integers = values::int8(numbers, channels, run, values::MAX_INTEGER);
            Ok(Form::Int8 {
                integers,
                axis,
                names,
            })
        }
        WeightStorage::Fp16 => match values::fp16(numbers) {
            Some(bytes) => Ok(Form::Fp16 { bytes, names }),
            None => Err("it holds a number beyond 65504, the largest of FP16".to_owned()),
        },
    }
}

/// Converts the numbers of a matrix whose columns, in the product, are along this axis.
fn product_form(
    numbers: &[f32],
    shape: &[u64],
    axis: usize,
    names: PartNames,
) -> Result<Form, String> {
    check_finite(numbers)?;
    let (channels, run) = layout(shape, axis)?;
    let integers = values::int8(numbers, channels, run, product::MAX_INTEGER);
    let weight = ProductWeight::new(integers, axis == 0, names.stored, names.scales);
    Ok(Form::Product(weight))
}

fn check_finite(numbers: &[f32]) -> Result<(), String> {
    if numbers.iter().all(|number| number.is_finite()) {
        Ok(())
    } else {
        Err("it holds NaN or an infinite number".to_owned())
    }
}

/// Returns the number of channels along an axis, and of consecutive numbers of each.
fn layout(shape: &[u64], axis: usize) -> Result<(usize, usize), String> {
    let product = |sizes: &[u64]| usize::try_from(sizes.iter().product::<u64>());
    match (product(&shape[axis..=axis]), product(&shape[axis + 1..])) {
        (Ok(channels), Ok(run)) => Ok((channels, run)),
        _ => Err("it is too large".to_owned()),
    }
}

impl PartNames {
    /// Returns names that are not taken, and takes them.
    fn new(weight: &str, taken: &mut HashSet<String>) -> Self {
        let mut name = |part: &str| free_name(weight, part, taken);
        Self {
            stored: name("quantized"),
            scales: name("scale"),
            cast: name("cast"),
        }
    }
}
