//! Lambda function that calls the sidecar over its Unix socket or, with the handler `tcp`, over TCP.

mod predict;

use std::env;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use predict::predict;
use serde_json::Value;

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
