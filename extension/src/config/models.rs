//! Which models: `MODEL_URI`, or `MODEL_BUCKET` and `MODEL_KEY`, or several in `MODELS`.

use super::units::Reader;
use crate::ids::ModelName;

/// Where a model lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// An object in S3.
    S3 {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
    },
    /// A file that this environment sees: on EFS, in the function, in a layer.
    File {
        /// Its absolute path.
        path: String,
    },
}

impl Location {
    /// The last part of the key or path: the name of the model's file.
    #[must_use]
    pub fn file_name(&self) -> &str {
        let path = self.path();
        path.rsplit('/').next().unwrap_or(path)
    }

    fn path(&self) -> &str {
        match self {
            Location::S3 { key, .. } => key,
            Location::File { path } => path,
        }
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Location::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
            Location::File { path } => write!(f, "file://{path}"),
        }
    }
}

/// One model to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSettings {
    /// The name by which callers address it.
    pub name: ModelName,
    /// Where it lies.
    pub location: Location,
}

const URI_FORM: &str = "s3://BUCKET/KEY or file:///PATH, such as s3://models/fraud/model.onnx";
const MODELS_FORM: &str =
    "NAME=s3://BUCKET/KEY or NAME=file:///PATH, several separated by commas, each NAME once";
const ONE_SOURCE: &str = "no model is named, or in several ways: set exactly one of MODEL_URI, MODELS, or MODEL_BUCKET with MODEL_KEY";

pub(super) fn read(reader: &mut Reader<'_>) -> Vec<ModelSettings> {
    let named = reader.text("MODEL_NAME");
    let parts = (reader.text("MODEL_BUCKET"), reader.text("MODEL_KEY"));
    match (reader.text("MODEL_URI"), reader.text("MODELS"), parts) {
        (Some(uri), None, (None, None)) => {
            let Some(location) = parse_uri(uri) else {
                reader.wrong("MODEL_URI", uri, URI_FORM);
                return Vec::new();
            };
            single(reader, named, location)
        }
        (None, None, (Some(bucket), Some(key))) => {
            let location = Location::S3 {
                bucket: bucket.to_owned(),
                key: key.to_owned(),
            };
            single(reader, named, location)
        }
        (None, Some(list), (None, None)) => {
            if let Some(name) = named {
                reader.wrong(
                    "MODEL_NAME",
                    name,
                    "nothing beside MODELS, which names each model itself",
                );
            }
            several(reader, list)
        }
        _ => {
            reader.missing(ONE_SOURCE);
            Vec::new()
        }
    }
}

fn single(reader: &mut Reader<'_>, named: Option<&str>, location: Location) -> Vec<ModelSettings> {
    let name = match named {
        Some(name) => match ModelName::parse(name) {
            Ok(name) => name,
            Err(allowed) => {
                reader.wrong("MODEL_NAME", name, &allowed);
                return Vec::new();
            }
        },
        None => match derived_name(&location) {
            Some(name) => name,
            None => {
                reader.missing("no model name can be made from the key: set MODEL_NAME");
                return Vec::new();
            }
        },
    };
    vec![ModelSettings { name, location }]
}

fn several(reader: &mut Reader<'_>, list: &str) -> Vec<ModelSettings> {
    let mut models: Vec<ModelSettings> = Vec::new();
    for entry in list
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
    {
        let parsed = entry
            .split_once('=')
            .and_then(|(name, uri)| {
                Some((ModelName::parse(name.trim()).ok()?, parse_uri(uri.trim())?))
            })
            .filter(|(name, _)| models.iter().all(|model| model.name != *name));
        match parsed {
            Some((name, location)) => models.push(ModelSettings { name, location }),
            None => reader.wrong("MODELS", entry, MODELS_FORM),
        }
    }
    if models.is_empty() {
        reader.wrong("MODELS", list, MODELS_FORM);
    }
    models
}

fn parse_uri(uri: &str) -> Option<Location> {
    let location = if let Some(path) = uri.strip_prefix("file://") {
        let path = path.starts_with('/').then(|| path.to_owned())?;
        Location::File { path }
    } else {
        let (bucket, key) = uri.strip_prefix("s3://")?.split_once('/')?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        (!bucket.is_empty()).then_some(Location::S3 { bucket, key })?
    };
    (!location.file_name().is_empty()).then_some(location)
}

/// The file's name without its ending; where that is just `model`, the name of the folder that holds it.
fn derived_name(location: &Location) -> Option<ModelName> {
    let file = location.file_name();
    let mut parts = location.path().rsplit('/').skip(1);
    let stem = file.split_once('.').map_or(file, |(stem, _)| stem);
    let name = match parts.next() {
        Some(folder) if stem == "model" && !folder.is_empty() => folder,
        _ => stem,
    };
    ModelName::parse(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_after_its_file_or_its_folder() {
        for (uri, name) in [
            ("s3://bucket/fraud/model.onnx", "fraud"),
            ("s3://bucket/a/churn.onnx", "churn"),
            ("s3://bucket/model.onnx", "model"),
            ("s3://bucket/iris.v2.onnx", "iris"),
            ("file:///mnt/models/fraud/model.onnx", "fraud"),
            ("file:///model.onnx", "model"),
        ] {
            let location = parse_uri(uri).unwrap();
            assert_eq!(location.to_string(), uri);
            assert_eq!(derived_name(&location).unwrap().as_str(), name, "{uri}");
        }
    }

    #[test]
    fn what_names_no_object_and_no_file_is_refused() {
        for uri in [
            "",
            "s3://",
            "s3://bucket",
            "s3://bucket/",
            "s3:///key",
            "s3://bucket/folder/",
            "http://host/key",
            "bucket/key",
            "file://",
            "file://relative/model.onnx",
            "file:///mnt/models/",
        ] {
            assert_eq!(parse_uri(uri), None, "{uri}");
        }
    }
}
