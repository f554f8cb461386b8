//! `modelctl diff`: two versions of a model side by side.

use std::collections::BTreeMap;

use anyhow::Context as _;
use model_sidecar::engine::{Cancel, Engine as _, Session};
use model_sidecar::manifest::Golden;
use model_sidecar::protocol::v2;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::compare::compare;
use crate::console::{Colour, Console};
use crate::content;
use crate::context::Context;
use crate::failure::rejected;
use crate::list::table;
use crate::publish::{LocalModel, signature_json};
use crate::published::Published;
use crate::s3::S3Uri;
use crate::{library, units};

/// Compare two models or published versions: signatures, sizes, results on golden examples
#[derive(clap::Args)]
#[command(after_help = "Example:
  modelctl diff s3://models/fraud/manifest.json@6 new.onnx")]
pub(crate) struct Arguments {
    /// A model's file, `s3://BUCKET/…/model.onnx`, or a version: `s3://BUCKET/…/manifest.json@VERSION`
    a: String,
    /// The other one
    b: String,
    #[command(flatten)]
    library: library::Library,
}

/// One side of the comparison.
struct Side {
    model: LocalModel,
    golden: Vec<Golden>,
    /// Folder of a version that was downloaded.
    _folder: Option<TempDir>,
}

/// Compares the models.
pub(crate) async fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Value> {
    let a = Side::open(&arguments.a, context, console).await?;
    let b = Side::open(&arguments.b, context, console).await?;
    let engine = context.engine(&arguments.library.find()?)?;
    let load = |side: &Side| {
        let file = &side.model.file;
        let session = engine.load(file, None);
        session.with_context(|| format!("cannot load {}", file.display()))
    };
    let (session_a, session_b) = (load(&a)?, load(&b)?);
    let digest = |side: &Side| side.model.files[0].1.digest();
    let rows = [
        [
            "size".to_owned(),
            units::bytes(a.model.size()),
            units::bytes(b.model.size()),
        ],
        [
            "files".to_owned(),
            a.model.files.len().to_string(),
            b.model.files.len().to_string(),
        ],
        [
            "sha256".to_owned(),
            digest(&a)[..12].to_owned(),
            digest(&b)[..12].to_owned(),
        ],
    ];
    table(["", &arguments.a, &arguments.b], &rows, console);
    let signatures = [&session_a, &session_b].map(|session| session.signature().published());
    show_ports(&signatures, console);
    let compatible = signatures[1].serves_callers_of(&signatures[0]);
    match &compatible {
        Ok(()) => console.line("callers of the first are served by the second"),
        Err(problem) => console.line(format_args!(
            "callers of the first are NOT served by the second: {problem}"
        )),
    }
    let examples: Vec<&Golden> = a.golden.iter().chain(&b.golden).collect();
    let outputs = outputs(&*session_a, &*session_b, &examples);
    if examples.is_empty() {
        console.line("no golden examples: outputs were not compared");
    }
    for (name, difference) in &outputs {
        match difference {
            Ok(difference) => console.line(format_args!(
                "output {name}: the largest difference on {} examples is {difference:.1e}",
                examples.len()
            )),
            Err(reason) => console.line(format_args!("output {name}: {reason}")),
        }
    }
    Ok(json!({
        "bytes": [a.model.size(), b.model.size()],
        "sha256": [digest(&a), digest(&b)],
        "signatures": signatures.each_ref().map(signature_json),
        "compatible": compatible.map_err(|problem| problem.to_string()).err(),
        "examples": examples.len(),
        "differences": outputs
            .into_iter()
            .map(|(name, difference)| (name, difference.map_or_else(|reason| json!(reason), |difference| json!(difference))))
            .collect::<serde_json::Map<_, _>>(),
    }))
}

