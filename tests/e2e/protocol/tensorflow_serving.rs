//! TensorFlow Serving's API, and Triton's statistics extension.

use lab::s3::S3Server;
use serde_json::{Value, json};

use crate::support::{Alone, BUCKET, KEY, error, features, http_event, lambda, model, s3_with};
use lab::reference::WINE;

async fn serving(file: &str) -> (S3Server, Alone) {
    let s3 = s3_with(file).await;
    let alone = Alone::ready(&s3, &[("MODEL_REPOSITORY_API", "true")]).await;
    (s3, alone)
}

async fn post(alone: &Alone, path: &str, body: &Value) -> Value {
    let answer = alone.client().post(path, body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_columns() {
    let (_s3, alone) = serving("wine-v1.onnx").await;
    let rows = &WINE.rows[..9];
    let status: Value = alone
        .client()
        .get("/v1/models/wine")
        .await
        .unwrap()
        .json()
        .unwrap();
    let status = &status["model_version_status"][0];
    assert_eq!(status["state"], "AVAILABLE");
    let version = status["version"].as_str().unwrap();
    for path in [
        "/v1/models/wine:predict".to_owned(),
        format!("/v1/models/wine/versions/{version}:predict"),
    ] {
        let by_row = post(&alone, &path, &json!({ "instances": rows })).await;
        let by_name: Vec<_> = rows.iter().map(|row| json!({ "X": row })).collect();
        let named = json!({ "signature_name": "serving_default", "instances": by_name });
        assert_eq!(post(&alone, &path, &named).await, by_row);
        let by_column = post(&alone, &path, &json!({ "inputs": { "X": rows } })).await;
        let predictions = by_row["predictions"].as_array().unwrap();
        let column =
            |name: &str| -> Value { predictions.iter().map(|it| it[name].clone()).collect() };
        let (labels, probabilities) = (column("output_label"), column("output_probability"));
        let outputs = json!({ "output_label": labels, "output_probability": probabilities });
        assert_eq!(by_column["outputs"], outputs);
        // The reference has the format of `/predict`.
        let classes = alone.predict(9).await.json().unwrap()["classes"].clone();
        let plain =
            json!({ "prediction": labels, "probabilities": probabilities, "classes": classes });
        WINE.v1.check(&plain, 0..9);
    }
    let metadata = alone
        .client()
        .get("/v1/models/wine/metadata")
        .await
        .unwrap();
    let metadata: Value = metadata.json().unwrap();
    let signature = &metadata["metadata"]["signature_def"]["signature_def"]["serving_default"];
    assert_eq!(signature["inputs"]["X"]["dtype"], "DT_FLOAT");
    assert_eq!(metadata["model_spec"]["version"], version);

    let missing = "/v1/models/wine/versions/7:predict";
    let answer = alone
        .client()
        .post(missing, &json!({ "instances": rows }))
        .await
        .unwrap();
    assert_eq!(answer.status, 404);
    let wrong = json!({ "instances": rows, "inputs": rows });
    let answer = alone
        .client()
        .post("/v1/models/wine:predict", &wrong)
        .await
        .unwrap();
    assert_eq!(answer.status, 400);
    assert!(
        error(&answer.json().unwrap()).contains("instances"),
        "{}",
        answer.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_inputs_and_base64_strings() {
    let (_s3, alone) = serving("add-two-inputs.onnx").await;
    let path = "/v1/models/wine:predict";
    let rows =
        json!({ "instances": [{ "a": [1, 2], "b": [10, 20] }, { "a": [3, 4], "b": [30, 40] }] });
    let expected = json!({ "predictions": [[11.0, 22.0], [33.0, 44.0]] });
    assert_eq!(post(&alone, path, &rows).await, expected);
    let columns = json!({ "inputs": { "a": [[1, 2]], "b": [[10, 20]] } });
    assert_eq!(
        post(&alone, path, &columns).await,
        json!({ "outputs": [[11.0, 22.0]] })
    );

    let (_s3, alone) = serving("strings.onnx").await;
    let rows = json!({ "instances": [{ "b64": "aW1hZ2U=" }, "plain"] });
    let expected = json!([{ "y": "image", "upper": "IMAGE" }, { "y": "plain", "upper": "PLAIN" }]);
    assert_eq!(post(&alone, path, &rows).await["predictions"], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn predict_through_the_handler() {
    let s3 = s3_with("wine-v1.onnx").await;
    let lambda = lambda(&s3).start().await.unwrap();
    let request = json!({ "instances": WINE.rows[..2] });
    let event = http_event("POST", "/v1/models/wine:predict", &request);
    let reply = lambda.answer(&event).await.unwrap();
    assert_eq!(reply["statusCode"], 200, "{reply}");
    let answer = crate::support::body(&reply);
    assert_eq!(answer["predictions"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_count_the_active_version() {
    let (s3, alone) = serving("wine-v1.onnx").await;
    let statistics = async |path: &str| -> Value {
        let answer = alone.client().get(path).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let all: Value = answer.json().unwrap();
        assert_eq!(all["model_stats"].as_array().unwrap().len(), 1);
        all["model_stats"][0].clone()
    };
    let before = statistics("/v2/models/stats").await;
    assert_eq!(
        (&before["name"], &before["inference_count"]),
        (&json!("wine"), &json!(0))
    );
    let begun = crate::support::now_ms();
    for rows in [1, 4] {
        assert_eq!(alone.predict(rows).await.status, 200);
    }
    let wrong = json!({ "features": [[1]] });
    assert_eq!(
        alone
            .client()
            .post("/predict", &wrong)
            .await
            .unwrap()
            .status,
        400
    );

    let after = statistics("/v2/models/wine/stats").await;
    assert_eq!(after["inference_count"], 5);
    assert_eq!(after["execution_count"], 2);
    assert!(after["last_inference"].as_u64().unwrap() >= begun);
    let stages = &after["inference_stats"];
    for (stage, count) in [
        ("success", 2),
        ("fail", 1),
        ("queue", 2),
        ("compute_input", 2),
        ("compute_infer", 2),
        ("compute_output", 2),
        ("cache_hit", 0),
    ] {
        assert_eq!(stages[stage]["count"], count, "{stage}");
        assert_eq!(stages[stage]["ns"] == 0, count == 0, "{stage}: {stages}");
    }
    let ns = |stage: &str| stages[stage]["ns"].as_u64().unwrap();
    assert!(
        ns("success") >= ns("queue") + ns("compute_infer"),
        "{stages}"
    );
    let version = after["version"].as_str().unwrap();
    let path = format!("/v2/models/wine/versions/{version}/stats");
    assert_eq!(statistics(&path).await, after);

    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    post(&alone, "/v2/repository/models/wine/load", &json!({})).await;
    let anew = statistics("/v2/models/wine/stats").await;
    assert_ne!(anew["version"], after["version"]);
    assert_eq!(anew["inference_count"], 0);
    assert_eq!(alone.client().get(&path).await.unwrap().status, 404);
    let _ = alone.client().post("/predict", &features(3)).await.unwrap();
    assert_eq!(statistics("/v2/models/stats").await["inference_count"], 3);
    let server: Value = alone.client().get("/v2").await.unwrap().json().unwrap();
    assert!(
        server["extensions"]
            .as_array()
            .unwrap()
            .contains(&"statistics".into())
    );
}
