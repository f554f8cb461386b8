//! Comparison of the specification and of the JSON Schema with the parser.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

use super::super::*;
use super::errors;
use super::fixtures::{full, whole, without};

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

fn page() -> String {
    std::fs::read_to_string(document("rollout.md")).expect("the page is there")
}

/// JSON Schema of the manifest.
pub(super) struct Schema(Schemas, SchemaIndex);

impl Schema {
    pub(super) fn read() -> Self {
        let mut schemas = Schemas::new();
        let path = document("manifest.schema.json");
        let path = path.to_str().expect("a path in UTF-8");
        let index = Compiler::new()
            .compile(path, &mut schemas)
            .expect("a valid schema");
        Self(schemas, index)
    }

    pub(super) fn takes(&self, manifest: &Value) -> bool {
        self.0.validate(manifest, self.1).is_ok()
    }
}

#[test]
fn every_example_of_the_page_is_read() {
    let page = page();
    let examples: Vec<&str> = page
        .split("```json\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("an end"))
        .collect();
    assert_eq!(examples.len(), 5);
    let schema = Schema::read();
    for example in examples {
        Manifest::parse(example.as_bytes()).unwrap();
        assert!(
            schema.takes(&serde_json::from_str(example).unwrap()),
            "{example}"
        );
    }
}

#[test]
fn the_schema_accepts_and_rejects_like_the_parser() {
    let schema = Schema::read();
    let optional = [
        "/previous",
        "/canary",
        "/version_labels",
        "/versions/7/folder",
        "/versions/7/labels",
        "/versions/7/signature",
        "/versions/7/golden",
        "/versions/7/meta",
    ];
    for manifest in optional.map(without).into_iter().chain([whole(), full()]) {
        assert!(
            Manifest::parse(manifest.to_string().as_bytes()).is_ok(),
            "{manifest}"
        );
        assert!(schema.takes(&manifest), "{manifest}");
    }
    for case in errors::by_both() {
        assert!(!schema.takes(&case.manifest), "{}", case.error);
    }
    for case in errors::by_the_parser_alone() {
        assert!(schema.takes(&case.manifest), "{}", case.error);
    }
}

#[test]
fn the_page_has_every_field_and_no_other() {
    let schema: Value =
        serde_json::from_slice(&std::fs::read(document("manifest.schema.json")).unwrap()).unwrap();
    let mut fields = BTreeSet::new();
    let mut open = vec![&schema];
    while let Some(value) = open.pop() {
        if let Some(properties) = value["properties"].as_object() {
            fields.extend(properties.keys().cloned());
        }
        open.extend(
            value
                .as_object()
                .into_iter()
                .flat_map(serde_json::Map::values),
        );
    }
    let page = page();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let named: BTreeSet<String> = rows
        .map(|row| row.split('`').next().unwrap_or(row).to_owned())
        .collect();
    assert_eq!(named, fields);
}

#[test]
fn the_page_names_the_limits_and_the_defaults() {
    let page = page().split_whitespace().collect::<Vec<_>>().join(" ");
    let Tolerance { absolute, relative } = Tolerance::default();
    for words in [
        "at most 1,048,576 bytes (1 MiB)".to_owned(),
        format!("at most {MAX_VERSIONS} versions"),
        format!("at most {MAX_LABELS} labels"),
        "at most 1,000 files".to_owned(),
        format!("at most {MAX_GOLDEN} golden examples"),
        format!("at most {MAX_BASELINES} histograms of inputs and {MAX_BASELINES} of outputs"),
        format!("at most {MAX_META} entries of metadata"),
        format!("| `format` | string | required | `{FORMAT}` |"),
        format!("`{{\"absolute\": {absolute:e}, \"relative\": {relative:e}}}`"),
    ] {
        assert!(page.contains(&words), "{words}");
    }
    assert_eq!((MAX_BYTES, MAX_FILES), (1_048_576, 1_000));
}