impl Side {
    async fn open(text: &str, context: &Context, console: &Console) -> anyhow::Result<Self> {
        let published = text
            .rsplit_once('@')
            .filter(|(uri, _)| uri.starts_with("s3://"));
        let Some((uri, version)) = published else {
            return Ok(Self {
                model: LocalModel::open(text, u64::MAX, context, console).await?,
                golden: Vec::new(),
                _folder: None,
            });
        };
        let uri: S3Uri = uri.parse().map_err(anyhow::Error::msg)?;
        let published = Published::read(&uri, context).await?;
        let document = &published.existing()?.document;
        document.require(version)?;
        let manifest = document.manifest()?;
        let (_, version) = manifest.version(version)?;
        let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
        for file in &version.files {
            let local = folder.path().join(file.laid_out().as_str());
            let key = published.key_of(version.path_of(file).as_str());
            let failed = || format!("cannot download {}", published.bucket.uri(&key));
            std::fs::create_dir_all(local.parent().unwrap_or(folder.path()))
                .with_context(failed)?;
            let mut sink = std::fs::File::create(&local).with_context(failed)?;
            let progress = console.progress("downloading", file.size);
            let problem = content::read(&published, &key, file, &mut sink, &progress).await?;
            progress.finish_and_clear();
            if let Some(problem) = problem {
                return Err(rejected(problem)).with_context(failed);
            }
        }
        let model = folder.path().join(version.model.laid_out().as_str());
        let model = model.to_str().context("cannot use the temporary folder")?;
        Ok(Self {
            model: LocalModel::open(model, u64::MAX, context, console).await?,
            golden: version.golden.clone(),
            _folder: Some(folder),
        })
    }
}

/// Largest difference of each output on the examples' inputs, or the reason why it cannot be
/// compared.
fn outputs(
    a: &dyn Session,
    b: &dyn Session,
    examples: &[&Golden],
) -> BTreeMap<String, Result<f64, String>> {
    let mut differences: BTreeMap<String, Result<f64, String>> = BTreeMap::new();
    for example in examples {
        let run = |session: &dyn Session| {
            let inputs = v2::golden_inputs(&example.inputs, session.signature());
            let inputs = inputs.map_err(|error| error.to_string())?;
            let outputs = session.run(&inputs, &[], &Cancel::default());
            outputs.map_err(|error| error.to_string())
        };
        let (ours, theirs) = match (run(a), run(b)) {
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            (Err(reason), _) | (_, Err(reason)) => {
                differences.insert("(all)".to_owned(), Err(reason));
                continue;
            }
        };
        for (name, ours) in ours {
            let theirs = theirs.iter().find(|(other, _)| *other == name);
            let found = match theirs {
                Some((_, theirs)) => {
                    compare(&ours, theirs, None).map(|difference| difference.absolute)
                }
                None => Err("only the first has it".to_owned()),
            };
            let so_far = differences.remove(&name);
            let most = match (so_far, found) {
                (Some(Err(reason)), _) | (_, Err(reason)) => Err(reason),
                (Some(Ok(before)), Ok(found)) => Ok(before.max(found)),
                (None, Ok(found)) => Ok(found),
            };
            differences.insert(name, most);
        }
    }
    differences
}

/// Prints the ports that only one of the signatures has, or that differ.
fn show_ports(signatures: &[model_sidecar::tensor::Signature; 2], console: &Console) {
    let lines = |signature: &model_sidecar::tensor::Signature| -> Vec<String> {
        let inputs = signature.inputs.iter();
        let inputs = inputs.map(|port| format!("input {} {}", port.name, port.kind));
        let outputs = signature.outputs.iter();
        let outputs = outputs.map(|port| format!("output {} {}", port.name, port.kind));
        inputs.chain(outputs).collect()
    };
    let [before, after] = signatures.each_ref().map(lines);
    for line in before.iter().filter(|line| !after.contains(line)) {
        console.coloured(Colour::Red, &format!("- {line}"));
    }
    for line in after.iter().filter(|line| !before.contains(line)) {
        console.coloured(Colour::Green, &format!("+ {line}"));
    }
    if before == after {
        console.line("the inputs and outputs are equal");
    }
}
