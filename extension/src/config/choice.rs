//! Which version of a model is to run: `MODEL_VERSION` and `MODEL_LABEL`.
//!
//! What a version is called depends on how the model is published, so both are held against the model's location: by
//! the name in a manifest, by the folder's number in a repository, by S3's version id for a plain object. Whether it is
//! there shows only when the source is asked.

use std::fmt;

use super::units::Reader;
use super::{Form, Location, ModelSettings};
use crate::ids::ModelName;
use crate::ids::VersionName;

const VERSION: &str = "MODEL_VERSION";
const LABEL: &str = "MODEL_LABEL";

/// Which version of a model is to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The newest, as its publisher has it.
    #[default]
    Newest,
    /// This one, whatever is published later: its name in a manifest, its folder's number in a repository, its version
    /// id in S3.
    Version(String),
    /// The one that a manifest calls so.
    Label(String),
}

impl fmt::Display for Choice {
    /// As it was set: `MODEL_VERSION="7"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Newest => f.write_str("the newest version"),
            Choice::Version(version) => write!(f, "{VERSION}={version:?}"),
            Choice::Label(label) => write!(f, "{LABEL}={label:?}"),
        }
    }
}

/// Gives each model its choice, or notes what is wrong.
pub(super) fn read(reader: &mut Reader<'_>, models: &mut [ModelSettings]) {
    // What is allowed depends on the models, and what is wrong with those is said already.
    if models.is_empty() {
        return;
    }
    for (name, value) in values(reader, VERSION, models) {
        let Some(model) = models.iter_mut().find(|model| model.name == name) else {
            continue;
        };
        match version(model, &value) {
            Ok(()) => model.choice = Choice::Version(value),
            Err(allowed) => reader.wrong(VERSION, &value, &allowed),
        }
    }
    for (name, value) in values(reader, LABEL, models) {
        let Some(model) = models.iter_mut().find(|model| model.name == name) else {
            continue;
        };
        match label(model, &value) {
            Ok(()) => model.choice = Choice::Label(value),
            Err(allowed) => reader.wrong(LABEL, &value, &allowed),
        }
    }
}

/// What the variable says of each model that it says something of.
fn values(
    reader: &mut Reader<'_>,
    variable: &str,
    models: &[ModelSettings],
) -> Vec<(ModelName, String)> {
    let Some(text) = reader.text(variable) else {
        return Vec::new();
    };
    if reader.text("MODELS").is_none() {
        let name = models[0].name.clone();
        return vec![(name, text.trim().to_owned())];
    }
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    let allowed = format!(
        "NAME=VALUE for some of the models, several separated by commas, each NAME once; the models are {}",
        names.join(", ")
    );
    let mut values: Vec<(ModelName, String)> = Vec::new();
    let entries = text.split(',').map(str::trim);
    for entry in entries.filter(|entry| !entry.is_empty()) {
        let parsed = entry.split_once('=').and_then(|(name, value)| {
            let model = models
                .iter()
                .find(|model| model.name.as_str() == name.trim())?;
            let is_new = values.iter().all(|(known, _)| *known != model.name);
            is_new.then(|| (model.name.clone(), value.trim().to_owned()))
        });
        match parsed {
            Some(value) => values.push(value),
            None => reader.wrong(variable, entry, &allowed),
        }
    }
    values
}

/// Whether a version of this model may be called so, or what is allowed.
fn version(model: &ModelSettings, value: &str) -> Result<(), String> {
    match (&model.form, &model.location) {
        (Form::Manifest(_), _) => VersionName::parse(value)
            .map(drop)
            .map_err(|allowed| format!("the name of one of the manifest's versions: {allowed}")),
        (Form::Repository, _) => match value.parse::<u64>() {
            Ok(number) if number > 0 && number.to_string() == value => Ok(()),
            _ => Err("the number of one of the model's folders, such as 7".to_owned()),
        },
        (Form::Model(_), Location::S3 { .. }) => {
            let fits = |c: char| !c.is_whitespace() && !c.is_control();
            if (1..=1024).contains(&value.len()) && value.chars().all(fits) && value != "null" {
                return Ok(());
            }
            Err(
                "an S3 version id of the object: 1 to 1024 bytes without blanks, and not null, which is the id of \
                 whatever the bucket holds without one"
                    .to_owned(),
            )
        }
        (Form::Model(_), Location::File { .. }) => Err(
            "nothing for a file, which has no versions; a manifest (…/manifest.json) or a repository (…/) has"
                .to_owned(),
        ),
    }
}

