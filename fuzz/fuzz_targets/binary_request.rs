//! Requests of the Open Inference Protocol with binary tensors after the JSON, through the server:
//! a response or a rejection, never a failure. A response that is sent again as a request returns
//! itself.
//!
//! The first byte selects the model, the next two are the length of the JSON, the rest is the body.

#![no_main]

use std::cell::OnceCell;

use fuzz::Server;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

thread_local! {
    static SERVER: OnceCell<Server> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| {
    let [which, high, low, body @ ..] = input else {
        return;
    };
    let names = fuzz::signatures();
    let (name, _) = &names[usize::from(*which) % names.len()];
    let length = u16::from_be_bytes([*high, *low]);
    SERVER.with(|server| {
        let server = server.get_or_init(Server::start);
        let path = format!("/v2/models/{name}/infer");
        let line = format!("inference-header-content-length: {length}\r\n");
        let (status, head, answer) = server.post(&path, &line, body);
        assert!(
            matches!(status, 200 | 400 | 413),
            "{status}: {}",
            String::from_utf8_lossy(&answer)
        );
        if status == 200 && !has_binary(&head) {
            again(server, &path, &answer);
        }
    });
});

/// Returns `true` if part of the response is binary.
fn has_binary(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head).to_lowercase();
    head.contains("inference-header-content-length")
}

/// The model's outputs are its inputs.
fn again(server: &Server, path: &str, answer: &[u8]) {
    let answer: Value = serde_json::from_slice(answer).expect("JSON");
    let outputs = &answer["outputs"];
    let is_whole = outputs
        .as_array()
        .is_some_and(|outputs| outputs.iter().all(|output| output["parameters"].is_null()));
    // A request may select some of several outputs.
    if !is_whole || (path.contains("several") && outputs.as_array().map(Vec::len) != Some(3)) {
        return;
    }
    let request = json!({ "inputs": outputs }).to_string();
    let (status, _, second) = server.post(path, "", request.as_bytes());
    assert_eq!(
        status,
        200,
        "{request}: {}",
        String::from_utf8_lossy(&second)
    );
    let second: Value = serde_json::from_slice(&second).expect("JSON");
    assert_eq!(&second["outputs"], outputs);
}
