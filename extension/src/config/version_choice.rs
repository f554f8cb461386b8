//! Choice of a model's version: `MODEL_VERSION` and `MODEL_LABEL`.
//!
//! The form of a version's name depends on the publication of the model. In a manifest it is a name, in a repository
//! the number of a folder, and for a plain object a version ID of S3. Both variables are therefore checked against the
//! model's location. Whether the version exists is known only after the first version check.

use super::models::{Form, Location, ModelSettings};
use super::units::VariableReader;
use crate::ids::{ModelName, VersionName};
use crate::manifest::Choice;

const VERSION: &str = Choice::VERSION_VARIABLE;
const LABEL: &str = Choice::LABEL_VARIABLE;

/// Sets each model's choice, and collects errors.
pub(super) fn read(reader: &mut VariableReader<'_>, models: &mut [ModelSettings]) {
    // The allowed values depend on the models, whose errors are collected already.
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

/// Values of `variable` by model.
pub(super) fn values(
    reader: &mut VariableReader<'_>,
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

/// Checks the name of a version of this model. The error names the allowed values.
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
                "an S3 version ID of the object: 1 to 1024 bytes without blanks, and not null, the ID of an \
                 object stored without versioning"
                    .to_owned(),
            )
        }
        (Form::Model(_), Location::File { .. }) => Err(
            "no value for a file, which has no versions; use a manifest (…/manifest.json) or a repository (…/)"
                .to_owned(),
        ),
    }
}

/// Checks a label of a version of this model. The error names the allowed values.
fn label(model: &ModelSettings, value: &str) -> Result<(), String> {
    if model.choice != Choice::Newest {
        return Err(format!(
            "no value together with {} for the same model",
            model.choice
        ));
    }
    match &model.form {
        Form::Manifest(_) => VersionName::parse(value)
            .map(drop)
            .map_err(|allowed| format!("one of the manifest's labels: {allowed}")),
        _ => Err(
            "no value without a manifest (…/manifest.json), which defines the labels".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

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
    fn single_model_needs_no_name() {
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
    fn several_models_are_set_by_name() {
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
    fn errors_name_the_value_and_what_is_allowed() {
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
                "MODEL_LABEL=\"stable\" is not allowed: expected no value together with MODEL_VERSION=\"7\" for the same model",
            ),
            (
                &[("MODEL_URI", "s3://m/fraud/"), ("MODEL_VERSION", "07")],
                "MODEL_VERSION=\"07\" is not allowed: expected the number of one of the model's folders",
            ),
            (
                &[("MODEL_URI", "s3://m/fraud/"), ("MODEL_LABEL", "stable")],
                "MODEL_LABEL=\"stable\" is not allowed: expected no value without a manifest",
            ),
            (
                &[("MODEL_URI", "s3://m/f.onnx"), ("MODEL_VERSION", "null")],
                "MODEL_VERSION=\"null\" is not allowed: expected an S3 version ID",
            ),
            (
                &[("MODEL_URI", "file:///m/f.onnx"), ("MODEL_VERSION", "7")],
                "MODEL_VERSION=\"7\" is not allowed: expected no value for a file, which has no versions",
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
                "MODEL_LABEL=\"stable\" is not allowed: expected no value without a manifest",
            ),
        ] {
            let error = choices(variables).unwrap_err();
            assert!(error.contains(words), "{error}\nand not\n{words}");
        }
    }
}
