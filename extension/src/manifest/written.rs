//! The manifest as it is written: each field is checked alone, before the fields are checked against each other.
//!
//! Stricter than serde: an object must be an object, a key may occur only once, and `null` is no value ([`json`]).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::baseline::Baseline;
use super::canary::Canary;
use super::error::ManifestError;
use super::golden::Golden;
use super::json::{self, JsonObject};
use super::meta::VersionMeta;
use super::signature::WrittenSignature;
use super::version_labels::VersionLabels;
use super::{FORMAT, PublishedFile};
use crate::ids::{Digest, FilePath, VersionName};

/// Manifest. Its `format` has been checked.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenManifest {
    #[serde(rename = "format")]
    _format: String,
    pub(super) current: VersionName,
    #[serde(default, deserialize_with = "json::optional")]
    pub(super) previous: Option<VersionName>,
    #[serde(default, deserialize_with = "json::optional_object")]
    pub(super) canary: Option<Canary>,
    #[serde(default)]
    pub(super) version_labels: VersionLabels,
    pub(super) versions: WrittenVersions,
}

/// Version of a manifest.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenVersion {
    #[serde(default, deserialize_with = "folder")]
    pub(super) folder: Option<FilePath>,
    #[serde(default, deserialize_with = "json::optional")]
    pub(super) model: Option<String>,
    #[serde(deserialize_with = "json::objects")]
    pub(super) files: Vec<PublishedFile>,
    #[serde(default)]
    pub(super) labels: Vec<String>,
    #[serde(default, deserialize_with = "json::optional_object")]
    pub(super) signature: Option<WrittenSignature>,
    #[serde(default, deserialize_with = "json::objects")]
    pub(super) golden: Vec<Golden>,
    #[serde(default, deserialize_with = "json::objects")]
    pub(super) baseline: Vec<Baseline>,
    #[serde(default)]
    pub(super) meta: VersionMeta,
}

/// Field that is read first, because another format may have other fields.
#[derive(serde::Deserialize)]
struct FormatField {
    format: String,
}

/// Reads a manifest, field by field.
pub(super) fn read(text: &str) -> Result<WrittenManifest, ManifestError> {
    if let Ok(JsonObject(FormatField { format })) = serde_json::from_str(text)
        && format != FORMAT
    {
        let allowed = format!("{FORMAT:?}, which is what this version of the sidecar reads");
        return Err(ManifestError::not_allowed("format", &format, &allowed));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let JsonObject(written) =
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = error.path().to_string();
            // serde_path_to_error writes an unreadable key as a question mark.
            let known = match path.as_str() {
                "." | "?" => "",
                path => path.strip_suffix(".?").unwrap_or(path),
            };
            field(known, error.inner())
        })?;
    deserializer.end().map_err(|error| field("", &error))?;
    Ok(written)
}

/// Error in the field at `path`.
fn field(path: &str, error: &serde_json::Error) -> ManifestError {
    let cut = if error.is_eof() {
        ": the text ends early, as after an incomplete upload"
    } else {
        ""
    };
    ManifestError::field(path, format!("{error}{cut}"))
}

/// Deserializes a SHA-256.
pub(super) fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    json::parsed(deserializer, Digest::parse)
}

/// Deserializes the path of a folder.
fn folder<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FilePath>, D::Error> {
    json::parsed(deserializer, |folder| {
        FilePath::parse(folder).map(Some).map_err(|_| {
            "a path below the manifest's own folder, such as versions/7: not absolute, without `..`, and with no `/` \
             at its end"
                .to_owned()
        })
    })
}

/// Versions by name, in the order of the manifest; names are unique.
pub(super) struct WrittenVersions(pub(super) Vec<(VersionName, WrittenVersion)>);

impl<'de> Deserialize<'de> for WrittenVersions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByName;
        impl<'de> Visitor<'de> for ByName {
            type Value = WrittenVersions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with an object for each version")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WrittenVersions, A::Error> {
                let mut versions: Vec<(VersionName, WrittenVersion)> = Vec::new();
                while let Some(name) = map.next_key::<VersionName>()? {
                    if versions.iter().any(|(there, _)| *there == name) {
                        let twice = format!("version {:?} is defined twice", name.as_str());
                        return Err(A::Error::custom(twice));
                    }
                    if versions.len() == super::MAX_VERSIONS {
                        let most = super::MAX_VERSIONS;
                        let more =
                            format!("there are more than {most} versions; the maximum is {most}");
                        return Err(A::Error::custom(more));
                    }
                    let JsonObject(version) = map.next_value()?;
                    versions.push((name, version));
                }
                Ok(WrittenVersions(versions))
            }
        }
        deserializer.deserialize_map(ByName)
    }
}
