//! Real models through the handler; outputs are compared with scikit-learn or ONNX Runtime in Python.

use lab::rie::ExecutionEnvironment;
use lab::s3::S3Server;
use serde_json::{Value, json};

use crate::support::magika::Magika;
use crate::support::{BUCKET, body, http_event, lambda, model};
use lab::reference::{Reference, WINE};

/// Starts an environment that serves the three wine models.
async fn wines() -> (S3Server, ExecutionEnvironment) {
    let s3 = S3Server::start().await.unwrap();
    let models: Vec<String> = ["v1", "v2", "names"]
        .iter()
        .map(|name| {
            s3.put(BUCKET, name, model(&format!("wine-{name}.onnx")));
            format!("{name}=s3://{BUCKET}/{name}")
        })
        .collect();
    let lambda = lambda(&s3).env("MODEL_URI", "").env("MODEL_NAME", "");
    let lambda = lambda.env("MODELS", models.join(","));
    (s3, lambda.start().await.unwrap())
}

fn references() -> [(&'static str, &'static Reference); 3] {
    [("v1", &WINE.v1), ("v2", &WINE.v2), ("names", &WINE.names)]
}

#[tokio::test(flavor = "multi_thread")]
async fn all_rows_in_one_direct_invocation() {
    let (_s3, lambda) = wines().await;
    for (model, reference) in references() {
        let event = json!({ "model": model, "features": WINE.rows });
        let answer = lambda.answer(&event).await.unwrap();
        assert_eq!(answer["model"], model);
        reference.check(&answer, 0..WINE.rows.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_per_event_of_api_gateway() {
    let (_s3, lambda) = wines().await;
    for (model, reference) in references() {
        for (index, row) in WINE.rows.iter().enumerate() {
            let path = format!("/models/{model}/predict");
            let event = http_event("POST", &path, &json!({ "features": row }));
            let reply = lambda.answer(&event).await.unwrap();
            assert_eq!(reply["statusCode"], 200, "{reply}");
            reference.check(&body(&reply), index..index + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_rows_by_the_open_inference_protocol() {
    let (_s3, lambda) = wines().await;
    for (model, reference) in references() {
        let path = format!("/v2/models/{model}/infer");
        let input = json!({
            "name": "X", "datatype": "FP32", "shape": [WINE.rows.len(), 13], "data": WINE.rows,
        });
        let event = http_event("POST", &path, &json!({ "id": "all", "inputs": [input] }));
        let reply = lambda.answer(&event).await.unwrap();
        assert_eq!(reply["statusCode"], 200, "{reply}");
        let answer = body(&reply);
        assert_eq!(
            (&answer["id"], &answer["model_name"]),
            (&"all".into(), &model.into())
        );
        reference.check_v2(&answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn magika_classifies_files_as_in_python() {
    let magika = Magika::read();
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, "magika", Magika::network());
    let lambda = lambda(&s3).env("MODEL_URI", format!("s3://{BUCKET}/magika"));
    let lambda = lambda.env("MODEL_NAME", "magika").start().await.unwrap();

    for case in magika.cases() {
        magika.check(case, &lambda.answer(&case.event()).await.unwrap());
    }
    let metadata = http_event("GET", "/v2/models/magika", &Value::Null);
    let metadata = body(&lambda.answer(&metadata).await.unwrap());
    assert_eq!(metadata["inputs"][0]["shape"], json!([-1, 2048]));
}
