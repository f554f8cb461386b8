//! Terraform: the module, and a `main.tf` with the answers.

use std::path::Path;

use anyhow::bail;

use super::folder::File;
use super::parameters::Parameters;
use super::{Access, Answers, Architecture, Project, release_from};

/// Names and contents of the module's files.
const MODULE: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/terraform.rs"));
/// Files that the module reads from the folder above its own.
const ABOVE: [(&str, &str); 2] = [
    (
        "dashboard.json",
        include_str!("../../../deploy/dashboard.json"),
    ),
    ("alarms.json", include_str!("../../../deploy/alarms.json")),
];
/// Folder for the module, and for the files above it.
const FOLDER: &str = "model-sidecar";

/// Returns the files of a project in `folder`.
pub(super) fn project(folder: &Path, answers: &Answers) -> anyhow::Result<Project> {
    let mut files = vec![File::new("main.tf", main(folder, answers)?)];
    let module = Path::new(FOLDER).join("terraform");
    for (name, content) in MODULE {
        files.push(File::new(module.join(name), *content));
    }
    for (name, content) in ABOVE {
        files.push(File::new(Path::new(FOLDER).join(name), content));
    }
    let folder = folder.display();
    Ok(Project {
        files,
        deploy: format!("terraform -chdir={folder} init && terraform -chdir={folder} apply"),
    })
}

/// Returns `main.tf`.
fn main(folder: &Path, answers: &Answers) -> anyhow::Result<String> {
    let mut parameters = Parameters::default();
    parameters.add("name", Some(&answers.name));
    parameters.add("release", Some(release_from(folder, answers)?));
    if answers.architecture != Architecture::X86 {
        parameters.add("architecture", Some(answers.architecture.name()));
    }
    parameters.add("model_uri", answers.model.as_ref());
    parameters.add("memory_size", answers.memory);
    parameters.add("timeout", answers.timeout);
    match answers.access {
        None => {}
        Some(Access::Url) => parameters.add("function_url", Some(true)),
        Some(Access::None) => parameters.add("function_url", Some(false)),
        Some(Access::Api) => bail!(
            "cannot write --access api for Terraform: the module has no HTTP API; use --access url, or --access none \
             and an API of your own"
        ),
    }
    parameters.add("metrics", answers.metrics.map(super::Metrics::name));
    parameters.add_further(&answers.further, &declared())?;
    // `terraform fmt` aligns the equals signs.
    let names = parameters.0.iter().map(|one| one.name.len());
    let width = names.chain(["source".len()]).max().unwrap_or_default();
    let line = |name: &str, value: &str| format!("  {name:<width$} = {value}\n");
    let mut text = String::from("module \"model\" {\n");
    text.push_str(&line("source", &format!("\"./{FOLDER}/terraform\"")));
    for one in &parameters.0 {
        text.push_str(&line(&one.name, &value(&one.value)));
    }
    text.push_str("}\n\noutput \"url\" {\n  value = module.model.url\n}\n\noutput \"alias_arn\" {\n  value = module.model.alias_arn\n}\n");
    Ok(text)
}

/// Returns a value of HCL: a number, `true` or `false`, or a string.
fn value(text: &str) -> String {
    let is_number = !text.is_empty() && text.chars().all(|digit| digit.is_ascii_digit());
    if is_number || matches!(text, "true" | "false") {
        return text.to_owned();
    }
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    // The beginnings of templates.
    let text = text.replace("${", "$${").replace("%{", "%%{");
    format!("\"{text}\"")
}

/// Returns the names of the module's variables.
fn declared() -> Vec<&'static str> {
    let lines = MODULE.iter().flat_map(|(_, text)| text.lines());
    lines
        .filter_map(|line| line.strip_prefix("variable \"")?.split_once('"'))
        .map(|(name, _)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_variables_of_the_module() {
        let declared = declared();
        for name in [
            "name",
            "release",
            "architecture",
            "model_uri",
            "memory_size",
            "timeout",
            "function_url",
            "metrics",
        ] {
            assert!(declared.contains(&name), "{name} of {declared:?}");
        }
    }

    #[test]
    fn values_are_quoted_for_hcl() {
        for (text, expected) in [
            ("1769", "1769"),
            ("false", "false"),
            ("a \"b\" ${c}", r#""a \"b\" $${c}""#),
        ] {
            assert_eq!(value(text), expected);
        }
    }
}
