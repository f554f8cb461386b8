//! `modelctl optimize`, run as a user would, on real models and on invalid files.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod model;
mod quantize;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use model_sidecar::engine::{Cancel, Engine as _, OnnxRuntime};
use model_sidecar::ids::FilePath;
use model_sidecar::onnx::{AtLoad, Description, OptimisationMark};
use model_sidecar::tensor::{Tensor, Value};
use serde_json::json;
use tempfile::TempDir;

use model::{FLOAT, INT64, Model};

fn models() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

/// Output, and `true` on success.
struct CommandOutput {
    success: bool,
    text: String,
}

fn modelctl(arguments: &[&str]) -> CommandOutput {
    let output = Command::new(env!("CARGO_BIN_EXE_modelctl"))
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    CommandOutput {
        success: output.status.success(),
        text: String::from_utf8(text).unwrap(),
    }
}

fn optimize(model: &Path, output: &Path, more: &[&str]) -> CommandOutput {
    let paths = [model.to_str().unwrap(), "-o", output.to_str().unwrap()];
    modelctl(&[&["optimize"], &paths[..], more].concat())
}

#[track_caller]
fn assert_rejected(output: &CommandOutput, reason: &str) {
    assert!(
        !output.success && output.text.contains(reason),
        "{}",
        output.text
    );
}

/// File names in a folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn description(model: &Path) -> Description {
    Description::read(&File::open(model).unwrap()).unwrap()
}

/// Runs a model on one tensor, in the sidecar's own engine.
fn run(model: &Path, name: &str, tensor: &Tensor) -> Vec<(String, Value)> {
    static ENGINE: OnceLock<OnnxRuntime> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        let library = format!(
            "../../target/onnxruntime/{}/libonnxruntime.so.1.28.0",
            std::env::consts::ARCH
        );
        let library = Path::new(env!("CARGO_MANIFEST_DIR")).join(library);
        OnnxRuntime::open(&library, 1, None).expect("run `make onnxruntime` first")
    });
    let session = engine.load(model, None).unwrap();
    let inputs = [(name.to_owned(), Value::Tensor(tensor.clone()))];
    session.run(&inputs, &[], &Cancel::default()).unwrap()
}

/// A folder with a model in it, and the model's path.
fn with(model: &Model) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    fs::write(&file, model.bytes()).unwrap();
    (folder, file)
}

/// x [rows, 1024] → y = Relu(x W + b), with 4.7 MB of weights, which ONNX Runtime fuses to one node.
fn dense() -> Model {
    let wave = |count: usize| {
        (0_u16..)
            .take(count)
            .map(|place| f32::from(place % 977) / 977.0 - 0.5)
    };
    let (rows, columns) = (1024, 1144);
    Model::new()
        .input("x", FLOAT, &["rows", "1024"])
        .output("y", FLOAT, &["rows", "1144"])
        .floats("W", &[rows, columns], (0..rows).flat_map(|_| wave(columns)))
        .floats("b", &[columns], wave(columns))
        .node("Gemm", &["x", "W", "b"], &["sum"])
        .node("Relu", &["sum"], &["y"])
}

#[test]
fn a_large_model_becomes_a_graph_and_external_data_with_the_same_outputs() {
    let (folder, given) = with(&dense());
    let out = folder.path().join("new/out");
    let output = optimize(&given, &out, &["--dim", "rows=3", "--favour", "balance"]);
    assert!(output.success, "{}", output.text);
    assert!(
        output.text.contains("outputs agree on 3 generated inputs"),
        "{}",
        output.text
    );
    for row in ["bytes ", "load ", "peak memory ", "one run "] {
        assert!(output.text.contains(row), "{}", output.text);
    }

    let data = "model.onnx.data".to_owned();
    assert_eq!(
        names(&out),
        BTreeSet::from(["model.onnx".to_owned(), data.clone()])
    );
    let made = out.join("model.onnx");
    let description = description(&made);
    let external: Vec<&str> = description.external.iter().map(FilePath::as_str).collect();
    assert_eq!(external, [data]);
    let mark = description.mark().unwrap();
    assert_eq!(mark.by, "onnxruntime 1.28.0, extended");
    assert_eq!(mark.at_load, AtLoad::AsItIs);
    assert!(fs::metadata(&made).unwrap().len() < 10_000);

    let row = (0_u16..1024).map(|place| f32::from(place) / 1024.0);
    let row = Tensor::new(vec![1, 1024], row.collect::<Vec<f32>>()).unwrap();
    let (before, after) = (run(&given, "x", &row), run(&made, "x", &row));
    let (Value::Tensor(before), Value::Tensor(after)) = (&before[0].1, &after[0].1) else {
        panic!("no tensors");
    };
    assert_eq!(before, after);
    // No temporary file remains.
    assert_eq!(
        names(folder.path()),
        BTreeSet::from(["model.onnx".to_owned(), "new".to_owned()])
    );
    assert_eq!(
        names(&folder.path().join("new")),
        BTreeSet::from(["out".to_owned()])
    );

    assert_rejected(
        &optimize(&made, &folder.path().join("again"), &[]),
        "is already optimised (by onnxruntime 1.28.0, extended)",
    );
    assert!(!folder.path().join("again").exists());
}

