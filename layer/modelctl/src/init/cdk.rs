//! AWS CDK: the construct, and an app with the answers.

use std::path::Path;

use anyhow::bail;

use super::folder::File;
use super::{Access, Answers, Architecture, Project, release_from};

const CONSTRUCT: &str = include_str!("../../../deploy/cdk/model-endpoint.ts");
/// Package of the construct's own tests, for the versions of the tools.
const PACKAGE: &str = include_str!("../../../deploy/cdk/package.json");
const TSCONFIG: &str = include_str!("../../../deploy/cdk/tsconfig.json");

/// Returns the files of a project in `folder`.
pub(super) fn project(folder: &Path, answers: &Answers) -> anyhow::Result<Project> {
    Ok(Project {
        files: vec![
            File::new("app.ts", app(folder, answers)?),
            File::new("model-endpoint.ts", CONSTRUCT),
            File::new("package.json", package()?),
            File::new("tsconfig.json", TSCONFIG.replace("test.ts", "app.ts")),
            File::new("cdk.json", "{ \"app\": \"npx tsc && node dist/app.js\" }\n"),
        ],
        // `bootstrap` changes nothing in an account and region that has been bootstrapped.
        deploy: format!(
            "(cd {} && npm install && npx cdk bootstrap && npx cdk deploy)",
            folder.display()
        ),
    })
}

/// Returns `app.ts`.
fn app(folder: &Path, answers: &Answers) -> anyhow::Result<String> {
    let mut imports = vec!["App", "CfnOutput", "Stack"];
    let mut props = vec![format!(
        "release: {}",
        string(&release_from(folder, answers)?)
    )];
    if answers.architecture == Architecture::Arm {
        imports.push("aws_lambda as lambda");
        props.push("architecture: lambda.Architecture.ARM_64".to_owned());
    }
    if let Some(model) = &answers.model {
        imports.push("aws_s3 as s3");
        let bucket = string(&model.bucket);
        props.push(format!(
            "bucket: s3.Bucket.fromBucketName(stack, \"Models\", {bucket})"
        ));
        props.push(format!("key: {}", string(&model.key)));
    }
    if let Some(memory) = answers.memory {
        props.push(format!("memorySize: {memory}"));
    }
    if let Some(timeout) = answers.timeout {
        imports.push("Duration");
        props.push(format!("timeout: Duration.seconds({timeout})"));
    }
    if matches!(answers.access, Some(Access::Api | Access::None)) {
        bail!(
            "cannot write --access api or none for the CDK: the construct has a function URL; use --access url"
        );
    }
    if let Some(metrics) = answers.metrics {
        let name = metrics.name();
        props.push(format!("environment: {{ MODEL_METRICS: \"{name}\" }}"));
    }
    for setting in &answers.further {
        let name = &setting.name;
        let value = &setting.value;
        let value = match declared().into_iter().find(|(known, _)| known == name) {
            _ if props.iter().any(|one| one.starts_with(&format!("{name}:"))) => {
                bail!(
                    "cannot set {name:?}: it has a value from another option; remove one of the two"
                )
            }
            Some((_, "string")) => string(value),
            Some((_, "number")) if value.parse::<u32>().is_ok() => value.clone(),
            Some((_, "boolean")) if matches!(value.as_str(), "true" | "false") => value.clone(),
            Some((_, kind)) => bail!("cannot set {name:?} to {value:?}: it is a {kind}"),
            None => {
                let known = declared();
                let known: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                bail!(
                    "cannot set {name:?}: the construct has no such property of a simple type; it has {}",
                    known.join(", ")
                )
            }
        };
        props.push(format!("{name}: {value}"));
    }
    imports.sort_unstable_by_key(|name| name.to_ascii_lowercase());
    let (imports, props) = (imports.join(", "), props.join(",\n  "));
    let name = string(&answers.name);
    Ok(format!(
        "import {{ {imports} }} from \"aws-cdk-lib\";\nimport {{ ModelEndpoint }} from \"./model-endpoint.js\";\n\n\
         const stack = new Stack(new App(), {name});\n\
         const endpoint = new ModelEndpoint(stack, \"Model\", {{\n  {props},\n}});\n\
         new CfnOutput(stack, \"Url\", {{ value: endpoint.url.url }});\n\
         new CfnOutput(stack, \"Alias\", {{ value: endpoint.alias.functionArn }});\n\
         new CfnOutput(stack, \"AlarmPrefix\", {{ value: endpoint.alarmPrefix }});\n"
    ))
}

/// Returns `package.json` with the versions of the construct's tests, without what only they need.
fn package() -> anyhow::Result<String> {
    let tests: serde_json::Value = serde_json::from_str(PACKAGE)?;
    let mut needed = serde_json::Map::new();
    for name in ["@types/node", "aws-cdk-lib", "constructs", "typescript"] {
        needed.insert(name.to_owned(), tests["devDependencies"][name].clone());
    }
    // The command-line tool has versions of its own; the newest works with every library.
    needed.insert("aws-cdk".to_owned(), "2".into());
    let package = serde_json::json!({"private": true, "type": "module", "dependencies": needed});
    Ok(serde_json::to_string_pretty(&package)? + "\n")
}

/// Returns the properties of simple types, with their types.
fn declared() -> Vec<(&'static str, &'static str)> {
    CONSTRUCT
        .lines()
        .filter_map(|line| {
            let (name, kind) = line.strip_prefix("  readonly ")?.split_once(": ")?;
            let kind = kind.strip_suffix(';')?;
            let is_simple = matches!(kind, "string" | "number" | "boolean");
            is_simple.then_some((name.trim_end_matches('?'), kind))
        })
        .collect()
}

/// Returns a string literal: JSON's are TypeScript's.
fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_properties_of_the_construct() {
        let declared = declared();
        for property in [
            ("release", "string"),
            ("key", "string"),
            ("memorySize", "number"),
            ("monitoring", "boolean"),
        ] {
            assert!(declared.contains(&property), "{property:?} of {declared:?}");
        }
        for property in ["architecture", "bucket", "timeout", "environment"] {
            assert!(
                CONSTRUCT.contains(&format!("  readonly {property}?: ")),
                "{property}"
            );
        }
    }
}
