//! Validation of sessions whose outputs the test defines.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value as Json, json};

use super::*;
use crate::tensor::{Data, Datatype, Kind, Port};

mod golden_examples;

/// A model with a signature, and the result of its runs.
struct Model {
    signature: Signature,
    answer: Answer,
    runs: AtomicUsize,
}

enum Answer {
    /// The requested ones of these outputs.
    Outputs(Vec<(String, Value)>),
    Fails,
    Panics,
    /// A run that ends only when it is cancelled.
    Endless,
}

impl Session for Model {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(
        &self,
        _: &[(String, Value)],
        asked: &[String],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Value)>, EngineError> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        match &self.answer {
            Answer::Outputs(outputs) => {
                let wanted =
                    |(name, _): &&(String, Value)| asked.is_empty() || asked.contains(name);
                Ok(outputs.iter().filter(wanted).cloned().collect())
            }
            Answer::Fails => Err(EngineError::Run("not today".to_owned())),
            Answer::Panics => Err(EngineError::Panicked("index out of bounds".to_owned())),
            Answer::Endless => {
                while !cancel.is_cancelled() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(EngineError::Cancelled)
            }
        }
    }
}

fn port(name: &str, datatype: Datatype, shape: &[i64]) -> Port {
    Port {
        name: name.to_owned(),
        kind: Kind::Tensor {
            datatype,
            shape: shape.iter().map(|&dim| usize::try_from(dim).ok()).collect(),
        },
    }
}

/// Signature with rows of two numbers as input, and a label and a score per row as outputs.
fn signature() -> Signature {
    Signature {
        inputs: vec![port("x", Datatype::Fp32, &[-1, 2])],
        outputs: vec![
            port("label", Datatype::Int64, &[-1]),
            port("score", Datatype::Fp32, &[-1, 1]),
        ],
    }
}

fn tensor(shape: &[usize], data: impl Into<Data>) -> Value {
    Value::Tensor(Tensor::new(shape.to_vec(), data).unwrap())
}

/// A model of [`signature`] that finds `label` and `score` for a row.
fn finds(label: i64, score: f32) -> Model {
    model_with(Answer::Outputs(vec![
        ("label".to_owned(), tensor(&[1], vec![label])),
        ("score".to_owned(), tensor(&[1, 1], vec![score])),
    ]))
}

fn model_with(answer: Answer) -> Model {
    Model {
        signature: signature(),
        answer,
        runs: AtomicUsize::default(),
    }
}

fn golden(golden: &Json) -> Golden {
    serde_json::from_str(&golden.to_string()).unwrap()
}

/// One row that has label 1 and score 0.5.
fn example() -> Json {
    json!({
        "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}],
        "outputs": [
            {"name": "score", "shape": [1, 1], "datatype": "FP32", "data": [[0.5]]},
            {"name": "label", "shape": [1], "datatype": "INT64", "data": [1]},
        ],
    })
}

/// Criteria of these golden examples alone.
fn examples(examples: &[Json]) -> AcceptanceCriteria {
    AcceptanceCriteria {
        golden: examples.iter().map(golden).collect(),
        ..AcceptanceCriteria::default()
    }
}

