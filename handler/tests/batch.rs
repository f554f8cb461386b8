//! Batches of messages against a fake sidecar, which records its requests.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use model_handler::Handler;
use model_handler::deadline::Deadline;
use model_handler::failure::Failure;
use model_handler::invocation::Invocation;
use model_handler::sidecar::Sidecar;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::net::UnixListener;

/// Response of the sidecar to a request: `None` closes the connection.
type FakeResponse = fn(path: &str, rows: &[Value]) -> Option<(u16, Value)>;

/// A sidecar whose model takes rows of two numbers, and its requests: path and number of rows.
struct Model {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<(String, usize)>>>,
    _folder: tempfile::TempDir,
}

impl Model {
    fn start(answer: FakeResponse) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("sidecar.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked: Arc<Mutex<Vec<(String, usize)>>> = Arc::default();
        let notes = asked.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let notes = notes.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let notes = notes.clone();
                    async move {
                        let path = request.uri().path().to_owned();
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let rows = rows(&body);
                        notes.lock().unwrap().push((path.clone(), rows.len()));
                        let (status, answer) = answer(&path, &rows).ok_or("closed")?;
                        let body = Full::new(Bytes::from(answer.to_string()));
                        Ok::<_, &str>(Response::builder().status(status).body(body).unwrap())
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            socket,
            asked,
            _folder: folder,
        }
    }

    async fn process(&self, messages: &[Value]) -> Result<Value, Failure> {
        self.process_within(messages, Duration::from_secs(30)).await
    }

    async fn process_within(&self, messages: &[Value], time: Duration) -> Result<Value, Failure> {
        let sidecar = Sidecar::new(self.socket.clone());
        let payload = json!({ "Records": messages }).to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let invocation = Invocation {
            deadline: Deadline(u64::try_from((now + time).as_millis()).unwrap()),
            request_id: String::new(),
            trace_id: None,
        };
        let reply = Handler::new(sidecar).handle(payload, &invocation).await;
        reply.map(|reply| serde_json::to_value(reply).unwrap())
    }

    fn asked(&self) -> Vec<(String, usize)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// Rows of a request, as the sidecar parses them: a single row is a batch of one.
fn rows(body: &[u8]) -> Vec<Value> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let given = body.get("features").or(body.get("instances"));
    match given.unwrap_or(&Value::Null) {
        Value::Array(rows) if rows.iter().all(Value::is_array) => rows.clone(),
        Value::Array(row) => vec![json!(row)],
        _ => Vec::new(),
    }
}

/// Rows of two numbers are valid; a row that begins with 13 fails in the model.
#[expect(clippy::unnecessary_wraps, reason = "others close the connection")]
fn two_numbers(path: &str, rows: &[Value]) -> Option<(u16, Value)> {
    if !["/predict", "/models/a/predict"].contains(&path) {
        return Some((404, json!({ "error": "there is no such model" })));
    }
    let is_right = |row: &Value| {
        row.as_array()
            .is_some_and(|row| row.len() == 2 && row.iter().all(Value::is_number))
    };
    if rows.is_empty() || !rows.iter().all(is_right) {
        return Some((400, json!({ "error": "expected rows of two numbers" })));
    }
    if rows.iter().any(|row| row[0] == 13) {
        return Some((500, json!({ "error": "the model failed" })));
    }
    Some((200, json!({ "prediction": rows })))
}

fn message(id: &str, body: &str) -> Value {
    json!({
        "messageId": id, "body": body, "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue", "attributes": {},
    })
}

fn fifo(id: &str, group: &str, body: &str) -> Value {
    let mut message = message(id, body);
    message["eventSourceARN"] = "arn:aws:sqs:us-east-2:123456789012:my-queue.fifo".into();
    message["attributes"]["MessageGroupId"] = group.into();
    message
}

fn again(ids: &[&str]) -> Value {
    let failures: Vec<Value> = ids
        .iter()
        .map(|id| json!({ "itemIdentifier": id }))
        .collect();
    json!({ "batchItemFailures": failures })
}

