//! Lambda's Invoke API for one function, with any name in the path. Implements the request headers
//! `X-Amz-Invocation-Type` and `X-Amz-Log-Type`, and the response headers `X-Amz-Function-Error`,
//! `X-Amzn-RequestId` and `X-Amz-Log-Result`.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use lab::lambda::{Function, Invocation};
use serde::de::IgnoredAny;

use crate::response::{ServerResponse, error};

/// Path of an invocation, as in AWS's emulator.
pub(crate) const PATH: &str = "/2015-03-31/functions/function/invocations";
/// Maximum size of the log tail in a response, in bytes.
const TAIL: usize = 4 * 1024;
/// Maximum size of an asynchronous event, in bytes.
const MAX_EVENT: usize = 1024 * 1024;

/// Name of the function in an invocation's path.
pub(crate) fn function_of(path: &str) -> Option<&str> {
    let name = path.strip_prefix("/2015-03-31/functions/")?;
    let name = name.strip_suffix("/invocations")?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// Invokes the function.
pub(crate) async fn answer(
    function: &Arc<Function>,
    name: &str,
    headers: &HeaderMap,
    payload: Bytes,
) -> ServerResponse {
    // Lambda passes `{}` if the caller sends no payload.
    let payload = if payload.is_empty() {
        Bytes::from_static(b"{}")
    } else {
        payload
    };
    if let Err(problem) = serde_json::from_slice::<IgnoredAny>(&payload) {
        let message = format!("Could not parse request body into json: {problem}");
        return named(
            "InvalidRequestContentException",
            StatusCode::BAD_REQUEST,
            &message,
        );
    }
    let header = |name, default| {
        let value = headers.get(name).map(HeaderValue::as_bytes);
        String::from_utf8_lossy(value.unwrap_or(default)).into_owned()
    };
    let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
    let trace = text("x-amzn-trace-id");
    let context = match text("x-amz-client-context").map(|context| BASE64_STANDARD.decode(context))
    {
        None => None,
        Some(Ok(context)) => String::from_utf8(context).ok(),
        Some(Err(_)) => return wrong("X-Amz-Client-Context", "…", "JSON in base64"),
    };
    let tail = match header("x-amz-log-type", b"None").as_str() {
        "None" => false,
        "Tail" => true,
        other => return wrong("X-Amz-Log-Type", other, "None or Tail"),
    };
    match header("x-amz-invocation-type", b"RequestResponse").as_str() {
        "RequestResponse" => {
            let invocation = function.invoke_with(payload, trace, context).await;
            let log = if tail {
                log_of(function, &invocation.request_id).await
            } else {
                None
            };
            whole(invocation, log)
        }
        "Event" if payload.len() > MAX_EVENT => {
            let message = format!(
                "Request must be smaller than {MAX_EVENT} bytes for the InvokeFunction \
                 operation of the invocation type Event"
            );
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            named("RequestEntityTooLargeException", status, &message)
        }
        "Event" => {
            let function = Arc::clone(function);
            let name = name.to_owned();
            tokio::spawn(async move {
                if let Some(error) = function
                    .invoke_with(payload, trace, context)
                    .await
                    .function_error()
                {
                    // Lambda retries twice, minutes later; the lab logs the failure and does not
                    // retry.
                    eprintln!(
                        "lab: asynchronous invocation of {name} failed: {}",
                        error.error_type
                    );
                }
            });
            empty(StatusCode::ACCEPTED)
        }
        "DryRun" => empty(StatusCode::NO_CONTENT),
        other => wrong(
            "X-Amz-Invocation-Type",
            other,
            "RequestResponse, Event or DryRun",
        ),
    }
}

fn whole(invocation: Invocation, log: Option<String>) -> ServerResponse {
    let mut answer = Response::new(Full::from(invocation.body));
    *answer.status_mut() = invocation.status;
    *answer.headers_mut() = invocation.headers;
    let log = log.map(|log| HeaderValue::try_from(BASE64_STANDARD.encode(log)));
    if let Some(Ok(log)) = log {
        answer.headers_mut().insert("x-amz-log-result", log);
    }
    answer
}

/// Log tail of the invocation, from its START to its REPORT, with lines of concurrent invocations
/// in between. `None` for an invocation that no environment accepted.
async fn log_of(function: &Function, request_id: &str) -> Option<String> {
    let of_it = |line: &str, kind: &str| {
        let rest = line.strip_prefix(kind);
        rest.is_some_and(|rest| rest.starts_with(&format!(" RequestId: {request_id}")))
    };
    let log = function.log();
    log.lines().iter().find(|line| of_it(line, "START"))?;
    let report = log
        .wait_for_line("REPORT", |line| of_it(line, "REPORT"))
        .await;
    report.ok()?;
    let lines = log.lines();
    let from = lines.iter().position(|line| of_it(line, "START"))?;
    let to = lines.iter().position(|line| of_it(line, "REPORT"))?;
    let mut text = lines.get(from..=to)?.join("\n");
    text.push('\n');
    let start = text.ceil_char_boundary(text.len().saturating_sub(TAIL));
    Some(text.split_off(start))
}

fn empty(status: StatusCode) -> ServerResponse {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

fn wrong(header: &str, value: &str, allowed: &str) -> ServerResponse {
    let message = format!("invalid {header}: {value:?}; allowed: {allowed}");
    named(
        "InvalidParameterValueException",
        StatusCode::BAD_REQUEST,
        &message,
    )
}

fn named(kind: &'static str, status: StatusCode, message: &str) -> ServerResponse {
    let mut answer = error(status, message);
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert("x-amzn-errortype", kind);
    answer
}

#[test]
fn a_path_names_a_function() {
    assert_eq!(function_of(PATH), Some("function"));
    assert_eq!(
        function_of("/2015-03-31/functions/mine/invocations"),
        Some("mine")
    );
    assert_eq!(function_of("/2015-03-31/functions//invocations"), None);
    assert_eq!(function_of("/2015-03-31/functions/a/b/invocations"), None);
    assert_eq!(function_of("/lab/status"), None);
}
