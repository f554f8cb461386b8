//! AWS SAM: the template, and `samconfig.toml` with the answers, which `sam deploy` reads.

use std::path::Path;

use super::folder::File;
use super::parameters::Parameters;
use super::{Access, Answers, Project, release_from};
use crate::s3::S3Uri;

const TEMPLATE: &str = include_str!("../../../deploy/template.yaml");
/// Template that the other one nests.
const MONITORING: (&str, &str) = (
    "monitoring.template.json",
    include_str!("../../../deploy/monitoring.template.json"),
);
/// Folder of the release in the template.
const RELEASE: &str = "../../dist/release/";

/// Returns the files of a project in `folder`.
pub(super) fn project(folder: &Path, answers: &Answers) -> anyhow::Result<Project> {
    let release = release_from(folder, answers)?;
    let template = TEMPLATE
        .replace(RELEASE, &format!("{release}/"))
        .replace("x86_64", answers.architecture.name());
    Ok(Project {
        files: vec![
            File::new("template.yaml", template),
            File::new("samconfig.toml", configuration(answers)?),
            File::new(MONITORING.0, MONITORING.1),
        ],
        deploy: format!("(cd {} && sam deploy)", folder.display()),
    })
}

/// Returns `samconfig.toml`.
fn configuration(answers: &Answers) -> anyhow::Result<String> {
    let mut parameters = Parameters::default();
    if let Some(model) = &answers.model {
        let (prefix, key) = split(model);
        parameters.add("Bucket", Some(&model.bucket));
        parameters.add("Prefix", Some(prefix));
        parameters.add("ModelKey", Some(key));
    }
    parameters.add("MemorySize", answers.memory);
    parameters.add("Timeout", answers.timeout);
    parameters.add("Access", answers.access.map(access));
    parameters.add("Metrics", answers.metrics.map(super::Metrics::name));
    parameters.add_further(&answers.further, &declared())?;
    let overrides = parameters.0.iter().map(|one| {
        let value = one.value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{}=\"{value}\"", one.name)
    });
    let overrides = overrides.collect::<Vec<_>>().join(" ");
    let overrides = if overrides.is_empty() {
        String::new()
    } else {
        format!("parameter_overrides = {}\n", string(&overrides))
    };
    Ok(format!(
        "version = 0.1\n\n[default.deploy.parameters]\nstack_name = {}\nresolve_s3 = true\ncapabilities = \
         \"CAPABILITY_IAM CAPABILITY_AUTO_EXPAND\"\n{overrides}",
        string(&answers.name)
    ))
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Url => "url",
        Access::Api => "api",
        Access::None => "none",
    }
}

/// Returns the folder of a key, and its last part, which may be a folder itself.
fn split(model: &S3Uri) -> (&str, &str) {
    let key = model.key.as_str();
    let end = key.trim_end_matches('/').len();
    let start = key[..end].rfind('/').map_or(0, |slash| slash + 1);
    key.split_at(start)
}

/// Returns the names of the template's parameters.
fn declared() -> Vec<&'static str> {
    TEMPLATE
        .lines()
        .skip_while(|line| *line != "Parameters:")
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with(' '))
        .filter_map(|line| line.strip_prefix("  ")?.split_once(':'))
        .map(|(name, _)| name)
        .filter(|name| name.chars().all(char::is_alphanumeric))
        .collect()
}

/// Returns a basic string of TOML.
fn string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_split_at_its_last_folder() {
        for (uri, prefix, key) in [
            ("s3://b/fraud/manifest.json", "fraud/", "manifest.json"),
            ("s3://b/a/b/repository/", "a/b/", "repository/"),
            ("s3://b/model.onnx", "", "model.onnx"),
            ("s3://b/repository/", "", "repository/"),
        ] {
            let uri: S3Uri = uri.parse().expect(uri);
            assert_eq!(split(&uri), (prefix, key), "{uri}");
        }
    }

    #[test]
    fn the_options_are_parameters_of_the_template() {
        let declared = declared();
        for name in [
            "Bucket",
            "Prefix",
            "ModelKey",
            "MemorySize",
            "Timeout",
            "Access",
            "Metrics",
        ] {
            assert!(declared.contains(&name), "{name} of {declared:?}");
        }
        assert!(TEMPLATE.contains(RELEASE) && TEMPLATE.contains(MONITORING.0));
    }
}
