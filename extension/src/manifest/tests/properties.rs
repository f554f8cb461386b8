//! Properties of any manifest: a valid one is read exactly, and an error names the damaged field.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::super::*;
use super::generated;
use super::page::Schema;
use crate::tensor::Port;

proptest! {
    #[test]
    fn a_valid_manifest_is_read_exactly(written in generated::manifest()) {
        let manifest = Manifest::parse(written.to_string().as_bytes()).unwrap();
        prop_assert_eq!(manifest.current().0.as_str(), &written["current"]);
        let previous = manifest.previous().map(|(name, _)| name.as_str());
        prop_assert_eq!(previous, written.get("previous").and_then(Value::as_str));
        let canary = manifest.canary();
        let canary = canary.map(|Canary { version, percent }| json!({"version": version.as_str(), "percent": percent}));
        prop_assert_eq!(canary.as_ref(), written.get("canary"));
        let labels = manifest.labels().iter();
        let labels: Value = labels.map(|(label, name)| (label.to_string(), json!(name.as_str()))).collect();
        prop_assert_eq!(labels, written.get("version_labels").cloned().unwrap_or_else(|| json!({})));
        let versions = written["versions"].as_object().unwrap();
        prop_assert_eq!(manifest.versions().count(), versions.len());
        for (name, version) in versions {
            let read = manifest.version(name).unwrap().1;
            prop_assert_eq!(again(read, name), explicit(version, name));
        }
        prop_assert!(SCHEMA.with(|schema| schema.takes(&written)));
    }

    #[test]
    fn a_null_is_an_error_at_its_place(written in generated::manifest(), node in any::<Index>()) {
        let nodes = nodes(&written);
        let (pointer, place) = &nodes[node.index(nodes.len())];
        let mut damaged = written.clone();
        *damaged.pointer_mut(pointer).unwrap() = Value::Null;
        let error = Manifest::parse(damaged.to_string().as_bytes()).unwrap_err();
        prop_assert_eq!(path_of(&error), place.as_str(), "{}", error);
        prop_assert!(SCHEMA.with(|schema| !schema.takes(&damaged)));
    }

    #[test]
    fn an_unknown_field_is_an_error_at_its_place(written in generated::manifest(), node in any::<Index>()) {
        let objects: Vec<_> = nodes(&written)
            .into_iter()
            .filter(|(pointer, _)| written.pointer(pointer).unwrap().is_object())
            .collect();
        let (pointer, place) = &objects[node.index(objects.len())];
        let mut damaged = written.clone();
        damaged.pointer_mut(pointer).unwrap()["unknown"] = json!(1);
        let error = Manifest::parse(damaged.to_string().as_bytes()).unwrap_err();
        let expected = format!("{place}.unknown");
        prop_assert_eq!(path_of(&error), expected.trim_start_matches('.'), "{}", error);
        prop_assert!(SCHEMA.with(|schema| !schema.takes(&damaged)));
    }

    #[test]
    fn the_parser_rejects_what_the_schema_rejects(
        written in generated::manifest(),
        swaps in vec((any::<Index>(), any::<Index>()), 1..4),
    ) {
        // Valid values in the wrong fields.
        let mut damaged = written;
        for (from, to) in swaps {
            let nodes = nodes(&damaged);
            let value = damaged.pointer(&nodes[from.index(nodes.len())].0).unwrap().clone();
            *damaged.pointer_mut(&nodes[to.index(nodes.len())].0).unwrap() = value;
        }
        let taken = Manifest::parse(damaged.to_string().as_bytes()).is_ok();
        prop_assert!(!taken || SCHEMA.with(|schema| schema.takes(&damaged)), "{}", damaged);
    }

    #[test]
    fn damaged_text_is_read_or_rejected_in_one_line(
        written in generated::manifest(),
        edits in vec((any::<Index>(), 0..5_usize, any::<u8>()), 1..6),
    ) {
        let mut bytes = written.to_string().into_bytes();
        for (place, edit, byte) in edits {
            let place = place.index(bytes.len() + 1);
            match edit {
                0 => bytes.truncate(place),
                1 => bytes.insert(place, byte),
                2 => bytes.insert(place, b"[]{}\",:0-.eE\\u"[usize::from(byte) % 14]),
                3 => bytes.truncate(bytes.len() - (bytes.len() - place).min(1)),
                _ => bytes.iter_mut().skip(place).take(1).for_each(|old| *old = byte),
            }
        }
        if let Err(error) = Manifest::parse(&bytes) {
            let line = error.to_string();
            prop_assert!(line.starts_with("the manifest") && line.chars().count() < 1_500, "{}", line);
            prop_assert!(!line.contains(char::is_control), "{}", line);
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_or_rejected(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Manifest::parse(&bytes);
    }
}

thread_local! {
    static SCHEMA: Schema = Schema::read();
}

fn path_of(error: &ManifestError) -> &str {
    match error {
        ManifestError::Field { path, .. } => path,
        other => panic!("{other} names no field"),
    }
}

/// Returns the JSON pointer and the path in errors of every value of a manifest, except the elements of tensors.
fn nodes(manifest: &Value) -> Vec<(String, String)> {
    let mut nodes = vec![(String::new(), String::new())];
    let mut next = 0;
    while let Some((pointer, place)) = nodes.get(next).cloned() {
        next += 1;
        match manifest.pointer(&pointer).unwrap() {
            Value::Object(fields) => nodes.extend(fields.keys().map(|key| {
                let place = format!("{place}.{key}");
                (
                    format!("{pointer}/{key}"),
                    place.trim_start_matches('.').to_owned(),
                )
            })),
            Value::Array(items) if !pointer.ends_with("/data") => {
                nodes.extend(
                    (0..items.len())
                        .map(|index| (format!("{pointer}/{index}"), format!("{place}[{index}]"))),
                );
            }
            _ => {}
        }
    }
    nodes
}

/// Returns a written version with explicit defaults.
fn explicit(written: &Value, name: &str) -> Value {
    let or = |field: &str, default: Value| written.get(field).cloned().unwrap_or(default);
    let files = written["files"].as_array().unwrap();
    let lower = |file: &Value| {
        let mut file = file.clone();
        file["sha256"] = file["sha256"].as_str().unwrap().to_lowercase().into();
        file
    };
    let golden = or("golden", json!([]));
    let golden = golden.as_array().unwrap().iter().map(|golden| {
        let own = golden.get("tolerance").cloned();
        let own = own.unwrap_or_else(|| json!({"absolute": 1e-5, "relative": 1e-4}));
        let on = |architecture: &str| {
            let theirs = golden
                .get("tolerance_on")
                .and_then(|on| on.get(architecture));
            theirs.unwrap_or(&own).clone()
        };
        json!({
            "inputs": with_data_as_text(&golden["inputs"]),
            "outputs": with_data_as_text(&golden["outputs"]),
            "tolerances": [own, on("x86_64"), on("aarch64")],
        })
    });
    let mut baseline = or("baseline", json!([]));
    for histogram in baseline.as_array_mut().unwrap() {
        let histogram = histogram.as_object_mut().unwrap();
        histogram.entry("nulls").or_insert(json!(0));
    }
    json!({
        "folder": or("folder", name.into()),
        "model": or("model", files[0]["path"].clone()),
        "files": files.iter().map(lower).collect::<Value>(),
        "labels": or("labels", json!([])),
        "signature": or("signature", Value::Null),
        "golden": golden.collect::<Value>(),
        "baseline": baseline,
        "meta": or("meta", json!({})),
    })
}

/// Returns tensors with their elements as text, so that no digit is lost.
fn with_data_as_text(tensors: &Value) -> Value {
    let tensors = tensors.as_array().unwrap().iter();
    let as_text = tensors.map(|tensor| {
        let mut tensor = tensor.as_object().unwrap().clone();
        let data = tensor.remove("data").unwrap();
        tensor.insert("text".to_owned(), data.to_string().into());
        Value::Object(tensor)
    });
    as_text.collect()
}

/// Returns a parsed version in the form of [`explicit`].
fn again(version: &PublishedVersion, name: &str) -> Value {
    let file = |file: &PublishedFile| {
        assert_eq!(file.is_compressed(), file.laid_out() != file.path, "{name}");
        json!({"path": file.path, "size": file.size, "sha256": file.digest})
    };
    let tensor = |tensor: &GoldenTensor| {
        json!({
            "name": tensor.name,
            "shape": tensor.shape,
            "datatype": tensor.datatype.name(),
            "text": tensor.data,
        })
    };
    let port = |port: &Port| {
        let (datatype, shape) = port.kind.outline();
        let shape: Vec<Value> = shape
            .iter()
            .map(|dim| dim.map_or(json!(-1), |dim| json!(dim)))
            .collect();
        json!({"name": port.name, "datatype": datatype, "shape": shape})
    };
    let signature = |signature: &Signature| {
        let [inputs, outputs] = [&signature.inputs, &signature.outputs]
            .map(|ports| ports.iter().map(port).collect::<Value>());
        json!({"inputs": inputs, "outputs": outputs})
    };
    let golden = |golden: &Golden| {
        let tolerances = ["riscv64", "x86_64", "aarch64"].map(|architecture| {
            let Tolerance { absolute, relative } = golden.tolerance(architecture);
            json!({"absolute": absolute, "relative": relative})
        });
        json!({
            "inputs": golden.inputs.iter().map(tensor).collect::<Value>(),
            "outputs": golden.outputs.iter().map(tensor).collect::<Value>(),
            "tolerances": tolerances,
        })
    };
    let baseline = |baseline: &Baseline| {
        let (edges, counts) = (&baseline.edges, &baseline.counts);
        let mut written = json!({"edges": edges, "counts": counts, "nulls": baseline.nulls});
        match &baseline.of {
            Observed::Input(name) => written["input"] = json!(name),
            Observed::Output(name) => written["output"] = json!(name),
        }
        if let Some(column) = baseline.column {
            written["column"] = column.into();
        }
        written
    };
    json!({
        "folder": version.folder,
        "model": version.model.path,
        "files": version.files.iter().map(file).collect::<Value>(),
        "labels": version.labels,
        "signature": version.signature.as_ref().map(signature),
        "golden": version.golden.iter().map(golden).collect::<Value>(),
        "baseline": version.baseline.iter().map(baseline).collect::<Value>(),
        "meta": version.meta.iter().collect::<BTreeMap<_, _>>(),
    })
}
