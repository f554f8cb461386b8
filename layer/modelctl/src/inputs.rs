//! Inputs on which two models are compared: requests given by the user, or values generated from
//! the signature.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use half::{bf16, f16};
use model_sidecar::engine::{DimensionNames, OnnxRuntime};
use model_sidecar::protocol::v2;
use model_sidecar::request_memory::Charge;
use model_sidecar::tensor::{Data, Datatype, Kind, Port, Signature, Tensor, Value, element_count};
use serde_json::json;

/// Number of generated inputs.
const GENERATED_INPUTS: u64 = 3;
/// Maximum number of elements of a generated tensor. More means a mistake in a `--dim`.
const MAX_ELEMENTS: usize = 1 << 28;

/// One value for each of a model's inputs.
pub(crate) type Inputs = Vec<(String, Value)>;

#[derive(clap::Args)]
pub(crate) struct InputOptions {
    /// Inputs to compare on, as a request of the Open Inference Protocol (v2, JSON); repeatable
    /// [default: generated from the model's signature]
    #[arg(long = "input", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Length of a free dimension, by its name in the model, or by input and index (`--dim x.0=4`)
    /// [default: 1]
    #[arg(long = "dim", value_name = "NAME=LENGTH", value_parser = dimension, conflicts_with = "files")]
    dimensions: Vec<(String, usize)>,
}

/// Reads a request for a model with this signature.
pub(crate) fn read(file: &Path, signature: &Signature) -> anyhow::Result<Inputs> {
    let read = || {
        let request = std::fs::read(file)?;
        let (decoded, _) = v2::decode(&request.into(), None, signature, &mut Charge::unlimited())?;
        anyhow::Ok(decoded.inputs)
    };
    read().with_context(|| format!("--input {}", file.display()))
}

/// Writes a request with generated inputs, which are always tensors.
pub(crate) fn write(file: &Path, inputs: &Inputs) -> anyhow::Result<()> {
    let inputs: Vec<serde_json::Value> = inputs
        .iter()
        .filter_map(|(name, value)| match value {
            Value::Tensor(tensor) => Some(self::tensor(name, tensor)),
            _ => None,
        })
        .collect();
    std::fs::write(file, json!({ "inputs": inputs }).to_string())?;
    Ok(())
}

/// A tensor in the form of the Open Inference Protocol. A number that is not finite becomes `null`.
pub(crate) fn tensor(name: &str, tensor: &Tensor) -> serde_json::Value {
    json!({
        "name": name,
        "shape": tensor.shape(),
        "datatype": tensor.datatype().name(),
        "data": numbers(tensor.data()),
    })
}

fn numbers(data: &Data) -> serde_json::Value {
    match data {
        Data::Bool(values) => json!(values),
        Data::Uint8(values) => json!(values),
        Data::Uint16(values) => json!(values),
        Data::Uint32(values) => json!(values),
        Data::Uint64(values) => json!(values),
        Data::Int8(values) => json!(values),
        Data::Int16(values) => json!(values),
        Data::Int32(values) => json!(values),
        Data::Int64(values) => json!(values),
        Data::Fp16(values) => values.iter().map(|value| value.to_f32()).collect(),
        Data::Bf16(values) => values.iter().map(|value| value.to_f32()).collect(),
        Data::Fp32(values) => json!(values),
        Data::Fp64(values) => json!(values),
        Data::Bytes(values) => values.iter().collect(),
    }
}

fn dimension(text: &str) -> Result<(String, usize), String> {
    text.rsplit_once('=')
        .and_then(|(name, length)| Some((name.to_owned(), length.parse().ok()?)))
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| "expected NAME=LENGTH, such as batch=4".to_owned())
}

impl InputOptions {
    /// Returns `true` if the user has given neither inputs nor lengths of dimensions.
    pub(crate) fn is_default(&self) -> bool {
        self.files.is_empty() && self.dimensions.is_empty()
    }

    /// Returns the names of the model's free dimensions, or none if no `--dim` needs them.
    pub(crate) fn dimension_names(
        &self,
        engine: &OnnxRuntime,
        model: &Path,
    ) -> anyhow::Result<DimensionNames> {
        if self.dimensions.is_empty() {
            return Ok(DimensionNames::default());
        }
        Ok(engine.dimension_names(model)?)
    }

    /// The inputs for a model with this signature.
    pub(crate) fn read(
        &self,
        signature: &Signature,
        names: &DimensionNames,
    ) -> anyhow::Result<Vec<Inputs>> {
        if self.files.is_empty() {
            return self.make_up(signature, names);
        }
        self.files
            .iter()
            .map(|file| read(file, signature))
            .collect()
    }