/// Whether a version of this model may have this label, or what is allowed.
fn label(model: &ModelSettings, value: &str) -> Result<(), String> {
    if model.choice != Choice::Newest {
        return Err(format!(
            "nothing beside {} for the same model",
            model.choice
        ));
    }
    match &model.form {
        Form::Manifest(_) => VersionName::parse(value)
            .map(drop)
            .map_err(|allowed| format!("one of the manifest's labels: {allowed}")),
        _ => Err("nothing but for a manifest (…/manifest.json), which alone has labels".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Environment};
    use super::*;

    fn choices(variables: &[(&str, &str)]) -> Result<Vec<Choice>, String> {
        let environment = Environment::of(variables.iter().copied());
        let config = Config::read(&environment).map_err(|error| error.to_string())?;
        let models = config.models.into_iter();
        Ok(models.map(|model| model.choice).collect())
    }

    fn version(version: &str) -> Choice {
        Choice::Version(version.to_owned())
    }

    #[test]
    fn one_model_has_its_choice_without_a_name() {
        let manifest = ("MODEL_URI", "s3://m/fraud/manifest.json");
        assert_eq!(choices(&[manifest]).unwrap(), [Choice::Newest]);
        let pinned = choices(&[manifest, ("MODEL_VERSION", "2025-06.1")]);
        assert_eq!(pinned.unwrap(), [version("2025-06.1")]);
        let labelled = choices(&[manifest, ("MODEL_LABEL", "stable")]);
        assert_eq!(labelled.unwrap(), [Choice::Label("stable".to_owned())]);
        let folder = choices(&[
            ("MODEL_URI", "file:///mnt/r/fraud/"),
            ("MODEL_VERSION", "7"),
        ]);
        assert_eq!(folder.unwrap(), [version("7")]);
        let id = "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY=";
        let object = choices(&[("MODEL_URI", "s3://m/f.onnx"), ("MODEL_VERSION", id)]);
        assert_eq!(object.unwrap(), [version(id)]);
    }

    #[test]
    fn several_models_have_theirs_by_name() {
        let models =
            "fraud=s3://m/fraud/manifest.json,churn=s3://m/churn/,up=s3://m/up/manifest.json";
        let read = choices(&[
            ("MODELS", models),
            ("MODEL_VERSION", "churn=3, fraud=7"),
            ("MODEL_LABEL", "up=stable"),
        ]);
        let label = Choice::Label("stable".to_owned());
        assert_eq!(read.unwrap(), [version("7"), version("3"), label]);
    }

    #[test]
    fn what_cannot_be_is_named_with_what_is_allowed() {
        let manifest = ("MODEL_URI", "s3://m/fraud/manifest.json");
        let models = (
            "MODELS",
            "fraud=s3://m/fraud/manifest.json,churn=s3://m/churn/",
        );
        for (variables, words) in [
            (
                &[manifest, ("MODEL_VERSION", "a b")][..],
                "MODEL_VERSION=\"a b\" is not allowed: expected the name of one of the manifest's versions: 1 to 64",
            ),
            (
                &[manifest, ("MODEL_LABEL", ".x")],
                "MODEL_LABEL=\".x\" is not allowed: expected one of the manifest's labels: 1 to 64",
            ),
            (
                &[manifest, ("MODEL_VERSION", "7"), ("MODEL_LABEL", "stable")],
                "MODEL_LABEL=\"stable\" is not allowed: expected nothing beside MODEL_VERSION=\"7\" for the same model",
            ),
            (
                &[("MODEL_URI", "s3://m/fraud/"), ("MODEL_VERSION", "07")],
                "MODEL_VERSION=\"07\" is not allowed: expected the number of one of the model's folders",
            ),
            (
                &[("MODEL_URI", "s3://m/fraud/"), ("MODEL_LABEL", "stable")],
                "MODEL_LABEL=\"stable\" is not allowed: expected nothing but for a manifest",
            ),
            (
                &[("MODEL_URI", "s3://m/f.onnx"), ("MODEL_VERSION", "null")],
                "MODEL_VERSION=\"null\" is not allowed: expected an S3 version id",
            ),
            (
                &[("MODEL_URI", "file:///m/f.onnx"), ("MODEL_VERSION", "7")],
                "MODEL_VERSION=\"7\" is not allowed: expected nothing for a file, which has no versions",
            ),
            (
                &[models, ("MODEL_VERSION", "7")],
                "MODEL_VERSION=\"7\" is not allowed: expected NAME=VALUE for some of the models",
            ),
            (
                &[models, ("MODEL_VERSION", "fraud=7,fraud=8")],
                "MODEL_VERSION=\"fraud=8\" is not allowed: expected NAME=VALUE",
            ),
            (
                &[models, ("MODEL_LABEL", "chrn=stable")],
                "the models are fraud, churn",
            ),
            (
                &[models, ("MODEL_LABEL", "churn=stable")],
                "MODEL_LABEL=\"stable\" is not allowed: expected nothing but for a manifest",
            ),
        ] {
            let error = choices(variables).unwrap_err();
            assert!(error.contains(words), "{error}\nand not\n{words}");
        }
    }
}
