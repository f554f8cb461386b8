//! Stateful models: the caller sends the state of each response in its next request.

use std::collections::BTreeMap;

use lab::s3::S3Server;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Alone, BUCKET, model, s3_with};
use lab::reference::{distance, numbers};

/// Contents of `silero.json`, written by `tests/models/silero.py`.
#[derive(Deserialize)]
struct Silero {
    sound: Vec<Vec<f64>>,
    models: BTreeMap<String, Reference>,
}

#[derive(Deserialize)]
struct Reference {
    /// Output for each piece of sound.
    outputs: Vec<f64>,
    /// State after the last piece.
    state: Vec<f64>,
}

/// Starts a sidecar with a network that `make fixtures` downloads.
async fn serve(name: &str) -> (S3Server, Alone) {
    let file = format!("target/fixtures/silero/{name}.onnx");
    let network = std::fs::read(lab::artifacts::workspace().join(file));
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, "silero", network.expect("run `make fixtures`"));
    let uri = format!("s3://{BUCKET}/silero");
    let variables = [("MODEL_URI", uri.as_str()), ("MODEL_NAME", "silero")];
    let alone = Alone::ready(&s3, &variables).await;
    (s3, alone)
}

async fn post(alone: &Alone, path: &str, request: &Value) -> Value {
    let answer = alone.client().post(path, request).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().unwrap()
}

/// Input tensor of the Open Inference Protocol.
fn tensor(name: &str, datatype: &str, shape: &Value, data: &Value) -> Value {
    json!({ "name": name, "datatype": datatype, "shape": shape, "data": data })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tensor_state() {
    let silero: Silero = serde_json::from_slice(&model("silero.json")).unwrap();
    for (name, reference) in silero.models {
        let (_s3, alone) = serve(&name).await;

        let mut state = json!(vec![0; 256]);
        let mut outputs = Vec::new();
        for sound in &silero.sound {
            let request = json!({ "inputs": [
                tensor("input", "FP32", &json!([1, sound.len()]), &json!(sound)),
                tensor("state", "FP32", &json!([2, 1, 128]), &state),
                tensor("sr", "INT64", &json!([]), &json!([16_000])),
            ] });
            let answer = post(&alone, "/v2/models/silero/infer", &request).await;
            outputs.extend(numbers(&answer["outputs"][0]["data"]));
            state = answer["outputs"][1]["data"].clone();
        }
        assert_eq!(distance(&outputs, &reference.outputs), None, "{name}");
        assert_eq!(distance(&numbers(&state), &reference.state), None, "{name}");

        let mut state = json!([[vec![0; 128]], [vec![0; 128]]]);
        let mut outputs = Vec::new();
        for sound in &silero.sound {
            let features = json!({ "input": sound, "state": state, "sr": 16_000 });
            let answer = post(&alone, "/predict", &json!({ "features": features })).await;
            outputs.extend(numbers(&answer["prediction"][0]["output"]));
            state = answer["prediction"][0]["stateN"].clone();
        }
        assert_eq!(distance(&outputs, &reference.outputs), None, "{name}");
        assert_eq!(distance(&numbers(&state), &reference.state), None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_state() {
    let s3 = s3_with("sequence-grows.onnx").await;
    let alone = Alone::ready(&s3, &[]).await;
    let mut parts = json!([]);
    for length in 1..=3 {
        let request = json!({ "inputs": [
            tensor("parts", "SEQUENCE", &json!([length - 1]), &parts),
            tensor("x", "FP32", &json!([1, 2]), &json!([length, -0.5])),
        ] });
        let answer = post(&alone, "/v2/models/wine/infer", &request).await;
        assert_eq!(answer["outputs"][0]["shape"], json!([length]));

        let features = json!({ "parts": parts, "x": [[length, -0.5]] });
        let plain = post(&alone, "/predict", &json!({ "features": features })).await;
        parts = answer["outputs"][0]["data"].clone();
        assert_eq!(plain["prediction"], parts);
    }
    assert_eq!(parts, json!([[[1.0, -0.5]], [[2.0, -0.5]], [[3.0, -0.5]]]));
}
