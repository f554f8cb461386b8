//! After any sequence of commands, the manifest is valid, and every object that it names is there.

use std::cell::Cell;

use lab::s3::S3Server;
use model_sidecar::manifest::Manifest;
use modelctl::Context;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;

use crate::support::{command_line, with_data};

const URI: &str = "s3://models/fraud/manifest.json";

/// A command; numbers select models, versions and labels that may not exist.
#[derive(Clone, Debug)]
enum Step {
    Publish {
        model: usize,
        version: Option<u8>,
        place: u8,
    },
    Edit(Vec<String>),
    Prune {
        days: u8,
        keep: Option<u8>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let version = || 1..5_u8;
    let edit = |arguments: &[&str]| {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        Step::Edit(arguments.collect())
    };
    prop_oneof![
        4 => (0..4_usize, prop::option::of(version()), 0..4_u8)
            .prop_map(|(model, version, place)| Step::Publish { model, version, place }),
        1 => version().prop_map(move |v| edit(&["promote", URI, "--version", &v.to_string()])),
        1 => Just(edit(&["promote", URI])),
        1 => Just(edit(&["rollback", URI])),
        1 => version().prop_map(move |v| edit(&["rollback", URI, "--to", &v.to_string()])),
        1 => (version(), 0..=100_u8).prop_map(move |(v, percent)| {
            edit(&["canary", URI, &percent.to_string(), "--version", &v.to_string()])
        }),
        1 => Just(edit(&["canary", URI, "--end"])),
        1 => version().prop_map(move |v| edit(&["label", URI, &format!("beta={v}")])),
        1 => Just(edit(&["label", URI, "beta", "--remove"])),
        2 => (0..2_u8, prop::option::of(version())).prop_map(|(days, keep)| Step::Prune { days, keep }),
    ]
}

impl Step {
    fn arguments(&self, models: &[(TempDir, String)]) -> Vec<String> {
        let (mut arguments, options) = match self {
            Step::Edit(arguments) => return arguments.clone(),
            Step::Publish {
                model,
                version,
                place,
            } => {
                let place = ["", "--canary=5", "--label=beta", "--previous"][usize::from(*place)];
                let version = version.map(|version| format!("--version={version}"));
                let model = models[*model].1.as_str();
                let publish = vec!["publish", model, URI, "--no-load"];
                (publish, [version.unwrap_or_default(), place.to_owned()])
            }
            Step::Prune { days, keep } => {
                let keep = keep.map(|keep| format!("--keep={keep}"));
                let prune = vec!["prune", URI, "--apply"];
                (prune, [keep.unwrap_or_default(), format!("--days={days}")])
            }
        };
        let options = options.iter().filter(|option| !option.is_empty());
        arguments.extend(options.map(String::as_str));
        arguments.into_iter().map(str::to_owned).collect()
    }
}

/// Checks the manifest, if there is one; returns the number of objects that it names.
fn check(s3: &S3Server) -> usize {
    let Some(manifest) = s3.get("models", "fraud/manifest.json") else {
        return 0;
    };
    let manifest = Manifest::parse(&manifest.bytes).unwrap();
    let mut count = 0;
    for (name, version) in manifest.versions() {
        for file in &version.files {
            let key = format!("fraud/{}", version.path_of(file));
            let object = s3.get("models", &key);
            let object = object.unwrap_or_else(|| panic!("{key} of version {name} is missing"));
            assert_eq!(object.bytes.len() as u64, file.size, "{key}");
            count += 1;
        }
    }
    count
}

#[test]
fn any_sequence_of_commands_keeps_the_manifest_valid_and_its_objects_present() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let models: Vec<_> = (0..4).map(|seed| with_data(seed, 100)).collect();
    let config = Config {
        cases: 16,
        failure_persistence: None,
        ..Config::default()
    };
    let sequences = (prop::collection::vec(step(), 1..14), any::<bool>());
    let [named, succeeded, ran] = [const { Cell::new(0) }; 3];
    let result = TestRunner::new(config).run(&sequences, |(steps, versioned)| {
        runtime.block_on(async {
            let s3 = S3Server::start().await.unwrap();
            s3.keep_versions("models", versioned);
            let context = Context::silent(s3.client());
            // Most commands need a manifest.
            let first = Step::Publish {
                model: 0,
                version: None,
                place: 0,
            };
            for step in [first].into_iter().chain(steps) {
                let arguments = step.arguments(&models);
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let code = modelctl::run(command_line(&arguments), &context).await;
                // Done, or rejected; no step fails for another reason.
                assert!(matches!(code, 0 | 3), "{step:?}: {code}");
                named.set(named.get() + check(&s3));
                succeeded.set(succeeded.get() + usize::from(code == 0));
                ran.set(ran.get() + 1);
            }
        });
        Ok(())
    });
    result.unwrap();
    // The sequences do something.
    let (named, succeeded, ran) = (named.get(), succeeded.get(), ran.get());
    assert!(
        named > ran && succeeded * 4 > ran,
        "{named} {succeeded} {ran}"
    );
}
