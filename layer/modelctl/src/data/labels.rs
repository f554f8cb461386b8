//! True labels of the rows of a file: the column `label` of CSV, or the list `labels` of JSON.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use serde_json::value::RawValue;

use super::LABEL;

/// Returns the label of each row, if the file has labels.
pub(crate) fn labels(file: &Path) -> anyhow::Result<Option<Vec<String>>> {
    let extension = file.extension().and_then(|extension| extension.to_str());
    let read = || match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("csv") => of_csv(file),
        Some("json") => of_json(&std::fs::read(file)?),
        _ => Ok(None),
    };
    read().with_context(|| format!("cannot read the labels of {}", file.display()))
}

fn of_csv(file: &Path) -> anyhow::Result<Option<Vec<String>>> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(file)?;
    let Some(column) = reader.headers()?.iter().position(|name| name == LABEL) else {
        return Ok(None);
    };
    let label = |record: Result<csv::StringRecord, csv::Error>| {
        Ok(record?.get(column).unwrap_or_default().to_owned())
    };
    reader
        .records()
        .map(label)
        .collect::<anyhow::Result<_>>()
        .map(Some)
}

fn of_json(text: &[u8]) -> anyhow::Result<Option<Vec<String>>> {
    let Ok(fields) = serde_json::from_slice::<BTreeMap<String, &RawValue>>(text) else {
        // Rows alone.
        return Ok(None);
    };
    let Some(labels) = fields.get("labels") else {
        return Ok(None);
    };
    let labels: Vec<Value> = serde_json::from_str(labels.get()).context("expected a list")?;
    Ok(Some(labels.iter().map(text_of).collect()))
}

/// A label as text: a number without quotation marks.
fn text_of(label: &Value) -> String {
    label
        .as_str()
        .map_or_else(|| label.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_text() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = |name: &str, content: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, content).expect("written");
            labels(&file)
        };
        let both = Some(vec!["1".to_owned(), "cat".to_owned()]);
        assert_eq!(
            read("a.csv", "x,label\n2,1\n3,cat\n").expect("labels"),
            both
        );
        let json = r#"{"features": [[2], [3]], "labels": [1, "cat"]}"#;
        assert_eq!(read("a.json", json).expect("labels"), both);
        for (name, content) in [("b.csv", "x\n1\n"), ("b.json", "[[1]]"), ("b.npy", "")] {
            assert_eq!(read(name, content).expect("no labels"), None, "{name}");
        }
        assert!(read("c.json", r#"{"features": [[1]], "labels": 3}"#).is_err());
    }
}
