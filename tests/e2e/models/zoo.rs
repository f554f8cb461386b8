//! Models of common exporters; outputs are compared with ONNX Runtime in Python.
//!
//! `tests/models/zoo.py` exports the models and records inputs, outputs and metadata.

use std::collections::BTreeSet;

use lab::s3::S3Server;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Alone, BUCKET, error, model};

#[derive(Deserialize)]
struct Case {
    name: String,
    /// Model file, followed by its data files.
    files: Vec<String>,
    metadata: Value,
    infer: Infer,
    predict: Predict,
    /// `true` if the request has more rows than the model's batch size.
    looped: bool,
    tolerance: f64,
}

#[derive(Deserialize)]
struct Infer {
    inputs: Value,
    outputs: Value,
}

#[derive(Deserialize)]
struct Predict {
    features: Value,
    answer: Value,
}

fn cases() -> Vec<Case> {
    serde_json::from_slice(&model("zoo/zoo.json")).unwrap()
}

/// Starts a sidecar that serves every case under its name.
async fn zoo(cases: &[Case]) -> (S3Server, Alone) {
    let s3 = S3Server::start().await.unwrap();
    let files: BTreeSet<&String> = cases.iter().flat_map(|case| &case.files).collect();
    for file in files {
        s3.put(BUCKET, file, model(file));
    }
    let uri = |case: &Case| format!("{}=s3://{BUCKET}/{}", case.name, case.files[0]);
    let models: Vec<String> = cases.iter().map(uri).collect();
    let models = models.join(",");
    let variables = [
        ("MODEL_URI", ""),
        ("MODEL_NAME", ""),
        ("MODELS", models.as_str()),
        ("MODEL_REQUIRED", "true"),
        ("MODEL_INIT_BUDGET", "1m"),
    ];
    let alone = Alone::ready(&s3, &variables).await;
    (s3, alone)
}

/// Returns the first difference; numbers may differ by the tolerance.
fn difference(given: &Value, expected: &Value, tolerance: f64, place: &str) -> Option<String> {
    let differs = || Some(format!("{place}: {given}, and not {expected}"));
    match (given, expected) {
        (Value::Number(given), Value::Number(expected)) => {
            let (one, other) = (given.as_f64()?, expected.as_f64()?);
            let is_near = (one - other).abs() <= tolerance * other.abs().max(1.0);
            let is_same = given.is_i64() == expected.is_i64() || one.fract() == 0.0;
            if is_near && is_same { None } else { differs() }
        }
        (Value::Array(given), Value::Array(expected)) if given.len() == expected.len() => {
            let pairs = given.iter().zip(expected).enumerate();
            let mut pairs = pairs.map(|(index, (given, expected))| {
                difference(given, expected, tolerance, &format!("{place}[{index}]"))
            });
            pairs.find_map(|problem| problem)
        }
        (Value::Object(given), Value::Object(expected)) if given.len() == expected.len() => {
            let mut fields = expected.iter().map(|(name, expected)| {
                let given = given.get(name).unwrap_or(&Value::Null);
                difference(given, expected, tolerance, &format!("{place}.{name}"))
            });
            fields.find_map(|problem| problem)
        }
        (given, expected) if given == expected => None,
        _ => differs(),
    }
}