#[test]
fn a_small_model_stays_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let (given, made) = (
        models().join("wine-v1.onnx"),
        folder.path().join("wine.onnx"),
    );
    for (favour, at_load) in [
        ("start", AtLoad::Map),
        ("balance", AtLoad::AsItIs),
        ("runs", AtLoad::Optimise),
    ] {
        let output = optimize(&given, &made, &["--favour", favour, "--force"]);
        assert!(output.success, "{}", output.text);
        assert_eq!(description(&made).at_load(), at_load);
    }
    assert_eq!(
        names(folder.path()),
        BTreeSet::from(["wine.onnx".to_owned()])
    );
    let wine: serde_json::Value =
        serde_json::from_slice(&fs::read(models().join("wine.json")).unwrap()).unwrap();
    let rows: Vec<Vec<f32>> = serde_json::from_value(wine["rows"].clone()).unwrap();
    let rows = Tensor::new(vec![rows.len(), 13], rows.concat()).unwrap();
    assert_eq!(run(&given, "X", &rows), run(&made, "X", &rows));
}

#[test]
fn a_model_with_external_data_is_read_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = optimize(
        &models().join("external/several-files.onnx"),
        folder.path(),
        &[],
    );
    assert!(output.success, "{}", output.text);
    let made = folder.path().join("several-files.onnx");
    assert_eq!(description(&made).external.len(), 0);
    let x = Tensor::new(vec![4], vec![0.0_f32; 4]).unwrap();
    let threes = Tensor::new(vec![4], vec![3.0_f32; 4]).unwrap();
    assert_eq!(
        run(&made, "x", &x),
        [("y".to_owned(), Value::Tensor(threes))]
    );
}

#[test]
fn existing_files_are_replaced_only_with_force_and_the_model_itself_never() {
    let folder = tempfile::tempdir().unwrap();
    let given = folder.path().join("given.onnx");
    fs::copy(models().join("fixed-batch.onnx"), &given).unwrap();
    let out = folder.path().join("out.onnx");
    fs::write(&out, "before").unwrap();
    assert_rejected(
        &optimize(&given, &out, &[]),
        "out.onnx already exists; --force replaces it",
    );
    assert_eq!(fs::read(&out).unwrap(), b"before");
    let output = optimize(&given, &out, &["--force"]);
    assert!(output.success, "{}", output.text);
    assert!(description(&out).mark().is_some());

    let content = fs::read(&given).unwrap();
    for place in [&given, folder.path()] {
        assert_rejected(
            &optimize(&given, place, &["--force"]),
            "belongs to the model itself",
        );
    }
    assert_eq!(fs::read(&given).unwrap(), content);
    assert_rejected(&optimize(&given, &given.join("x"), &[]), "given.onnx");
}

#[test]
fn files_that_cannot_be_optimised_are_rejected_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let page = folder.path().join("page.onnx");
    fs::write(&page, "<html>not found</html>").unwrap();
    fs::write(folder.path().join("empty.onnx"), "").unwrap();
    let cases = [
        (models().join("nowhere.onnx"), "cannot open"),
        (models().join("external"), "is not a file"),
        (page, "the file begins with \"<html>not found</html>\""),
        (folder.path().join("empty.onnx"), "the model file is empty"),
        (
            models().join("truncated.onnx"),
            "cannot parse the file as ONNX",
        ),
        (
            models().join("external/one-file.ort"),
            "in ONNX Runtime's own format",
        ),
        (
            models().join("external/above.onnx"),
            "\"../one.bin\" of tensor \"w\"; allowed is a path inside",
        ),
        (
            models().join("external/absolute.onnx"),
            "\"/etc/passwd\" of tensor \"w\"; allowed is a path inside",
        ),
    ];
    for (model, reason) in cases {
        assert_rejected(&optimize(&model, &out, &[]), reason);
    }
    let (_own, custom) = with(
        &Model::new()
            .input("x", FLOAT, &["n"])
            .output("y", FLOAT, &["n"])
            .node("example.org:Spell", &["x"], &["y"]),
    );
    assert_rejected(
        &optimize(&custom, &out, &[]),
        "operators that ONNX Runtime does not know",
    );
    assert!(!out.exists());
}