fn rejection(criteria: AcceptanceCriteria, model: &Model) -> String {
    Validation::new(criteria)
        .validate(model)
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn a_version_that_meets_every_example_passes() {
    let model = finds(1, 0.500_01);
    let criteria = examples(&[example(), example()]);
    let passed = Validation::new(criteria).validate(&model).unwrap();
    assert!(passed.warm_up.is_some());
    assert_eq!(model.runs.into_inner(), 2, "each was run once");
    let model = finds(1, 0.5);
    let passed = Validation::new(AcceptanceCriteria::default())
        .validate(&model)
        .unwrap();
    assert_eq!((passed, model.runs.into_inner()), (Validated::default(), 0));
}

#[tokio::test]
async fn a_version_with_other_outputs_is_rejected_with_location_and_values() {
    let second = |model: Model| rejection(examples(&[example(), example()]), &model);
    assert_eq!(
        second(finds(1, 0.75)),
        "golden[0] is not met: output \"score\"[0, 0] is 0.75, and 0.5 is expected (tolerance: absolute 1e-5, relative 1e-4); \
         1 of 1 elements differ"
    );
    assert_eq!(
        second(finds(2, 0.5)),
        "golden[0] is not met: output \"label\"[0] is 2, and 1 is expected; 1 of 1 elements differ"
    );
    let mut other = example();
    other["outputs"][0]["data"] = json!([[0.25]]);
    let error = rejection(examples(&[example(), other.clone()]), &finds(1, 0.5));
    assert!(
        error.starts_with("golden[1] is not met: output \"score\"[0, 0]"),
        "{error}"
    );
    let architecture = std::env::consts::ARCH;
    other["tolerance_on"] = json!({architecture: {"absolute": 0.25, "relative": 0}});
    assert!(
        Validation::new(examples(&[other]))
            .validate(&finds(1, 0.5))
            .is_ok()
    );
    let mut unknown = example();
    unknown["outputs"][0]["data"] = json!([[null]]);
    let unknown = examples(&[unknown]);
    assert!(
        Validation::new(unknown.clone())
            .validate(&finds(1, f32::NAN))
            .is_ok()
    );
    assert!(Validation::new(unknown).validate(&finds(1, 0.5)).is_err());
}

#[tokio::test]
async fn an_example_that_does_not_fit_the_model_is_told_what_there_is() {
    for (place, value, problem) in [
        (
            "/inputs/0/name",
            json!("z"),
            "inputs[0]: the model has no input \"z\"; its inputs are \"x\" (FP32 [-1, 2])",
        ),
        (
            "/inputs/0/datatype",
            json!("INT64"),
            "inputs[0].datatype is \"INT64\", input \"x\" takes FP32",
        ),
        ("/inputs", json!([]), "missing input: \"x\" (FP32 [-1, 2])"),
        (
            "/outputs/0/name",
            json!("y"),
            "outputs[0]: the model has no output \"y\"; its outputs are \"label\"",
        ),
        (
            "/outputs/1/data/0",
            json!(1.5),
            "outputs[1].data[0] is 1.5, expected a whole number",
        ),
        (
            "/outputs/1/datatype",
            json!("INT32"),
            "output \"label\" is of INT64, and INT32 is expected",
        ),
        (
            "/outputs/0/shape",
            json!([1]),
            "output \"score\" has shape [1, 1], and [1] is expected",
        ),
    ] {
        let mut example = example();
        *example.pointer_mut(place).unwrap() = value;
        if place == "/outputs/0/shape" {
            example["outputs"][0]["data"] = json!([0.5]);
        }
        let error = rejection(examples(&[example]), &finds(1, 0.5));
        let problem = format!("golden[0] is not met: {problem}");
        assert!(error.starts_with(&problem), "{error}");
    }
}

#[tokio::test]
async fn a_run_that_fails_is_a_rejection() {
    for (answer, problem) in [
        (Answer::Fails, "the model failed: not today"),
        (
            Answer::Panics,
            "ONNX Runtime's bindings failed on this model",
        ),
        (
            Answer::Outputs(Vec::new()),
            "output \"score\" is not a tensor",
        ),
    ] {
        let error = rejection(examples(&[example()]), &model_with(answer));
        assert!(
            error.starts_with(&format!("golden[0] is not met: {problem}")),
            "{error}"
        );
    }
}

/// Validates on a separate thread, as the reloader does, so that the clock can advance.
async fn check(validation: Validation, model: Model) -> Result<Validated, ValidationError> {
    crate::reload::engine_slot::on_thread("load-model", move || validation.validate(&model))
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_run_that_does_not_end_is_a_rejection() {
    let validation = Validation::new(examples(&[example()]));
    let rejected = check(validation, model_with(Answer::Endless))
        .await
        .unwrap_err();
    assert_eq!(
        rejected.to_string(),
        "golden[0] is not met: the run did not end within 30 s"
    );
}

#[tokio::test]
async fn a_sequence_can_be_no_example_and_one_of_maps_can() {
    let maps = Kind::Sequence(Box::new(Kind::Map {
        key: Datatype::Int64,
        value: Datatype::Fp32,
    }));
    let row = Value::Map {
        keys: vec![0_i64, 1].into(),
        values: vec![0.25_f32, 0.75].into(),
    };
    let model = |kind| {
        let outputs = vec![("p".to_owned(), Value::Sequence(vec![row.clone()]))];
        let mut model = model_with(Answer::Outputs(outputs));
        model.signature.outputs = vec![Port {
            name: "p".to_owned(),
            kind,
        }];
        model
    };
    let mut example = example();
    example["outputs"] =
        json!([{"name": "p", "shape": [1, 2], "datatype": "FP32", "data": [0.25, 0.75]}]);
    assert!(
        Validation::new(examples(&[example.clone()]))
            .validate(&model(maps))
            .is_ok()
    );
    let tensors = Kind::Sequence(Box::new(Kind::Tensor {
        datatype: Datatype::Fp32,
        shape: vec![Some(2)],
    }));
    assert_eq!(
        rejection(examples(&[example]), &model(tensors)),
        "golden[0] is not met: outputs[0]: output \"p\" is a sequence of FP32 [2], which cannot be compared with a tensor"
    );
}

#[tokio::test]
async fn a_change_of_signature_is_rejected_unless_it_is_declared() {
    let mut before = signature();
    before.inputs[0] = port("x", Datatype::Fp32, &[-1, 3]);
    let criteria = |declared| AcceptanceCriteria {
        declared,
        previous: Some(before.clone()),
        golden: Vec::new(),
    };
    assert_eq!(
        rejection(criteria(None), &finds(1, 0.5)),
        "the model's signature does not serve callers of the previous version: input \"x\" is FP32 [-1, 2], expected FP32 [-1, 3]; \
         if the change is intended, declare the new `signature` in the manifest, or publish under another location"
    );
    assert!(
        Validation::new(criteria(Some(signature())))
            .validate(&finds(1, 0.5))
            .is_ok()
    );
    assert_eq!(
        rejection(criteria(Some(before.clone())), &finds(1, 0.5)),
        "the model's signature differs from the manifest's `signature`: input \"x\" is FP32 [-1, 2], expected FP32 [-1, 3]"
    );
    before = signature();
    assert!(
        Validation::new(AcceptanceCriteria {
            previous: Some(before.clone()),
            ..AcceptanceCriteria::default()
        })
        .validate(&finds(1, 0.5))
        .is_ok()
    );
    before.outputs = vec![port("score", Datatype::Fp32, &[-1, 1])];
    let mut model = finds(1, 0.5);
    model.signature.outputs = vec![before.outputs[0].clone(), port("more", Datatype::Fp32, &[])];
    let error = rejection(
        AcceptanceCriteria {
            previous: Some(before),
            ..AcceptanceCriteria::default()
        },
        &model,
    );
    assert!(
        error.contains("the prediction in /predict is output \"score\" alone"),
        "{error}"
    );
}

#[tokio::test]
async fn names_without_end_make_no_line_without_end() {
    let mut before = signature();
    before.inputs[0].name = "x\n".repeat(1 << 20);
    let error = rejection(
        AcceptanceCriteria {
            previous: Some(before),
            ..AcceptanceCriteria::default()
        },
        &finds(1, 0.5),
    );
    assert!(
        error.len() < 1_000 && !error.contains('\n'),
        "{} bytes",
        error.len()
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_warm_up_does_not_prevent_activation() {
    for (model, failure) in [
        (finds(2, 0.75), None),
        (
            model_with(Answer::Fails),
            Some("the model failed: not today"),
        ),
        (
            model_with(Answer::Endless),
            Some("the run did not end within 5 s"),
        ),
    ] {
        let begun = Arc::new(AtomicUsize::default());
        let begins = {
            let begun = Arc::clone(&begun);
            move || {
                begun.fetch_add(1, Ordering::Relaxed);
            }
        };
        let validation = Validation::warm_up_only(golden(&example()).inputs, begins);
        let passed = check(validation, model).await.unwrap();
        assert!(passed.warm_up.is_some());
        assert_eq!(passed.warm_up_failure.as_deref(), failure);
        assert_eq!(begun.load(Ordering::Relaxed), 1);
    }
}