/// Response to `features`, without the names of model and version.
async fn predict(alone: &Alone, case: &Case, features: &Value) -> Result<Value, String> {
    let path = format!("/models/{}/predict", case.name);
    let request = json!({ "features": features });
    let answer = alone.client().post(&path, &request).await.unwrap();
    if answer.status != 200 {
        return Err(answer.text());
    }
    let mut answer: Value = answer.json().unwrap();
    let fields = answer.as_object_mut().unwrap();
    assert_eq!(fields.remove("model").unwrap(), case.name.as_str());
    fields.remove("model_version").unwrap();
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn predict_has_the_outputs_of_python() {
    let cases = cases();
    let (_s3, alone) = zoo(&cases).await;
    let mut problems = Vec::new();
    for case in &cases {
        let answered = predict(&alone, case, &case.predict.features).await;
        let problem = match &answered {
            Ok(answer) => difference(answer, &case.predict.answer, case.tolerance, "answer"),
            Err(error) => Some(error.clone()),
        };
        problems.extend(problem.map(|problem| format!("{}: {problem}", case.name)));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_open_inference_protocol_has_the_outputs_of_python() {
    let cases = cases();
    let (_s3, alone) = zoo(&cases).await;
    let mut problems = Vec::new();
    for case in &cases {
        let path = format!("/v2/models/{}/infer", case.name);
        let request = json!({ "inputs": case.infer.inputs });
        let answer = alone.client().post(&path, &request).await.unwrap();
        let body: Value = answer.json().unwrap();
        let problem = if case.looped {
            let told = answer.status == 400 && error(&body).contains("has shape [");
            (!told).then(|| body.to_string())
        } else {
            difference(
                &body["outputs"],
                &case.infer.outputs,
                case.tolerance,
                "outputs",
            )
            .map(|problem| format!("{problem} {}", error(&body)))
        };
        problems.extend(problem.map(|problem| format!("{}: {problem}", case.name)));

        let path = format!("/v2/models/{}", case.name);
        let metadata: Value = alone.client().get(&path).await.unwrap().json().unwrap();
        for side in ["inputs", "outputs"] {
            if metadata[side] != case.metadata[side] {
                let (is, expected) = (&metadata[side], &case.metadata[side]);
                problems.push(format!("{}: {is}, and not {expected}", case.name));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn case<'a>(cases: &'a [Case], name: &str) -> &'a Case {
    cases.iter().find(|case| case.name == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn single_rows_columns_and_objects() {
    let mut cases = cases();
    let names = ["sklearn-arrays", "sklearn-table", "sklearn-one-row"];
    cases.retain(|case| names.contains(&case.name.as_str()));
    let (_s3, alone) = zoo(&cases).await;

    for name in ["sklearn-arrays", "sklearn-one-row"] {
        let alike = case(&cases, name);
        let rows = alike.predict.features.as_array().unwrap();
        for (row, expected) in rows
            .iter()
            .zip(alike.predict.answer["prediction"].as_array().unwrap())
        {
            let answer = predict(&alone, alike, row).await.unwrap();
            assert_eq!(answer["prediction"], json!([expected]), "{name}");
        }
    }

    let table = case(&cases, "sklearn-table");
    let columns = json!({
        "age": [39, 61.0, 17], "hours": [40, 12.5, 37.25], "workclass": ["State", "Self", "unheard of"],
    });
    let rows = json!([
        { "age": 39, "hours": 40, "workclass": "State" },
        { "workclass": "Self", "hours": 12.5, "age": 61 },
        { "age": 17.0, "hours": 37.25, "workclass": "unheard of" },
    ]);
    for features in [columns, rows] {
        let answer = predict(&alone, table, &features).await.unwrap();
        assert_eq!(
            difference(&answer, &table.predict.answer, 1e-5, "answer"),
            None
        );
    }
    for (row, place) in [
        (
            json!({ "age": 3.5, "hours": 1, "workclass": "Self" }),
            "features[1].age is 3.5, expected a whole number",
        ),
        (
            json!({ "age": 3, "hours": "1", "workclass": "Self" }),
            "features[1].hours is \\\"1\\\", expected a number",
        ),
        (
            json!({ "age": null, "hours": 1, "workclass": "Self" }),
            "features[1].age is null, expected a whole number",
        ),
        (
            json!({ "age": 3, "hours": 1, "workclass": 7 }),
            "features[1].workclass is 7, expected a string",
        ),
        (
            json!({ "age": 3, "hours": 1 }),
            "features[1] lacks \\\"workclass\\\"",
        ),
    ] {
        let good = json!({ "age": 39, "hours": 40, "workclass": "State" });
        let error = predict(&alone, table, &json!([good, row]))
            .await
            .unwrap_err();
        assert!(error.contains(place), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_fixed_batch_is_an_error() {
    let mut cases = cases();
    cases.retain(|case| case.name == "four-rows");
    let (_s3, alone) = zoo(&cases).await;
    let rows = &cases[0].predict.features.as_array().unwrap()[..6];
    let error = predict(&alone, &cases[0], &rows.into()).await.unwrap_err();
    let words = "features has 6 rows, but the model takes 4 at a time: send a multiple of 4";
    assert!(error.contains(words), "{error}");
}
