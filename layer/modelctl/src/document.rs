//! The manifest as a publisher edits it.
//!
//! The sidecar's own parser reads it first and last, so that no command works on, or writes, a
//! manifest that the fleet would reject. Versions that an edit does not touch keep their text, to
//! the digit.

use std::collections::BTreeMap;

use anyhow::Context as _;
use model_sidecar::manifest::{FORMAT, MAX_BYTES, Manifest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::failure::rejected;

/// Manifest, with the text of each version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Document {
    format: String,
    pub(crate) current: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) canary: Option<Canary>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) version_labels: BTreeMap<String, String>,
    pub(crate) versions: BTreeMap<String, Box<RawValue>>,
}

/// Canary of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Canary {
    pub(crate) version: String,
    pub(crate) percent: f64,
}

/// Roles of a version, in words: `current`, `previous`, `canary 5 %`, `label staging`.
pub(crate) type Roles = Vec<String>;

impl Document {
    /// Manifest whose first version is current.
    pub(crate) fn first(name: &str, version: Box<RawValue>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            current: name.to_owned(),
            previous: None,
            canary: None,
            version_labels: BTreeMap::new(),
            versions: BTreeMap::from([(name.to_owned(), version)]),
        }
    }

    /// Parses a manifest as the sidecar does.
    pub(crate) fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        Manifest::parse(bytes)?;
        serde_json::from_slice(bytes).context("cannot read the manifest")
    }

    /// Returns the text of the manifest, which the sidecar accepts.
    pub(crate) fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        let parsed = Manifest::parse(&bytes);
        parsed.map_err(|error| rejected(format!("the manifest would be invalid: {error}")))?;
        if bytes.len() > MAX_BYTES {
            return Err(rejected(format!(
                "the manifest would have {} bytes; the maximum is {MAX_BYTES}: remove versions with `modelctl prune`, \
                 or publish fewer golden examples",
                bytes.len()
            )));
        }
        Ok(bytes)
    }

    /// Returns the manifest as the sidecar sees it.
    pub(crate) fn manifest(&self) -> anyhow::Result<Manifest> {
        Ok(Manifest::parse(&self.to_bytes()?)?)
    }

    /// Returns an error that lists the versions, unless there is one of this name.
    pub(crate) fn require(&self, version: &str) -> anyhow::Result<()> {
        if self.versions.contains_key(version) {
            return Ok(());
        }
        let known: Vec<&str> = self.versions.keys().map(String::as_str).collect();
        Err(rejected(format!(
            "the manifest has no version {version:?}; it has {}",
            known.join(", ")
        )))
    }

    /// Returns the version of this name or, without a name, the canary's. The manifest has it.
    pub(crate) fn version_or_canary(&self, named: Option<&str>) -> anyhow::Result<String> {
        let canary = self.canary.as_ref().map(|canary| canary.version.as_str());
        let version = named
            .or(canary)
            .ok_or_else(|| rejected("there is no canary; name the version with --version"))?;
        self.require(version)?;
        Ok(version.to_owned())
    }

    /// Returns an error if another version than the one of `--from` is current.
    pub(crate) fn require_current(&self, from: Option<&str>) -> anyhow::Result<()> {
        match from {
            Some(from) if from != self.current => Err(rejected(format!(
                "version {:?} is current, and --from expects {from:?}; look at `modelctl status`",
                self.current
            ))),
            _ => Ok(()),
        }
    }

    /// Returns the roles of a version; empty if nothing names it.
    pub(crate) fn roles(&self, version: &str) -> Roles {
        let canary = self.canary.as_ref();
        let canary = canary.filter(|canary| canary.version == version);
        let labels = self.version_labels.iter();
        let labels = labels.filter(|(_, named)| *named == version);
        [
            (self.current == version).then(|| "current".to_owned()),
            (self.previous.as_deref() == Some(version)).then(|| "previous".to_owned()),
            canary.map(|canary| format!("canary {} %", canary.percent)),
        ]
        .into_iter()
        .flatten()
        .chain(labels.map(|(label, _)| format!("label {label}")))
        .collect()
    }

    /// Makes a version current, and the one before the fallback version. A canary of this version
    /// has ended.
    pub(crate) fn release(&mut self, version: &str) {
        if self.current != version {
            let before = std::mem::replace(&mut self.current, version.to_owned());
            self.previous = Some(before);
        }
        self.end_canary_of(version);
    }

    /// Makes a good version current again. The bad one is no fallback version.
    pub(crate) fn roll_back(&mut self, version: &str) {
        version.clone_into(&mut self.current);
        self.previous = None;
        self.end_canary_of(version);
    }

    fn end_canary_of(&mut self, version: &str) {
        self.canary.take_if(|canary| canary.version == version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"{
  "format": "model-sidecar/1", "current": "1", "canary": {"version": "2", "percent": 12.5},
  "version_labels": {"beta": "2"},
  "versions": {
    "1": {"files": [{"path": "m", "size": 1, "sha256": "SUM"}],
          "baseline": [{"input": "x", "edges": [0.1000, 1e5], "counts": [7]}]},
    "2": {"files": [{"path": "m", "size": 1, "sha256": "SUM"}]}
  }
}"#;

    fn manifest() -> Document {
        let text = MANIFEST.replace("SUM", &"0".repeat(64));
        Document::parse(text.as_bytes()).expect("valid")
    }

    #[test]
    fn versions_keep_their_text() {
        let mut document = manifest();
        document.release("2");
        let text = String::from_utf8(document.to_bytes().expect("valid")).expect("UTF-8");
        assert!(text.contains("[0.1000, 1e5]"), "{text}");
        let again = Document::parse(text.as_bytes()).expect("valid");
        assert_eq!(again.to_bytes().expect("valid"), text.as_bytes());
    }

    #[test]
    fn a_released_canary_has_ended_and_a_bad_version_is_no_fallback() {
        let mut document = manifest();
        assert_eq!(document.roles("2"), ["canary 12.5 %", "label beta"]);
        document.release("2");
        assert_eq!(document.roles("2"), ["current", "label beta"]);
        assert_eq!(document.roles("1"), ["previous"]);
        document.release("2");
        assert_eq!(document.previous.as_deref(), Some("1"));
        document.roll_back("1");
        assert_eq!((document.current.as_str(), document.previous), ("1", None));
    }

    #[test]
    fn an_invalid_edit_is_rejected_before_it_is_written() {
        let mut document = manifest();
        document.previous = Some("3".to_owned());
        let error = document
            .to_bytes()
            .expect_err("no such version")
            .to_string();
        assert!(error.contains("one of `versions`: 1, 2"), "{error}");
        assert!(document.require("3").is_err());
    }
}
