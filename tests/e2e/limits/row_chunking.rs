//! Requests with more rows than a model's fixed batch size.

use lab::http::HttpResponse;
use serde_json::{Value, json};

use crate::support::{Alone, now_ms, s3_with};

/// Sends one row per run, each with the duration of its run, and a deadline in `within` milliseconds.
async fn ask(alone: &Alone, rows: &[i64], within: u64) -> HttpResponse {
    let request = json!({ "features": rows });
    let mut request = lab::http::post("/predict", &request).unwrap();
    let deadline = (now_ms() + within).into();
    let headers = request.headers_mut();
    headers.insert("lambda-runtime-deadline-ms", deadline);
    alone.client().send(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_a_request_covers_all_its_runs() {
    let s3 = s3_with("slow.onnx").await;
    let alone = Alone::ready(&s3, &[]).await;
    let ones = |answer: HttpResponse| {
        let answer: Value = answer.json().unwrap();
        answer["prediction"].clone()
    };
    let answer = ask(&alone, &[1, 2, 3], 60_000).await;
    assert_eq!(ones(answer), json!([1.0, 1.0, 1.0]));

    let answer = ask(&alone, &[1, 1_000_000_000_000, 1], 1_000).await;
    assert_eq!(answer.status, 504, "{}", answer.text());

    // The deadline has cancelled the run and those that would follow.
    let answer = ask(&alone, &[1, 1], 60_000).await;
    assert_eq!(ones(answer), json!([1.0, 1.0]));
}
