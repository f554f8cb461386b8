//! The sidecar's codecs without a server, for `make bench-inference`. The time to decode a JSON
//! request is compared, in turns, with that of `serde_json`'s `Value` of the same bytes.
//! Allocations are counted. The sample of rows for drift is measured as well.
//!
//! `bench-codec IMAGE ROW` names two files with bodies of the Open Inference Protocol: 1x3x224x224
//! numbers, and one row of 13. It is built in the release profile. The result is one line of JSON:
//! nanoseconds are medians, `tensor_bytes` is the size of the numbers themselves.

mod count;
mod drift;

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use model_sidecar::protocol::{Decoded, ServingVersion, predict, v2};
use model_sidecar::request_memory::Charge;
use model_sidecar::tensor::{Data, Datatype, Kind, Port, Signature, Tensor, Value};
use serde_json::json;

use count::{Allocations, counted};

/// Number of repetitions of each decoder, in turns.
const REPETITIONS: usize = 41;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, row] = &arguments[..] else {
        anyhow::bail!("usage: bench-codec IMAGE ROW");
    };
    let (image, row) = (
        Bytes::from(std::fs::read(image)?),
        Bytes::from(std::fs::read(row)?),
    );
    let pictures = signature("x", &[None, Some(3), Some(224), Some(224)]);
    let rows = signature("X", &[None, Some(13)]);

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let started = Instant::now();
        black_box(read(&image, &pictures)?);
        ours.push(started.elapsed());
        let started = Instant::now();
        black_box(serde_json::from_slice::<serde_json::Value>(&image)?);
        theirs.push(started.elapsed());
    }
    let (picture, reading_picture) = counted(|| read(&image, &pictures));
    let (one, reading_row) = counted(|| read(&row, &rows));
    let one = one?;
    let plain = format!("{{\"features\":[[{}]]}}", numbers(&one)?);
    let (plain, reading_plain) =
        counted(|| predict::decode(plain.as_bytes(), &rows, &mut Charge::unlimited()));
    plain.map_err(|error| anyhow::anyhow!("{error}"))?;
    let served_by = ServingVersion {
        model: "small",
        version: "0123456789ab",
    };
    let outputs = vec![("label".to_owned(), Value::Tensor(label()?))];
    let (_, writing) = counted(|| v2::ResponseFormat::default().encode(served_by, outputs));
    let [mut drift, mut drift_separate] = drift::measure()?;
    println!(
        "{}",
        json!({
            "drift": median(&mut drift),
            "drift_separate": median(&mut drift_separate),
            "ours": median(&mut ours),
            "value": median(&mut theirs),
            "tensor_bytes": bytes(&picture?)?,
            "image": summary(&reading_picture),
            "row": summary(&reading_row),
            "plain": summary(&reading_plain),
            "answer": summary(&writing),
        })
    );
    Ok(())
}

fn signature(name: &str, shape: &[Option<usize>]) -> Signature {
    Signature {
        inputs: vec![Port {
            name: name.to_owned(),
            kind: Kind::Tensor {
                datatype: Datatype::Fp32,
                shape: shape.to_vec(),
            },
        }],
        outputs: Vec::new(),
    }
}

fn read(body: &Bytes, signature: &Signature) -> Result<Decoded> {
    let read = v2::decode(body, None, signature, &mut Charge::unlimited());
    let (decoded, _) = read.map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(decoded)
}

fn tensor(decoded: &Decoded) -> Result<&[f32]> {
    match decoded.inputs.first() {
        Some((_, Value::Tensor(tensor))) => match tensor.data() {
            Data::Fp32(numbers) => Ok(numbers),
            other => anyhow::bail!("{} instead of FP32", other.datatype().name()),
        },
        _ => anyhow::bail!("no tensor"),
    }
}

fn bytes(decoded: &Decoded) -> Result<usize> {
    Ok(size_of_val(tensor(decoded)?))
}

fn numbers(decoded: &Decoded) -> Result<String> {
    let numbers = tensor(decoded)?.iter().map(f32::to_string);
    Ok(numbers.collect::<Vec<_>>().join(","))
}

fn label() -> Result<Tensor> {
    Tensor::new(vec![1], Data::from(vec![2_i64])).map_err(|error| anyhow::anyhow!("{error}"))
}

fn median(times: &mut [Duration]) -> u128 {
    times.sort_unstable();
    times[times.len() / 2].as_nanos()
}

fn summary(allocations: &Allocations) -> serde_json::Value {
    json!({ "allocations": allocations.count, "bytes": allocations.bytes })
}
