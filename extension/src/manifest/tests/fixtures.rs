//! Sample manifests, and functions that modify them.

use serde_json::{Value, json};

pub(super) const SHA: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

pub(super) fn file(path: &str) -> Value {
    json!({"path": path, "size": 12, "sha256": SHA})
}

pub(super) fn port(name: &str, datatype: &str, shape: &[i64]) -> Value {
    json!({"name": name, "datatype": datatype, "shape": shape})
}

pub(super) fn tensor(name: &str) -> Value {
    json!({"name": name, "shape": [2, 1], "datatype": "FP32", "data": [[0.5], [null]]})
}

/// Returns a manifest with two versions, whose current version has all optional fields.
pub(super) fn whole() -> Value {
    json!({
        "format": "model-sidecar/1",
        "current": "7",
        "previous": "6.1",
        "canary": {"version": "7", "percent": 2.5},
        "version_labels": {"stable": "6.1", "latest": "7"},
        "versions": {
            "6.1": {"files": [file("model.ort")]},
            "7": {
                "folder": "versions/7",
                "model": "model.onnx.zst",
                "files": [file("model.onnx.zst"), file("data/weights.bin")],
                "labels": ["legit", "fraud"],
                "signature": {
                    "inputs": [port("x", "FP32", &[-1, 1])],
                    "outputs": [port("y", "FP32", &[-1, 1]), port("z", "MAP", &[-1])],
                },
                "golden": [{
                    "inputs": [tensor("x")],
                    "outputs": [tensor("y"), tensor("z")],
                    "tolerance": {"absolute": 0, "relative": 0.25},
                    "tolerance_on": {"aarch64": {"absolute": 0.5, "relative": 1e-3}},
                }],
                "baseline": [
                    {"input": "x", "column": 0, "edges": [-1, 0.5, 2], "counts": [3, 4], "nulls": 2},
                ],
                "meta": {"commit": "1234abc"},
            },
        },
    })
}

/// Returns `whole()` with the maximum number of versions, labels, files and golden examples.
pub(super) fn full() -> Value {
    let mut manifest = whole();
    for number in 2..100 {
        let version = json!({"files": [file("model.onnx")]});
        manifest["versions"][format!("v{number}")] = version;
        manifest["version_labels"][format!("l{number}")] = "7".into();
    }
    let golden = manifest["versions"]["7"]["golden"][0].clone();
    manifest["versions"]["7"]["golden"] = vec![golden; 100].into();
    let numbered = |number| file(&format!("f{number}"));
    manifest["versions"]["7"]["files"] = (0..1_000).map(numbered).collect();
    manifest["versions"]["7"]["model"] = "f0".into();
    for number in 1..50 {
        manifest["versions"]["7"]["meta"][format!("k{number}")] = "".into();
    }
    manifest
}

/// Returns `whole()` with a value replaced or added at a JSON pointer.
pub(super) fn with(place: &str, value: Value) -> Value {
    let mut manifest = whole();
    let (parent, key) = place.rsplit_once('/').unwrap();
    match manifest.pointer_mut(parent).unwrap() {
        Value::Object(fields) => {
            fields.insert(key.to_owned(), value);
        }
        Value::Array(items) => match items.get_mut(key.parse::<usize>().unwrap()) {
            Some(item) => *item = value,
            None => items.push(value),
        },
        other => panic!("{parent} is {other}"),
    }
    manifest
}

/// Returns `whole()` without a field.
pub(super) fn without(place: &str) -> Value {
    let mut manifest = whole();
    let (parent, key) = place.rsplit_once('/').unwrap();
    let fields = manifest
        .pointer_mut(parent)
        .unwrap()
        .as_object_mut()
        .unwrap();
    fields.remove(key).unwrap();
    manifest
}
