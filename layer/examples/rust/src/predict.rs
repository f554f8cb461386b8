//! Call of the sidecar with the standard library.

use std::io::{Read, Write};

use lambda_runtime::Error;
use serde_json::{Value, json};

/// Posts the features on a new connection to the sidecar, and returns its response.
pub(crate) fn predict(mut sidecar: impl Read + Write, features: &Value) -> Result<Value, Error> {
    let body = json!({"features": features}).to_string();
    write!(sidecar, "POST /predict HTTP/1.0\r\nHost: localhost\r\n")?;
    write!(sidecar, "Content-Length: {}\r\n\r\n{body}", body.len())?;
    let mut response = String::new();
    sidecar.read_to_string(&mut response)?;
    let (head, body) = response.split_once("\r\n\r\n").ok_or("no response")?;
    let answer: Value = serde_json::from_str(body)?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(answer),
        _ => Err(answer["error"].to_string().into()),
    }
}
