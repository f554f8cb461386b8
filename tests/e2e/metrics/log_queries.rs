//! Queries of `docs/logs.md` for Logs Insights, each on the log of one function.

use std::collections::BTreeMap;

use lab::logs_insights::{LogEvent, Query, Row};
use lab::reference::WINE;
use lab::s3::S3Server;
use serde_json::{Value, json};

use super::drift::{MANIFEST, URI, VERSION, published};
use crate::support::layout::manifest;
use crate::support::{BUCKET, features, invoke_until_logged, model, platform, sample};

/// Second version, which replaces [`VERSION`], and third version, which is no model.
const SECOND: &str = "2026-12-b";
const THIRD: &str = "2027-01-c";
const STREAM: &str = "lab/[$LATEST]0";

/// Queries by their headings.
fn documented() -> BTreeMap<String, String> {
    let path = lab::artifacts::workspace().join("docs/logs.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, section) = page.split_once("\n## Queries\n").unwrap();
    let parts = section.split("\n### ").skip(1);
    let queries = parts.map(|part| {
        let (heading, rest) = part.split_once('\n').unwrap();
        let (_, rest) = rest.split_once("```\n").unwrap();
        let (query, after) = rest.split_once("```").unwrap();
        assert!(!after.contains("```"), "one query for each heading");
        (heading.to_owned(), query.to_owned())
    });
    queries.collect()
}

/// Publishes the version that becomes wanted, after the earlier ones.
fn publish(s3: &S3Server, versions: &[(&str, &str)]) {
    let (current, file) = versions[versions.len() - 1];
    s3.put(BUCKET, &format!("wine/{current}/model.onnx"), model(file));
    s3.put(BUCKET, MANIFEST, manifest(current, versions));
}

/// Batch of SQS with a valid and an invalid message.
fn batch() -> Value {
    let mut event = sample("sqs.json");
    let record = event["Records"][0].clone();
    let bodies = [features(1).to_string(), "no JSON".to_owned()];
    let records = bodies.into_iter().enumerate().map(|(place, body)| {
        let mut record = record.clone();
        record["messageId"] = format!("m{place}").into();
        record["body"] = body.into();
        record
    });
    event["Records"] = records.collect();
    event
}

/// Log of a function in whose life each of the queries has something to find, and the id of its failed invocation.
async fn log() -> (Vec<LogEvent>, String) {
    let s3 = published().await;
    let function = platform(&s3)
        .env("MODEL_URI", URI)
        .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
        .env("MODEL_METRICS", "emf")
        .env("MODEL_METRICS_INTERVAL", "0")
        .env("MODEL_DRIFT_SAMPLE", "1000")
        .env("MODEL_REFRESH_INTERVAL", "0");
    let function = function.start().await.unwrap();
    let answer = function.answer(&features(178)).await.unwrap();
    WINE.v1.check(&answer, 0..178);
    let failed = function.invoke(&json!({ "features": "none" })).await;
    assert!(failed.function_error().is_some());
    let answer = function.answer(&batch()).await.unwrap();
    assert_eq!(answer["batchItemFailures"][0]["itemIdentifier"], "m1");

    let versions = [
        (VERSION, "wine-v1.onnx"),
        (SECOND, "wine-v2.onnx"),
        (THIRD, "garbage.onnx"),
    ];
    publish(&s3, &versions[..2]);
    invoke_until_logged(&function, "a new version is active").await;
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    publish(&s3, &versions);
    invoke_until_logged(&function, "keeping the active version").await;
    let log = function.shutdown().await;
    let events = log.lines();
    let events = events.iter().map(|line| LogEvent::new(STREAM, line));
    (events.collect(), failed.request_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_documented_query_finds_its_lines() {
    let (events, failed) = log().await;
    let mut queries = documented();
    let mut run = |heading: &str| {
        let query = queries.remove(heading).unwrap();
        let query = query.replace("REQUEST_ID", &failed);
        Query::parse(&query).unwrap().run(&events)
    };

    let problems = run("Warnings and errors");
    let levels: Vec<_> = problems.iter().map(|row| &row["level"]).collect();
    assert!(
        levels.contains(&&json!("WARN")) && levels.contains(&&json!("ERROR")),
        "{problems:?}"
    );
    let invocation = run("One invocation");
    assert_eq!(column(&invocation, "error_type"), ["Model.BadRequest"]);
    let failures = run("Failed invocations by type");
    assert_eq!(column(&failures, "error_type"), ["Model.BadRequest"]);
    assert_eq!(failures[0]["failures"], 1);

    let init = run("Phases of Init");
    assert_eq!(init[0]["starts"], 1);
    for phase in ["p50", "p99", "open", "check", "fetch", "load"] {
        assert!(init[0][phase].as_f64().unwrap() > 0.0, "{phase}: {init:?}");
    }
    assert_eq!(
        column(&run("Versions that became active"), "version"),
        [SECOND, VERSION]
    );
    let environments = run("Environments that have run each version");
    assert_eq!(column(&environments, "version"), [SECOND, VERSION]);
    assert_eq!(environments[0]["environments"], 1);
    let kept = run("Versions that were not activated");
    assert_eq!(column(&kept, "version"), [SECOND]);

    let drift = run("Drift");
    assert_eq!(column(&drift, "version"), [VERSION]);
    assert!(drift[0]["rows"].as_f64().unwrap() >= 178.0, "{drift:?}");
    let messages = run("Messages that return to SQS");
    assert_eq!(column(&messages, "error_type"), ["Model.BadRequest"]);
    assert_eq!(messages[0]["distinct"], 1);
    let inferences = run("Inferences by version");
    let mut versions = column(&inferences, "ModelVersion");
    versions.sort_unstable();
    assert_eq!(versions, [VERSION, SECOND]);
    assert!(queries.is_empty(), "without a test: {queries:?}");
}

/// Texts of a field, by rows.
fn column<'a>(rows: &'a [Row], field: &str) -> Vec<&'a str> {
    let values = rows.iter().map(|row| row[field].as_str());
    values.map(Option::unwrap).collect()
}
