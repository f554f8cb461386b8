//! `--quantize`, on models with and without data.

use std::fs;
use std::path::Path;

use model_sidecar::manifest::Golden;
use model_sidecar::onnx::WeightStorage;
use serde_json::{Value as Json, json};

use crate::model::{FLOAT, Model};
use crate::{CommandOutput, assert_rejected, description, models, names, optimize, with};

fn quantize(model: &Path, output: &Path, kind: &str, more: &[&str]) -> CommandOutput {
    optimize(model, output, &[&["--quantize", kind], more].concat())
}

/// x [rows, 64] → scores [rows, 10], with weights that differ from column to column.
fn classifier() -> Model {
    let wave = |count: usize, step: u16| {
        let numbers = (0_u16..).take(count);
        numbers.map(move |place| f32::from(place.wrapping_mul(step) % 977) / 977.0 - 0.5)
    };
    Model::new()
        .input("x", FLOAT, &["rows", "64"])
        .output("scores", FLOAT, &["rows", "10"])
        .floats("up", &[64, 256], wave(64 * 256, 37))
        .floats("down", &[256, 10], wave(2560, 91))
        .floats("shift", &[256], wave(256, 13))
        .node("MatMul", &["x", "up"], &["wide"])
        .node("Add", &["wide", "shift"], &["sum"])
        .node("Relu", &["sum"], &["kept"])
        .node("MatMul", &["kept", "down"], &["scores"])
}

/// Rows of 64 numbers, as CSV with a label.
fn rows(count: usize, label: impl Fn(usize) -> String) -> String {
    let header: Vec<String> = (0..64).map(|column| format!("c{column}")).collect();
    let mut text = format!("{},label\n", header.join(","));
    for row in 0..count {
        let cells = (0..64).map(|column| ((row * 31 + column * 7) % 19).to_string() + ".5,");
        text += &(cells.collect::<String>() + &label(row) + "\n");
    }
    text
}

#[test]
fn a_quantized_model_is_marked_compared_and_has_golden_examples() {
    let (folder, model) = with(&classifier());
    let data = folder.path().join("rows.csv");
    fs::write(&data, rows(40, |_| "3".to_owned())).unwrap();
    let data = data.to_str().unwrap();
    for (kind, storage) in [("int8", WeightStorage::Int8), ("fp16", WeightStorage::Fp16)] {
        let out = folder.path().join(kind);
        let output = quantize(
            &model,
            &out,
            kind,
            &["--data", data, "--max-difference", "100"],
        );
        assert!(output.success, "{}", output.text);
        for text in [
            "output scores on 40 rows: largest difference",
            "changed labels: 0 of 40",
            "of 40 rows before",
            "2 weights stored as",
            "with zstd",
        ] {
            assert!(output.text.contains(text), "{text}: {}", output.text);
        }
        let made = out.join("model.onnx");
        assert_eq!(description(&made).weight_storage(), Some(storage));
        let bytes = fs::metadata(&made).unwrap().len();
        assert!(
            bytes < fs::metadata(&model).unwrap().len() * 3 / 5,
            "{bytes}"
        );
        let golden = fs::read(out.join("model.onnx.golden.json")).unwrap();
        let golden: Json = serde_json::from_slice(&golden).unwrap();
        assert_eq!(golden.as_array().unwrap().len(), 2, "one for each run");
        assert_eq!(golden[0]["inputs"][0]["shape"], json!([1, 64]));
        assert!(golden[0]["tolerance"]["absolute"].as_f64().unwrap() < 200.0);
        // A manifest accepts the examples.
        let golden: Vec<Golden> = serde_json::from_value(golden).unwrap();
        assert_eq!(golden[0].outputs[0].shape, [1, 10]);

        let again = quantize(&made, &folder.path().join("again"), kind, &[]);
        assert_rejected(&again, "already quantized");
    }
}

#[test]
fn nothing_is_written_beyond_the_maximum_difference_or_without_weights() {
    let (folder, model) = with(&classifier());
    let out = folder.path().join("out");
    let output = quantize(&model, &out, "int8", &["--max-difference", "1e-9"]);
    assert_rejected(
        &output,
        "--max-difference allows 1.0e-9; nothing is written",
    );
    let forest = models().join("zoo/xgboost-classifier.onnx");
    assert_rejected(
        &quantize(&forest, &out, "int8", &[]),
        "(its operators: TreeEnsembleClassifier",
    );
    assert!(!out.exists());
    assert_eq!(names(folder.path()).len(), 1);
}

#[test]
fn without_labels_the_accuracy_is_not_measured() {
    let (folder, model) = with(&classifier());
    let out = folder.path().join("out");
    let output = quantize(&model, &out, "int8", &["--dim", "rows=4"]);
    assert!(output.success, "{}", output.text);
    for text in ["on 3 generated inputs", "accuracy not measured"] {
        assert!(output.text.contains(text), "{text}: {}", output.text);
    }
    assert_rejected(
        &quantize(&model, &out, "int8", &[]),
        "already exists; --force",
    );
    let data = folder.path().join("rows.csv");
    fs::write(&data, "a\n1\n").unwrap();
    let output = quantize(
        &model,
        &out,
        "int8",
        &["--force", "--data", data.to_str().unwrap()],
    );
    assert_rejected(&output, "--data");
}
