//! Lambda function that calls the sidecar over its Unix socket or, with the handler `tcp`, over TCP.

use std::env;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

/// Posts the features on a new connection to the sidecar, and returns its response.
fn predict(mut sidecar: impl Read + Write, features: &Value) -> Result<Value, Error> {
    let body = json!({"features": features}).to_string();
    let length = body.len();
    write!(
        sidecar,
        "POST /predict HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut response = String::new();
    sidecar.read_to_string(&mut response)?;
    let (head, body) = response.split_once("\r\n\r\n").ok_or("no response")?;
    let answer: Value = serde_json::from_str(body)?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(answer),
        _ => Err(answer["error"].to_string().into()),
    }
}

async fn handler(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let features = &event.payload["features"];
    if env::var("_HANDLER")? == "tcp" {
        let port = env::var("MODEL_PORT").unwrap_or("2774".into());
        return predict(TcpStream::connect(format!("127.0.0.1:{port}"))?, features);
    }
    predict(UnixStream::connect("/tmp/model-sidecar.sock")?, features)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(handler)).await
}
