//! `modelctl init`: the tested templates of `layer/deploy`, for a function of one's own.
//!
//! The templates are embedded in the program and are written unchanged, apart from architecture and paths. Answers
//! are parameters in a file of their own.

mod cdk;
mod folder;
mod parameters;
mod sam;
mod terraform;

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::console::Console;
use crate::s3::S3Uri;
use folder::{File, relative, write};
use parameters::Setting;

/// Write a template that deploys a function for a model
///
/// The template has the layer, the handler, an alias, a role and an endpoint. `make release` makes the layer and the
/// handler; a release has them as files.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  modelctl init --sam deploy --name fraud --model s3://models/fraud/manifest.json
  modelctl init --terraform infra --name fraud --model s3://models/fraud/manifest.json --memory 3008")]
pub(crate) struct Arguments {
    #[command(flatten)]
    tool: Tool,
    #[command(flatten)]
    answers: Answers,
    /// Overwrite files
    #[arg(long)]
    force: bool,
}

/// Tool that deploys.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Tool {
    /// Write an AWS SAM template and its configuration into this folder
    #[arg(long, value_name = "DIR")]
    sam: Option<PathBuf>,
    /// Write a Terraform configuration and its module into this folder
    #[arg(long, value_name = "DIR")]
    terraform: Option<PathBuf>,
    /// Write an AWS CDK app in TypeScript and its construct into this folder
    #[arg(long, value_name = "DIR")]
    cdk: Option<PathBuf>,
}

/// Answers, which become parameters.
#[derive(clap::Args)]
struct Answers {
    /// Name of the function, and of the stack
    #[arg(long, default_value = "model", value_parser = name)]
    name: String,
    /// Model, manifest, or repository that ends in `/` [default: a sample model]
    #[arg(long, value_name = "s3://BUCKET/KEY")]
    model: Option<S3Uri>,
    /// Memory in MB; 1,769 is one vCPU [default: the template's]
    #[arg(long, value_name = "MB")]
    memory: Option<u32>,
    /// Maximum time of an invocation, in seconds [default: the template's]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// Endpoint, which is called with IAM authorization [default: the template's]
    #[arg(long)]
    access: Option<Access>,
    /// Destination of the metrics [default: the template's]
    #[arg(long)]
    metrics: Option<Metrics>,
    /// Further parameter of the template, repeatable
    #[arg(long = "set", value_name = "NAME=VALUE")]
    further: Vec<Setting>,
    /// Architecture of the function
    #[arg(long, default_value = "x86_64")]
    architecture: Architecture,
    /// Folder with the zips of a release
    #[arg(long, value_name = "DIR", default_value = "dist/release")]
    release: PathBuf,
}

/// Endpoint of the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Access {
    /// Function URL
    Url,
    /// HTTP API
    Api,
    /// No endpoint
    None,
}

/// Destination of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Metrics {
    /// `PutMetricData`
    Cloudwatch,
    /// Log in Embedded Metric Format
    Emf,
    /// Nowhere
    None,
}

/// Architecture of the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Architecture {
    #[value(name = "x86_64")]
    X86,
    #[value(name = "arm64")]
    Arm,
}

/// Files of a tool, and the command that deploys them.
struct Project {
    files: Vec<File>,
    deploy: String,
}

/// Writes the files, and prints what to do next.
pub(crate) fn run(arguments: &Arguments, console: &Console) -> anyhow::Result<Value> {
    let Arguments {
        tool,
        answers,
        force,
    } = arguments;
    let (folder, project) = match (&tool.sam, &tool.terraform, &tool.cdk) {
        (Some(folder), _, _) => (folder, sam::project(folder, answers)?),
        (_, Some(folder), _) => (folder, terraform::project(folder, answers)?),
        (_, _, Some(folder)) => (folder, cdk::project(folder, answers)?),
        (None, None, None) => {
            bail!("cannot write a template: no tool is named; use --sam, --terraform or --cdk")
        }
    };
    let written = write(folder, &project.files, *force)?;
    for file in &written {
        console.line(format_args!("wrote {}", file.display()));
    }
    let next = next(answers, project.deploy);
    console.line("\nnext:");
    for command in &next {
        console.line(format_args!("  {command}"));
    }
    Ok(json!({"files": written, "next": next}))
}

/// Commands that deploy the function and publish the model.
fn next(answers: &Answers, deploy: String) -> Vec<String> {
    let mut next = Vec::new();
    let zip = |part: &str| {
        let name = format!("model-{part}-{}.zip", answers.architecture.name());
        answers.release.join(name)
    };
    if !(zip("sidecar").is_file() && zip("handler").is_file()) {
        next.push(format!("make release ARCH={}", answers.architecture.name()));
    }
    match &answers.model {
        Some(model) if is_json(&model.key) => {
            next.push(format!("modelctl publish model.onnx {model}"));
        }
        Some(model) if !model.key.ends_with('/') => {
            next.push(format!("aws s3 cp model.onnx {model}"));
        }
        _ => {}
    }
    next.push(deploy);
    next
}

fn is_json(key: &str) -> bool {
    let extension = Path::new(key).extension();
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

impl Architecture {
    fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "arm64",
        }
    }
}

impl Metrics {
    fn name(self) -> &'static str {
        match self {
            Self::Cloudwatch => "cloudwatch",
            Self::Emf => "emf",
            Self::None => "none",
        }
    }
}

/// Parses a name that is valid for a stack and a function.
fn name(text: &str) -> Result<String, String> {
    let is_valid = text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    if is_valid {
        Ok(text.to_owned())
    } else {
        Err("expected a letter, then up to 63 letters, digits and hyphens".to_owned())
    }
}

/// Returns the release's folder as seen from another folder, in characters that need no quotes in a template.
fn release_from(folder: &Path, answers: &Answers) -> anyhow::Result<String> {
    let path = relative(folder, &answers.release)?;
    let text = path.to_str().unwrap_or_default();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/+@".contains(letter);
    if text.is_empty() || !text.chars().all(is_plain) {
        bail!(
            "cannot use --release {}: seen from {} it is {:?}, and a template takes letters, digits and ._-/+@; move \
             one of the folders",
            answers.release.display(),
            folder.display(),
            path.display()
        );
    }
    Ok(text.to_owned())
}
