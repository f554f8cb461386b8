//! Models and their locations: `MODEL_URI`, `MODEL_BUCKET` with `MODEL_KEY`, or `MODELS`.

use super::units::VariableReader;
use crate::ids::{FilePath, ModelName};
use crate::manifest::Choice;

/// Location of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// An object in S3.
    S3 {
        /// Bucket, or ARN of an access point.
        bucket: String,
        /// Key of the object.
        key: String,
    },
    /// A local file: on EFS, in the function or in a layer.
    File {
        /// Absolute path.
        path: String,
    },
}

/// Form of a source, which follows from the location's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// File of a model, in its folder.
    Model(FilePath),
    /// Manifest, whose name ends in `.json`; its paths are relative to its folder.
    Manifest(FilePath),
    /// Folder in the layout of Triton's model repositories; the location ends in `/`.
    Repository,
}

impl Location {
    /// Returns the form; `None` for an invalid file name.
    #[must_use]
    pub fn form(&self) -> Option<Form> {
        let name = self.file_name();
        if name.is_empty() {
            return Some(Form::Repository);
        }
        let path = FilePath::parse(name).ok()?;
        let is_manifest = name.to_ascii_lowercase().ends_with(".json");
        Some(if is_manifest {
            Form::Manifest(path)
        } else {
            Form::Model(path)
        })
    }

    /// Returns the key or path of the folder, with a trailing `/`; empty for the root of a bucket.
    #[must_use]
    pub fn folder(&self) -> &str {
        let path = self.path();
        &path[..path.len() - self.file_name().len()]
    }

    fn file_name(&self) -> &str {
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

/// Settings of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSettings {
    /// Name in requests.
    pub name: ModelName,
    /// Location of the source.
    pub location: Location,
    /// Form of the source.
    pub form: Form,
    /// Version to run.
    pub choice: Choice,
    /// Output with the predictions whose confidence is measured; `None` to recognise classifiers.
    pub confidence_output: Option<String>,
}

impl ModelSettings {
    /// Creates settings for the newest version of a model; `None` if the location has an invalid file name.
    #[must_use]
    pub fn new(name: ModelName, location: Location) -> Option<Self> {
        let form = location.form()?;
        Some(Self {
            name,
            location,
            form,
            choice: Choice::Newest,
            confidence_output: None,
        })
    }

    /// Describes the location and the choice of version. State of another origin must not be used.
    #[must_use]
    pub fn origin(&self) -> String {
        match &self.choice {
            Choice::Newest => self.location.to_string(),
            choice => format!("{}, {choice}", self.location),
        }
    }
}

const BUCKET_FORM: &str = "a bucket's name, or the ARN of an access point (arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME); \
                           use MODEL_URI for s3://BUCKET/KEY, and BUCKET for arn:aws:s3:::BUCKET";
const URI_FORM: &str = "s3://BUCKET/KEY or file:///PATH of a model (…/model.onnx), a manifest (…/manifest.json) or a \
                        repository (…/)";
const KEY_FORM: &str =
    "the key of a model (…/model.onnx), a manifest (…/manifest.json) or a repository (…/)";
const MODELS_FORM: &str =
    "NAME=s3://BUCKET/KEY or NAME=file:///PATH, several separated by commas, each NAME once";
const ONE_SOURCE: &str = "the models are not set, or set more than once: set exactly one of MODEL_URI, MODELS, or MODEL_BUCKET with MODEL_KEY";

/// Reads the models.
pub(super) fn read(reader: &mut VariableReader<'_>) -> Vec<ModelSettings> {
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
            if !is_bucket(bucket) {
                reader.wrong("MODEL_BUCKET", bucket, BUCKET_FORM);
                return Vec::new();
            }
            if location.form().is_none() || key.starts_with("s3://") || key.starts_with("arn:") {
                reader.wrong("MODEL_KEY", key, KEY_FORM);
                return Vec::new();
            }
            single(reader, named, location)
        }
        (None, Some(list), (None, None)) => {
            if let Some(name) = named {
                reader.wrong(
                    "MODEL_NAME",
                    name,
                    "no value together with MODELS, which names each model",
                );
            }
            several(reader, list)
        }
        _ => {
            reader.error(ONE_SOURCE);
            Vec::new()
        }
    }
}

fn single(
    reader: &mut VariableReader<'_>,
    named: Option<&str>,
    location: Location,
) -> Vec<ModelSettings> {
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
                reader.error("cannot derive the model's name from the key: set MODEL_NAME");
                return Vec::new();
            }
        },
    };
    ModelSettings::new(name, location).into_iter().collect()
}