#[tokio::test]
async fn a_batch_is_one_request() {
    let model = Model::start(two_numbers);
    let messages = [
        message("a", r#"{"features":[1,2]}"#),
        message("b", r#" {"instances":[[3,4],[5,6]],"id":7} "#),
        message("c", r#"{"features":[[7,8]]}"#),
    ];
    assert_eq!(model.process(&messages).await.unwrap(), again(&[]));
    assert_eq!(model.asked(), [("/predict".to_owned(), 4)]);
}

#[tokio::test]
async fn each_model_has_its_own_request() {
    let model = Model::start(two_numbers);
    let messages = [
        message("a", r#"{"features":[1,2]}"#),
        message("b", r#"{"features":[1,2],"model":"a"}"#),
        message("c", r#"{"features":[1,2],"model":"none"}"#),
        message("d", r#"{"features":[1,2]}"#),
        message("e", r#"{"features":[1,2],"model":"none"}"#),
    ];
    assert_eq!(model.process(&messages).await.unwrap(), again(&["c", "e"]));
    assert_eq!(
        model.asked(),
        [
            ("/predict".to_owned(), 2),
            ("/models/a/predict".to_owned(), 1),
            ("/models/none/predict".to_owned(), 2),
        ]
    );
}

#[tokio::test]
async fn faulty_messages_fail_and_the_others_are_processed() {
    let model = Model::start(two_numbers);
    let messages = [
        message("good", r#"{"features":[1,2]}"#),
        message("not JSON", r#"{"features":[1,"#),
        message("narrow", r#"{"features":[1]}"#),
        message("words", r#"{"features":["x","y"]}"#),
        message("no rows", r#"{"rows":[1,2]}"#),
        message("empty", ""),
        message("no model", r#"{"features":[1,2],"model":""}"#),
        message("fails", r#"{"features":[13,2]}"#),
        message("good too", r#"{"features":[[1,2],[3,4]]}"#),
    ];
    let bad = [
        "not JSON", "narrow", "words", "no rows", "empty", "no model", "fails",
    ];
    assert_eq!(model.process(&messages).await.unwrap(), again(&bad));
}

/// A bucket's notifications are sent to the queue by mistake.
#[tokio::test]
async fn messages_of_other_services_fail_alone_without_a_request() {
    let model = Model::start(two_numbers);
    let notification =
        json!({ "Records": [{ "eventSource": "aws:s3", "s3": { "object": { "key": "k" } } }] });
    let envelope = json!({ "Type": "Notification", "TopicArn": "a", "Message": "{}" });
    let messages = [
        message("good", r#"{"features":[1,2]}"#),
        message("test", r#"{"Service":"Amazon S3","Event":"s3:TestEvent"}"#),
        message("notification", &notification.to_string()),
        message("envelope", &envelope.to_string()),
        message("good too", r#"{"features":[3,4]}"#),
    ];
    let answer = model.process(&messages).await.unwrap();
    assert_eq!(answer, again(&["test", "notification", "envelope"]));
    assert_eq!(model.asked(), [("/predict".to_owned(), 2)]);

    let failure = model.process(&messages[1..2]).await.unwrap_err();
    let words = failure.to_string();
    for part in [
        "s3:TestEvent",
        "a message must contain",
        "features, instances",
    ] {
        assert!(words.contains(part), "{part} in {words}");
    }
}

/// Tools on Windows write a byte order mark.
#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_a_message() {
    let model = Model::start(two_numbers);
    let messages = [
        message("marked", "\u{feff}{\"features\":[1,2]}"),
        message("plain", r#"{"features":[3,4]}"#),
        message("alone", "\u{feff}{\"model\":\"a\",\"features\":[1,2]}"),
    ];
    assert_eq!(model.process(&messages).await.unwrap(), again(&[]));
    assert_eq!(
        model.asked(),
        [
            ("/predict".to_owned(), 2),
            ("/models/a/predict".to_owned(), 1)
        ]
    );
}

#[tokio::test]
async fn one_bad_message_of_many_costs_few_requests() {
    let model = Model::start(two_numbers);
    let messages: Vec<Value> = (0..1_000)
        .map(|place| {
            let width = if place == 617 { "[1]" } else { "[1,2]" };
            message(&place.to_string(), &format!(r#"{{"features":{width}}}"#))
        })
        .collect();
    assert_eq!(model.process(&messages).await.unwrap(), again(&["617"]));
    let asked = model.asked().len();
    assert!(asked <= 21, "{asked} requests");
}

#[tokio::test]
async fn a_model_without_row_outputs_gets_each_message_alone() {
    let model = Model::start(|_, _| Some((200, json!({ "prediction": [0] }))));
    let messages = [
        message("a", r#"{"features":[1,2]}"#),
        message("b", r#"{"features":[3,4]}"#),
    ];
    assert_eq!(model.process(&messages).await.unwrap(), again(&[]));
    assert_eq!(model.asked().len(), 3);
}

#[tokio::test]
async fn later_messages_of_a_failed_messages_group_fail_and_no_others() {
    let model = Model::start(two_numbers);
    let messages = [
        fifo("a1", "a", r#"{"features":[1,2]}"#),
        fifo("b1", "b", r#"{"features":[1,2]}"#),
        fifo("a2", "a", r#"{"features":[1]}"#),
        fifo("b2", "b", r#"{"features":[1,2]}"#),
        fifo("a3", "a", r#"{"features":[1,2]}"#),
    ];
    assert_eq!(
        model.process(&messages).await.unwrap(),
        again(&["a2", "a3"])
    );
}

/// No message may be lost, even if `batchItemFailures` is ignored.
#[tokio::test]
async fn the_invocation_fails_if_no_message_was_processed() {
    let cases: [(FakeResponse, &str); 5] = [
        (
            |_, _| Some((503, json!({ "error": "no model yet" }))),
            "Model.NotReady",
        ),
        (
            |_, _| Some((504, json!({ "error": "too late" }))),
            "Model.Timeout",
        ),
        (|_, _| Some((429, json!({ "error": "full" }))), "Model.Busy"),
        (
            |_, _| Some((400, json!({ "error": "wrong" }))),
            "Model.BadRequest",
        ),
        (|_, _| None, "Model.BadGateway"),
    ];
    for (answer, error_type) in cases {
        let model = Model::start(answer);
        let messages = [
            message("a", r#"{"features":[1,2]}"#),
            message("b", r#"{"features":[1,2]}"#),
        ];
        let failure = model.process(&messages).await.unwrap_err();
        assert_eq!(failure.error_type(), error_type);
    }
}

#[tokio::test]
async fn messages_for_which_the_sidecar_fails_are_reported() {
    let model = Model::start(|path, rows| {
        let others = path != "/models/a/predict";
        others.then(|| two_numbers(path, rows)).flatten()
    });
    let messages = [
        message("first", r#"{"features":[1,2]}"#),
        message("lost", r#"{"features":[1,2],"model":"a"}"#),
        message("behind", r#"{"model":"a","features":{"x":[1]}}"#),
    ];
    let answer = model.process(&messages).await.unwrap();
    assert_eq!(answer, again(&["lost", "behind"]));
}

#[tokio::test]
async fn without_a_sidecar_the_batch_fails_before_the_deadline() {
    let model = Model::start(two_numbers);
    std::fs::remove_file(&model.socket).unwrap();
    let messages = [message("a", r#"{"features":[1,2]}"#)];
    let within = Duration::from_millis(200);
    let failure = model.process_within(&messages, within).await.unwrap_err();
    assert_eq!(failure.error_type(), "Model.NotReady");
}

#[derive(Clone, Copy, Debug)]
enum Body {
    Right,
    Two,
    Narrow,
    Fails,
    NoJson,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Exactly the faulty messages of any batch fail.
    #[test]
    fn exactly_the_faulty_messages_fail(bodies in prop::collection::vec(
        prop_oneof![
            6 => Just(Body::Right), 2 => Just(Body::Two), 1 => Just(Body::Narrow),
            1 => Just(Body::Fails), 1 => Just(Body::NoJson),
        ],
        1..40,
    )) {
        let messages: Vec<Value> = bodies
            .iter()
            .enumerate()
            .map(|(place, body)| {
                let text = match body {
                    Body::Right => r#"{"features":[1,2]}"#,
                    Body::Two => r#"{"instances":[[1,2],[3,4]]}"#,
                    Body::Narrow => r#"{"features":[1]}"#,
                    Body::Fails => r#"{"features":[13,2]}"#,
                    Body::NoJson => "features",
                };
                message(&place.to_string(), text)
            })
            .collect();
        let bad: Vec<String> = (0..bodies.len())
            .filter(|&place| !matches!(bodies[place], Body::Right | Body::Two))
            .map(|place| place.to_string())
            .collect();
        let bad: Vec<&str> = bad.iter().map(String::as_str).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(async { Model::start(two_numbers).process(&messages).await });
        if bad.len() == bodies.len() {
            prop_assert!(answer.is_err());
        } else {
            prop_assert_eq!(answer.unwrap(), again(&bad));
        }
    }
}