    fn make_up(
        &self,
        signature: &Signature,
        names: &DimensionNames,
    ) -> anyhow::Result<Vec<Inputs>> {
        let given: BTreeMap<&str, usize> = self
            .dimensions
            .iter()
            .map(|(name, length)| (name.as_str(), *length))
            .collect();
        let mut used = Vec::new();
        let mut shapes = Vec::new();
        // Optional inputs are omitted.
        for port in signature.required() {
            let of_port = names.iter().find(|(input, _)| *input == port.name);
            let of_port = of_port.map_or(&[][..], |(_, names)| names);
            shapes.push((port, shape(port, of_port, &given, &mut used)?));
        }
        if let Some(unknown) = given.keys().find(|name| !used.contains(*name)) {
            bail!(
                "--dim {unknown}: the model has no free dimension of this name; {}",
                free(names)
            );
        }
        let inputs = |seed: u64| {
            let mut random = Random(seed);
            shapes
                .iter()
                .map(|(port, (datatype, shape))| {
                    let count = element_count(shape).filter(|count| *count <= MAX_ELEMENTS);
                    let count = count.with_context(|| {
                        format!("input {:?} of shape {shape:?} is too large", port.name)
                    })?;
                    let tensor = Tensor::new(shape.clone(), random.data(*datatype, count))?;
                    Ok((port.name.clone(), Value::Tensor(tensor)))
                })
                .collect()
        };
        (1..=GENERATED_INPUTS).map(inputs).collect()
    }
}

/// Lists the free dimensions, for an error message.
fn free(names: &DimensionNames) -> String {
    let names: Vec<&str> = names
        .iter()
        .flat_map(|(_, names)| names)
        .map(String::as_str)
        .filter(|name| !name.is_empty())
        .collect();
    if names.is_empty() {
        "the model has no named dimension".to_owned()
    } else {
        format!("it has {}", names.join(", "))
    }
}

fn shape<'a>(
    port: &Port,
    names: &[String],
    given: &BTreeMap<&'a str, usize>,
    used: &mut Vec<&'a str>,
) -> anyhow::Result<(Datatype, Vec<usize>)> {
    let Kind::Tensor { datatype, shape } = &port.kind else {
        bail!(
            "input {:?} takes a {}, which cannot be generated; give one with --input",
            port.name,
            port.kind
        );
    };
    let length = |(axis, fixed): (usize, &Option<usize>)| {
        let place = format!("{}.{axis}", port.name);
        let name = names.get(axis).map_or("", String::as_str);
        let wanted = given
            .get_key_value(place.as_str())
            .or(given.get_key_value(name));
        match (fixed, wanted) {
            (Some(fixed), _) => *fixed,
            (None, Some((name, length))) => {
                used.push(*name);
                *length
            }
            (None, None) => 1,
        }
    };
    Ok((*datatype, shape.iter().enumerate().map(length).collect()))
}

/// Reproducible pseudorandom numbers (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from −1 to 1.
    fn real(&mut self) -> f32 {
        f32::from(self.byte()) / 128.0 - 1.0 + f32::from(self.byte()) / 32768.0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// Real numbers are around zero, and bytes have any value, as in an image. Wider integers are 0
    /// and 1, beginning with 1, because they are mostly indices or masks.
    fn data(&mut self, datatype: Datatype, count: usize) -> Data {
        macro_rules! small {
            ($integer:ty) => {
                (0..count)
                    .map(|place| <$integer>::from(place == 0 || self.byte() & 1 == 1))
                    .collect::<Vec<$integer>>()
                    .into()
            };
        }
        macro_rules! each {
            ($value:expr) => {
                (0..count).map(|_| $value).collect::<Vec<_>>().into()
            };
        }
        match datatype {
            Datatype::Bool => each!(self.byte() & 1 == 1),
            Datatype::Uint8 => each!(self.byte()),
            Datatype::Int8 => each!(self.byte().cast_signed()),
            Datatype::Uint16 => small!(u16),
            Datatype::Uint32 => small!(u32),
            Datatype::Uint64 => small!(u64),
            Datatype::Int16 => small!(i16),
            Datatype::Int32 => small!(i32),
            Datatype::Int64 => small!(i64),
            Datatype::Fp16 => each!(f16::from_f32(self.real())),
            Datatype::Bf16 => each!(bf16::from_f32(self.real())),
            Datatype::Fp32 => each!(self.real()),
            Datatype::Fp64 => each!(f64::from(self.real())),
            Datatype::Bytes => each!(format!("text {}", self.byte())),
        }
    }
}
