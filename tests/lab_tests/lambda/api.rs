//! The Runtime and Extensions APIs: responses to each call.

use http::{Method, Request};
use lab::http::{Client, HttpResponse};

use super::*;

/// A caller of an environment's API, like a process inside.
struct ApiCaller {
    client: Client,
}

impl ApiCaller {
    /// Port of the API, from the variables of the processes inside.
    fn of(environment: &Environment) -> Self {
        let pid = environment.processes("bootstrap")[0];
        let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        let variables = String::from_utf8(variables).unwrap();
        let address = variables
            .split('\0')
            .find_map(|variable| variable.strip_prefix("AWS_LAMBDA_RUNTIME_API=127.0.0.1:"));
        let client = Client::tcp(address.unwrap().parse().unwrap());
        Self { client }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> HttpResponse {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(bytes::Bytes::copy_from_slice(body.as_bytes()));
        self.client.send(request.unwrap()).await.unwrap()
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> HttpResponse {
        self.call(Method::POST, path, headers, body).await
    }
}

fn refusal(answer: &HttpResponse) -> (u16, String) {
    let json = answer.json().unwrap();
    (
        answer.status.as_u16(),
        json["errorType"].as_str().unwrap().to_owned(),
    )
}

#[tokio::test]
async fn late_unknown_and_wrong_calls_are_rejected_by_name() {
    let folders = Folders::new();
    let lambda = folders
        .lambda()
        .freeze_when_idle(false)
        .start()
        .await
        .unwrap();
    lambda.answer(&json!({})).await.unwrap();
    let environment = environment(&lambda);
    environment.wait_until(State::Idle).await.unwrap();
    let caller = ApiCaller::of(&environment);
    let register = "/2020-01-01/extension/register";
    let events = r#"{"events":["INVOKE"]}"#;
    let refused =
        async |headers: &[(&str, &str)], body| refusal(&caller.post(register, headers, body).await);
    let named = |name| [("Lambda-Extension-Name", name)];
    let is = |kind: &str| (403, kind.to_owned());
    assert_eq!(
        refused(&[], events).await,
        is("Extension.InvalidExtensionName")
    );
    assert_eq!(
        refused(&named("late"), events).await,
        is("Extension.RegistrationClosed")
    );
    assert_eq!(
        refused(&named(EXTENSION), events).await,
        is("Extension.InvalidExtensionState")
    );
    assert_eq!(
        refused(&named("x"), r#"{"events":["SLEEP"]}"#).await,
        is("Extension.InvalidEventType")
    );
    assert_eq!(
        refused(&named("x"), r#"{"events":["SHUTDOWN"]}"#).await,
        is("Extension.InvalidEventType")
    );
    assert_eq!(refused(&named("x"), "").await, is("InvalidRequestFormat"));

    let next = "/2020-01-01/extension/event/next";
    let unknown = [(
        "Lambda-Extension-Identifier",
        "6f8b1b2e-6a56-4d3c-9c0d-2b6a3b1d9f00",
    )];
    let answer = caller.call(Method::GET, next, &[], "").await;
    assert_eq!(refusal(&answer), is("Extension.MissingExtensionIdentifier"));
    let answer = caller
        .call(
            Method::GET,
            next,
            &[("Lambda-Extension-Identifier", "me")],
            "",
        )
        .await;
    assert_eq!(refusal(&answer), is("Extension.InvalidExtensionIdentifier"));
    let answer = caller.call(Method::GET, next, &unknown, "").await;
    assert_eq!(refusal(&answer), is("Extension.UnknownExtensionIdentifier"));
    let answer = caller
        .post("/2020-01-01/extension/exit/error", &unknown, "{}")
        .await;
    assert_eq!(refusal(&answer), is("Extension.MissingHeader"));

    let answer = caller
        .post("/2018-06-01/runtime/invocation/1f/response", &[], "{}")
        .await;
    assert_eq!(refusal(&answer), (400, "InvalidRequestID".to_owned()));
    let answer = caller
        .post("/2018-06-01/runtime/init/error", &[], "{}")
        .await;
    assert_eq!(refusal(&answer), is("InvalidStateTransition"));
    let answer = caller
        .call(Method::PUT, "/2022-07-01/telemetry", &[], "{}")
        .await;
    assert_eq!(refusal(&answer), (202, "Telemetry.NotSupported".to_owned()));
    // None of these calls affects the environment.
    lambda.answer(&json!({})).await.unwrap();
}

#[tokio::test]
async fn registering_returns_the_function_and_its_account() {
    let folders = Folders::new();
    let builder = folders.lambda().handler("model.handle");
    let lambda = builder.start().await.unwrap();
    warm(&lambda).await;
    let line = lambda.log().wait_for("extension: registered").await;
    let line = line.unwrap();
    let facts: Value = serde_json::from_str(line.split_once("registered ").unwrap().1).unwrap();
    let wanted = json!({
        "accountId": "012345678912",
        "functionName": "lab",
        "functionVersion": "$LATEST",
        "handler": "model.handle",
    });
    assert_eq!(facts, wanted);
}

#[tokio::test]
async fn the_trace_has_every_call_in_order_with_its_events() {
    let folders = Folders::new();
    let lambda = folders.lambda().start().await.unwrap();
    lambda.answer(&json!({"a": 1})).await.unwrap();
    let environment = environment(&lambda);
    lambda.wait_for_reports(1).await.unwrap();
    let calls = environment.trace();
    let of = |from: &str| -> Vec<_> {
        let own = calls.iter().filter(|call| call.from == from);
        own.map(|call| (call.path.rsplit('/').next().unwrap(), call.event()))
            .collect()
    };
    let invoke = Some("INVOKE".to_owned());
    assert_eq!(
        of(EXTENSION),
        [("register", None), ("next", invoke), ("next", None)]
    );
    assert_eq!(
        of("runtime"),
        [("next", None), ("response", None), ("next", None)]
    );
    assert!(calls.is_sorted_by_key(|call| call.asked));
    let event = calls.iter().find(|call| call.event().is_some()).unwrap();
    let event: Value = serde_json::from_str(&event.response).unwrap();
    assert_eq!(event["requestId"], *lambda.reports()[0].request_id);
    assert_eq!(event["tracing"]["type"], "X-Amzn-Trace-Id");
    assert!(event["deadlineMs"].is_u64());
    let arn = event["invokedFunctionArn"].as_str().unwrap();
    assert!(
        arn.starts_with("arn:aws:lambda:") && arn.ends_with(":function:lab"),
        "{arn}"
    );
}
