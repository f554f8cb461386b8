//! Differences between two manifests, field by field, as they are shown before a write.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::console::{Colour, Console};
use crate::document::Document;
use crate::units;

/// One changed field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    field: String,
    before: Option<String>,
    after: Option<String>,
}

/// Returns the changes from one manifest to another; without a manifest before, all fields are new.
pub(crate) fn between(before: Option<&Document>, after: &Document) -> Vec<Change> {
    let (old, new) = (before.map(fields).unwrap_or_default(), fields(after));
    let names: BTreeSet<&String> = old.iter().chain(&new).map(|(name, _)| name).collect();
    let value = |fields: &[(String, String)], name: &str| {
        let field = fields.iter().find(|(field, _)| field == name);
        field.map(|(_, value)| value.clone())
    };
    let changes = names.into_iter().map(|name| Change {
        before: value(&old, name),
        after: value(&new, name),
        field: name.clone(),
    });
    changes
        .filter(|change| change.before != change.after)
        .collect()
}

/// Fields of a manifest; a version is one field.
fn fields(document: &Document) -> Vec<(String, String)> {
    let mut fields = vec![("current".to_owned(), document.current.clone())];
    if let Some(previous) = &document.previous {
        fields.push(("previous".to_owned(), previous.clone()));
    }
    if let Some(canary) = &document.canary {
        let text = format!("{} at {} %", canary.version, canary.percent);
        fields.push(("canary".to_owned(), text));
    }
    for (label, version) in &document.version_labels {
        fields.push((format!("version_labels.{label}"), version.clone()));
    }
    for (name, version) in &document.versions {
        fields.push((format!("versions.{name}"), summary(version.get())));
    }
    fields
}

/// `2 files, 262.1 MB, sha256 fcde2b2edba5…, signature, 3 golden examples`.
fn summary(version: &str) -> String {
    let version: Value = serde_json::from_str(version).unwrap_or_default();
    let list = |name: &str| version[name].as_array().map_or(&[][..], Vec::as_slice);
    let files = list("files");
    let size = files.iter().filter_map(|file| file["size"].as_u64()).sum();
    let digests = files
        .iter()
        .filter_map(|file| file["sha256"].as_str()?.get(..12));
    let digests: Vec<&str> = digests.take(3).collect();
    let mut parts = vec![
        counted(files.len(), "file"),
        units::bytes(size),
        format!("sha256 {}…", digests.join("… ")),
    ];
    if version["signature"].is_object() {
        parts.push("signature".to_owned());
    }
    for (name, word) in [("golden", "golden example"), ("baseline", "histogram")] {
        if !list(name).is_empty() {
            parts.push(counted(list(name).len(), word));
        }
    }
    if let Some(meta) = version["meta"].as_object() {
        let entries = meta.iter();
        parts.extend(
            entries.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())),
        );
    }
    parts.join(", ")
}

/// `1 file`, `2 files`.
pub(crate) fn counted(number: usize, word: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {word}{plural}")
}

/// Prints the changes as a diff.
pub(crate) fn show(changes: &[Change], console: &Console) {
    for Change {
        field,
        before,
        after,
    } in changes
    {
        if let Some(before) = before {
            console.coloured(Colour::Red, &format!("- {field}: {before}"));
        }
        if let Some(after) = after {
            console.coloured(Colour::Green, &format!("+ {field}: {after}"));
        }
    }
}

/// Returns the changes for programs.
pub(crate) fn to_json(changes: &[Change]) -> Value {
    let changes = changes.iter().map(
        |change| json!({"field": change.field, "before": change.before, "after": change.after}),
    );
    changes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_fields_are_shown() {
        let version = |size: u64| {
            let file = json!({"path": "m", "size": size, "sha256": "ab".repeat(32)});
            let text = json!({"files": [file], "meta": {"commit": "1234"}}).to_string();
            serde_json::value::RawValue::from_string(text).expect("JSON")
        };
        let before = Document::first("1", version(10));
        let mut after = before.clone();
        after.versions.insert("2".to_owned(), version(20));
        after.release("2");
        let changes = between(Some(&before), &after);
        let fields: Vec<&str> = changes.iter().map(|change| change.field.as_str()).collect();
        assert_eq!(fields, ["current", "previous", "versions.2"]);
        let added = changes[2].after.as_deref();
        assert_eq!(
            added,
            Some("1 file, 20 B, sha256 abababababab…, commit=1234")
        );
        assert_eq!(between(None, &before).len(), 2);
        assert_eq!(between(Some(&after), &after), []);
    }
}
