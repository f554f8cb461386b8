//! The document describes the paths of the server.

use std::collections::BTreeSet;

use http_body_util::BodyExt as _;
use serde_json::Value;

use super::*;
use crate::server::route::PATHS;

async fn document() -> Value {
    let response = openapi(false).unwrap();
    let Ok(body) = response.into_body().collect().await;
    serde_json::from_slice(&body.to_bytes()).unwrap()
}

#[tokio::test]
async fn the_document_is_the_checked_in_file_of_this_version() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let file: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let document = document().await;
    assert_eq!(document, file);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let compressed = openapi(true).unwrap();
    assert_eq!(compressed.headers()[CONTENT_ENCODING], "gzip");
}

#[tokio::test]
async fn the_document_has_every_path_and_no_other() {
    let document = document().await;
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let served: BTreeSet<String> = PATHS
        .iter()
        .map(|path| format!("{} {}", path.method, path.template))
        .collect();
    assert_eq!(described, served);
}

#[tokio::test]
async fn parameters_and_references_are_complete() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    found.insert(reference);
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document().await;
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for (kind, components) in document["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys() {
            let reference = format!("#/components/{kind}/{name}");
            let is_used = found.contains(&*reference) || kind == "securitySchemes";
            assert!(is_used, "{reference} is used nowhere");
        }
    }
    for (path, methods) in document["paths"].as_object().unwrap() {
        for call in methods.as_object().unwrap().values() {
            let named = call["parameters"].to_string();
            for name in ["model", "version", "label"] {
                let in_path = path.contains(&format!("{{{name}}}"));
                let is_named = named.contains(&format!("parameters/{name}\""));
                assert_eq!(in_path, is_named, "{path} {name}");
            }
        }
    }
}
