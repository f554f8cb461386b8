//! The manifest as it is written: field by field, before anything is held against anything else.
//!
//! Stricter than serde by itself: an object must be an object (serde would take an array for a struct), a key may stand
//! there only once, and `null` is no value. What a field's own text can show to be wrong is an error here.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Error as _, Serialize as _, Serializer};
use serde_json::value::RawValue;

use super::error::{ManifestError, not_allowed};
use super::golden::Golden;
use super::signature::WrittenSignature;
use super::{Baseline, Canary, FORMAT, PublishedFile, VersionLabels, VersionName};
use crate::ids::{Digest, FilePath};

/// The whole object. Its `format` has been seen to be ours.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    #[serde(rename = "format")]
    _format: String,
    pub(super) current: VersionName,
    #[serde(default, deserialize_with = "given")]
    pub(super) previous: Option<VersionName>,
    #[serde(default, deserialize_with = "optional_object")]
    pub(super) canary: Option<Canary>,
    #[serde(default)]
    pub(super) version_labels: VersionLabels,
    pub(super) versions: Versions,
}

/// One version.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenVersion {
    #[serde(default, deserialize_with = "folder")]
    pub(super) folder: Option<FilePath>,
    #[serde(default, deserialize_with = "given")]
    pub(super) model: Option<String>,
    #[serde(deserialize_with = "objects")]
    pub(super) files: Vec<PublishedFile>,
    #[serde(default)]
    pub(super) labels: Vec<String>,
    #[serde(default, deserialize_with = "given_object")]
    pub(super) signature: Option<WrittenSignature>,
    #[serde(default, deserialize_with = "objects")]
    pub(super) golden: Vec<Golden>,
    #[serde(default, deserialize_with = "objects")]
    pub(super) baseline: Vec<Baseline>,
}

/// The one field that is looked at first: another format may have any others.
#[derive(serde::Deserialize)]
struct Format {
    format: String,
}

/// Reads the fields of a manifest.
pub(super) fn read(text: &str) -> Result<Written, ManifestError> {
    if let Ok(Object(Format { format })) = serde_json::from_str(text)
        && format != FORMAT
    {
        let allowed = format!("{FORMAT:?}, which is what this version of the sidecar reads");
        return Err(ManifestError::not_allowed("format", &format, &allowed));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let Object(written) = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        // A key that could not be read stands there as a question mark.
        let known = match path.as_str() {
            "." | "?" => "",
            path => path.strip_suffix(".?").unwrap_or(path),
        };
        field(known, error.inner())
    })?;
    deserializer.end().map_err(|error| field("", &error))?;
    Ok(written)
}

fn field(path: &str, error: &serde_json::Error) -> ManifestError {
    let cut = if error.is_eof() {
        ": the text ends in the middle, as that of an unfinished upload does"
    } else {
        ""
    };
    ManifestError::field(path, format!("{error}{cut}"))
}

/// A field that may be left out, but not `null`.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// An object that may be left out, but not `null`.
pub(super) fn given_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    object(deserializer).map(Some)
}

/// Text that `parse` takes, or an error that says what is allowed.
pub(super) fn parsed<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(|allowed| D::Error::custom(not_allowed(&text, &allowed)))
}

pub(super) fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    parsed(deserializer, Digest::parse)
}

fn folder<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FilePath>, D::Error> {
    parsed(deserializer, |folder| {
        FilePath::parse(folder).map(Some).map_err(|_| {
            "a path below the manifest's own folder, such as versions/7: not absolute, without `..`, and with no `/` \
             at its end"
                .to_owned()
        })
    })
}

/// A JSON array, as its text.
pub(super) fn array<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = Box::<RawValue>::deserialize(deserializer)?.get().to_owned();
    if text.starts_with('[') {
        return Ok(text);
    }
    Err(D::Error::custom(not_allowed(&text, "an array")))
}

/// The reverse of [`array`].
pub(super) fn as_json<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let json: &RawValue = serde_json::from_str(text).map_err(S::Error::custom)?;
    json.serialize(serializer)
}

/// A list of objects.
pub(super) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(inner)| inner).collect())
}

/// One object.
pub(super) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(inner)| inner)
}

/// One object that may be left out, but not be `null`.
fn optional_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    object(deserializer).map(Some)
}

/// A struct that is written as an object, and as nothing else.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// The versions by name, each name once, in the order in which they are written.
pub(super) struct Versions(pub(super) Vec<(VersionName, WrittenVersion)>);

impl<'de> Deserialize<'de> for Versions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByName;
        impl<'de> Visitor<'de> for ByName {
            type Value = Versions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with an object for each version")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Versions, A::Error> {
                let mut versions: Vec<(VersionName, WrittenVersion)> = Vec::new();
                while let Some(name) = map.next_key::<VersionName>()? {
                    if versions.iter().any(|(there, _)| *there == name) {
                        let twice = format!("version {:?} is there twice", name.as_str());
                        return Err(A::Error::custom(twice));
                    }
                    if versions.len() == super::MAX_VERSIONS {
                        let most = super::MAX_VERSIONS;
                        let more = format!("there are more than {most} versions; that is the most");
                        return Err(A::Error::custom(more));
                    }
                    let Object(version) = map.next_value()?;
                    versions.push((name, version));
                }
                Ok(Versions(versions))
            }
        }
        deserializer.deserialize_map(ByName)
    }
}