#[test]
fn nothing_is_written_when_the_outputs_differ() {
    // A random number depends on its node's index in the graph, which the removal of the first node
    // changes.
    let (folder, given) = with(
        &Model::new()
            .input("x", FLOAT, &["1000"])
            .output("y", FLOAT, &["1000"])
            .node("Identity", &["x"], &["same"])
            .node("RandomUniformLike", &["same"], &["random"])
            .node("Add", &["same", "random"], &["y"]),
    );
    let out = folder.path().join("out");
    let output = optimize(&given, &out, &[]);
    assert_rejected(
        &output,
        "output \"y\" of the optimised model differs: the largest difference is ",
    );
    assert!(
        output
            .text
            .contains("times the tolerance; nothing is written"),
        "{}",
        output.text
    );
    assert_eq!(
        names(folder.path()),
        BTreeSet::from(["model.onnx".to_owned()])
    );
    let output = optimize(&given, &out, &["--tolerance", "2"]);
    assert!(output.success, "{}", output.text);
}

/// place int64 [n] → y, the elements at these indices of a list of one: it fails on any index but
/// 0.
fn picky() -> (TempDir, PathBuf) {
    with(
        &Model::new()
            .input("place", INT64, &["n"])
            .output("y", FLOAT, &["n"])
            .floats("list", &[1], [7.0])
            .node("Gather", &["list", "place"], &["y"]),
    )
}

#[test]
fn a_skipped_comparison_is_reported_and_inputs_can_be_given() {
    let (folder, given) = picky();
    let out = folder.path().join("out");
    let output = optimize(&given, &out, &[]);
    assert!(output.success, "{}", output.text);
    assert!(
        output.text.contains("outputs were NOT compared"),
        "{}",
        output.text
    );
    assert!(
        output.text.contains("give valid ones with --input"),
        "{}",
        output.text
    );

    let request = |place: i64| {
        let file = folder.path().join(format!("{place}.json"));
        let input = json!({"name": "place", "shape": [2], "datatype": "INT64", "data": [0, place]});
        fs::write(&file, json!({ "inputs": [input] }).to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let output = optimize(&given, &out, &["--force", "--input", &request(0)]);
    assert!(output.success, "{}", output.text);
    assert!(
        output.text.contains("outputs agree on 1 given input;"),
        "{}",
        output.text
    );
    let bad = optimize(&given, &out, &["--force", "--input", &request(5)]);
    assert_rejected(&bad, "5.json: the model cannot be run on it");
    assert_eq!(names(&out), BTreeSet::from(["model.onnx".to_owned()]));
}

#[test]
fn a_dimension_that_the_model_does_not_have_is_a_mistake() {
    let (folder, given) = picky();
    let out = folder.path().join("out");
    assert_rejected(
        &optimize(&given, &out, &["--dim", "batch=4"]),
        "--dim batch: the model has no free dimension of this name; it has n",
    );
    assert_rejected(
        &optimize(&given, &out, &["--dim", "batch"]),
        "expected NAME=LENGTH",
    );
    assert_rejected(
        &optimize(&given, &out, &["--dim", "n=99999999999"]),
        "is too large",
    );
}

#[test]
fn a_marked_model_is_loaded_as_it_is() {
    // ONNX Runtime computes a constant of 400 MB when it optimises this model.
    let folder = tempfile::tempdir().unwrap();
    let peak = |mark: Option<AtLoad>| {
        let file = folder.path().join("model.onnx");
        let mut content = fs::read(models().join("hungry.onnx")).unwrap();
        if let Some(at_load) = mark {
            let by = "a test".to_owned();
            content.extend(OptimisationMark { by, at_load }.bytes());
        }
        fs::write(&file, content).unwrap();
        let output = modelctl(&["load", file.to_str().unwrap()]);
        assert!(output.success, "{}", output.text);
        let took: serde_json::Value = serde_json::from_str(&output.text).unwrap();
        took["peak_bytes"].as_u64().unwrap()
    };
    let megabytes_400 = 400_000_000;
    for at_load in [AtLoad::AsItIs, AtLoad::Map] {
        assert!(peak(Some(at_load)) < megabytes_400);
    }
    assert!(peak(Some(AtLoad::Optimise)) > megabytes_400);
    assert!(peak(None) > megabytes_400);
}