fn several(reader: &mut VariableReader<'_>, list: &str) -> Vec<ModelSettings> {
    let mut models: Vec<ModelSettings> = Vec::new();
    for entry in list
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
    {
        let parsed = entry
            .split_once('=')
            .and_then(|(name, uri)| {
                let name = ModelName::parse(name.trim()).ok()?;
                ModelSettings::new(name, parse_uri(uri.trim())?)
            })
            .filter(|new| models.iter().all(|model| model.name != new.name));
        match parsed {
            Some(model) => models.push(model),
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
        let rest = uri.strip_prefix("s3://")?;
        // The ARN of an access point contains a slash.
        let is_access_point = rest.starts_with("arn:");
        let mut slashes = rest.match_indices('/').map(|(place, _)| place);
        let end = slashes.nth(usize::from(is_access_point))?;
        let (bucket, key) = (rest[..end].to_owned(), rest[end + 1..].to_owned());
        is_bucket(&bucket).then_some(Location::S3 { bucket, key })?
    };
    location.form().is_some().then_some(location)
}

/// Returns `true` for a possible bucket name, or the ARN of an access point. The length is left to S3, because other
/// implementations allow shorter names.
fn is_bucket(name: &str) -> bool {
    if let Some(arn) = name.strip_prefix("arn:") {
        // partition:service:region:account:resource. The ARN of a bucket has no account.
        let mut parts = arn.splitn(5, ':').skip(3);
        let has_account = parts.next().is_some_and(|account| !account.is_empty());
        let is_access_point = |it: &str| it.contains("accesspoint/") || it.contains("accesspoint:");
        return has_account && parts.next().is_some_and(is_access_point);
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    !name.is_empty() && name.chars().all(fits)
}

/// Derives the model's name: the file name without its extension. The folder's name is used if the file is called
/// `model` or `manifest`, or if the location is a folder.
fn derived_name(location: &Location) -> Option<ModelName> {
    let file = location.file_name();
    let mut parts = location.path().rsplit('/').skip(1);
    let stem = file.split_once('.').map_or(file, |(stem, _)| stem);
    let name = match parts.next() {
        Some(folder) if matches!(stem, "" | "model" | "manifest") && !folder.is_empty() => folder,
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
            ("s3://bucket/fraud/model.onnx.zst", "fraud"),
            ("s3://bucket/fraud/manifest.json", "fraud"),
            ("s3://bucket/repository/fraud/", "fraud"),
        ] {
            let location = parse_uri(uri).unwrap();
            assert_eq!(location.to_string(), uri);
            assert_eq!(derived_name(&location).unwrap().as_str(), name, "{uri}");
        }
    }

    #[test]
    fn an_access_point_is_accepted_as_a_bucket() {
        for arn in [
            "arn:aws:s3:eu-central-1:123456789012:accesspoint/models",
            "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint:models",
            "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap",
            "arn:aws:s3-object-lambda:us-east-1:123456789012:accesspoint/models",
            "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-1/accesspoint/models",
        ] {
            assert!(is_bucket(arn), "{arn}");
        }
        let arn = "arn:aws:s3:eu-central-1:123456789012:accesspoint/models";
        let location = parse_uri(&format!("s3://{arn}/wine/model.onnx")).unwrap();
        let (bucket, key) = (arn.to_owned(), "wine/model.onnx".to_owned());
        assert_eq!(location, Location::S3 { bucket, key });
        for bucket in [
            "arn:aws:s3:::models",
            "arn:aws-us-gov:s3:::models",
            "arn:aws:s3:::models/accesspoint/wine",
            "arn:aws:s3:::",
            "arn:",
            "s3://models",
            "models/wine",
            "https://models.s3.amazonaws.com",
            "mod els",
            "modèles",
            "",
        ] {
            assert!(!is_bucket(bucket), "{bucket}");
        }
    }

    #[test]
    fn invalid_locations_are_rejected() {
        for uri in [
            "",
            "s3://",
            "s3://bucket",
            "s3:///key",
            "s3://bucket/..",
            "s3://arn:aws:s3:::bucket/key",
            "s3://arn:aws:s3:::bucket",
            "s3://buck et/key",
            "s3://s3://bucket/key",
            "arn:aws:s3:::bucket/key",
            "http://host/key",
            "bucket/key",
            "file://",
            "file://relative/model.onnx",
        ] {
            assert_eq!(parse_uri(uri), None, "{uri}");
        }
    }

    #[test]
    fn the_form_follows_from_the_extension() {
        let path = |name| FilePath::parse(name).unwrap();
        for (uri, folder, form) in [
            (
                "s3://b/fraud/model.onnx",
                "fraud/",
                Form::Model(path("model.onnx")),
            ),
            ("s3://b/model.ort", "", Form::Model(path("model.ort"))),
            (
                "s3://b/fraud/Manifest.JSON",
                "fraud/",
                Form::Manifest(path("Manifest.JSON")),
            ),
            ("s3://b/", "", Form::Repository),
            ("file:///mnt/models/", "/mnt/models/", Form::Repository),
        ] {
            let location = parse_uri(uri).unwrap();
            assert_eq!(
                (location.folder(), location.form()),
                (folder, Some(form)),
                "{uri}"
            );
        }
    }
}
