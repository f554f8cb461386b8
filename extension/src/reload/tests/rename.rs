//! The same content under another name, and labels that move.

use serde_json::{Value as Json, json};

use super::gate::{example, row};
use super::published::{MANIFEST, Versions, manifest, publish, upload};
use super::*;

const CONTENT: &[u8] = b"model one";
const TWINS: Versions<'static> = &[
    ("2026-11-a", &[("model.onnx", CONTENT)]),
    ("8", &[("model.onnx", CONTENT)]),
];

/// A manifest whose current version is this one of the twins, with these golden examples of it and these labels.
fn with(current: &str, golden: &[Json], labels: &Json) -> &'static [u8] {
    let mut manifest: Json = serde_json::from_slice(manifest(current, None, TWINS)).unwrap();
    manifest["versions"][current]["golden"] = golden.into();
    manifest["version_labels"] = labels.clone();
    manifest.to_string().into_bytes().leak()
}

fn bench() -> Bench {
    let bench = Bench::at(MANIFEST);
    upload(&bench, TWINS);
    bench
}

impl Bench {
    pub(super) fn loads(&self) -> usize {
        self.seen.lock().unwrap().loaded.len()
    }

    fn labelled(&self, reloader: &Reloader, label: &str) -> Option<String> {
        let active = reloader.shared.models.current(&self.name).unwrap();
        active.labels.version(label).map(ToString::to_string)
    }
}

#[tokio::test]
async fn a_manifest_renames_its_content_without_a_load_or_a_run() {
    let bench = bench();
    let golden = [example("x", &[1.0, 2.0])];
    publish(&bench, "a", with("2026-11-a", &golden, &json!({})));
    let reloader = bench.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.named(&reloader).as_deref(), Some("2026-11-a"));
    let active = reloader.shared.models.current(&bench.name).unwrap();
    bench.runs();

    publish(&bench, "b", with("8", &golden, &json!({})));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(bench.named(&reloader).as_deref(), Some("8"));
    let status = reloader.shared.status.get(&bench.name).unwrap();
    assert_eq!(status.version.unwrap().as_str(), "8");
    assert_eq!((bench.loads(), bench.runs().len()), (1, 0));
    // A request that began before has the former name, and the same load in statistics and rollback.
    let renamed = reloader.shared.models.current(&bench.name).unwrap();
    assert_eq!(active.version.as_str(), "2026-11-a");
    assert_eq!(
        (&active.digest, active.loaded_at),
        (&renamed.digest, renamed.loaded_at)
    );
    // What is remembered is the new name.
    assert_eq!(reloader.check().await, Outcome::Current);
    bench.shelf.holds(MANIFEST, Err("no route to S3"));
    let again = bench.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.named(&again).as_deref(), Some("8"));
    // A start warms up, as it would under the former name.
    assert_eq!(bench.runs().len(), 1);
}

#[tokio::test]
async fn a_start_that_meets_the_new_name_first_only_warms_up() {
    let bench = bench();
    let golden = [example("x", &[1.0, 2.0]), example("x", &[3.0, 4.0])];
    publish(&bench, "a", with("2026-11-a", &golden, &json!({})));
    bench.start().check().await;
    assert_eq!(bench.runs().len(), 2);
    publish(&bench, "b", with("8", &golden, &json!({})));
    let again = bench.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.named(&again).as_deref(), Some("8"));
    assert_eq!(bench.runs().len(), 1);
}

#[tokio::test]
async fn with_other_acceptance_criteria_the_content_is_held_against_them_first() {
    let bench = bench();
    let meets = example("x", &[1.0, 2.0]);
    publish(&bench, "a", with("2026-11-a", &[], &json!({})));
    let reloader = bench.start();
    reloader.check().await;
    let mut fails = meets.clone();
    fails["outputs"][0]["data"] = json!([9]);
    publish(&bench, "b", with("8", &[fails], &json!({})));
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(bench.named(&reloader).as_deref(), Some("2026-11-a"));
    let problem = bench.problem(&reloader).unwrap();
    assert!(problem.contains("golden[0] is not met"), "{problem}");
    assert_eq!(bench.runs().len(), 1);
    // Said once, not tried again, and no reason against the content under its former name.
    assert_eq!(reloader.check().await, Outcome::Current);
    assert!(bench.problem(&reloader).is_some());
    let again = bench.start();
    again.check().await;
    assert_eq!(bench.named(&again).as_deref(), Some("2026-11-a"));
    assert!(bench.runs().is_empty());

    publish(&bench, "c", with("8", &[meets], &json!({})));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(bench.named(&reloader).as_deref(), Some("8"));
    assert_eq!(bench.problem(&reloader), None);
    assert_eq!(bench.runs()[0].inputs, row([1.0, 2.0]));
    assert_eq!(bench.loads(), 2, "one for each start");
}

#[tokio::test]
async fn a_folder_with_the_bytes_of_another_renames_and_one_that_is_overwritten_reloads() {
    let bench = Bench::at("models/");
    let holds = |path: &str, held| bench.shelf.holds(path, held);
    holds("wine/7/model.onnx", Ok(("1", CONTENT)));
    let reloader = bench.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.named(&reloader).as_deref(), Some("7"));
    holds("wine/8/model.onnx", Ok(("1", CONTENT)));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(bench.named(&reloader).as_deref(), Some("8"));
    assert_eq!(bench.loads(), 1);
    let digest = bench.version(&reloader);
    holds("wine/8/model.onnx", Ok(("2", b"model two")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.named(&reloader).as_deref(), Some("8"));
    assert_ne!(bench.version(&reloader), digest);
}

#[tokio::test]
async fn an_object_that_is_uploaded_again_is_the_same_version() {
    let bench = Bench::new(Ok(("1", CONTENT)));
    let reloader = bench.start();
    reloader.check().await;
    let name = bench.named(&reloader);
    bench.holds(Ok(("2", CONTENT)));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!((bench.named(&reloader), bench.loads()), (name, 1));
    bench.transfers();
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(bench.transfers(), 0);
}

#[tokio::test]
async fn labels_are_those_of_the_last_manifest_also_at_a_start_that_does_not_read_it() {
    let bench = bench();
    let labels = json!({"stable": "2026-11-a", "beta": "8"});
    publish(&bench, "a", with("2026-11-a", &[], &labels));
    let reloader = bench.start();
    reloader.check().await;
    let stable = |reloader: &Reloader| bench.labelled(reloader, "stable");
    assert_eq!(stable(&reloader).as_deref(), Some("2026-11-a"));
    assert_eq!(bench.labelled(&reloader, "beta").as_deref(), Some("8"));
    assert_eq!(bench.labelled(&reloader, "alpha"), None);
    // Labels alone, a new name and new labels, and none.
    publish(&bench, "b", with("2026-11-a", &[], &json!({"stable": "8"})));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(stable(&reloader).as_deref(), Some("8"));
    bench.transfers();
    let again = bench.start();
    again.check().await;
    assert_eq!(
        (stable(&again).as_deref(), bench.transfers()),
        (Some("8"), 0)
    );
    publish(&bench, "c", with("8", &[], &json!({})));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(stable(&reloader), None);
}

#[tokio::test]
async fn the_labels_of_a_manifest_count_although_its_version_is_refused() {
    let bench = Bench::at(MANIFEST);
    let versions: Versions<'_> = &[
        ("1", &[("model.onnx", CONTENT)]),
        ("2", &[("model.onnx", b"bad model")]),
    ];
    upload(&bench, versions);
    let release = |current: &str| {
        let mut text: Json = serde_json::from_slice(manifest(current, None, versions)).unwrap();
        text["version_labels"] = json!({"stable": current});
        &*text.to_string().into_bytes().leak()
    };
    publish(&bench, "a", release("1"));
    let reloader = bench.start();
    reloader.check().await;
    assert_eq!(bench.labelled(&reloader, "stable").as_deref(), Some("1"));
    publish(&bench, "b", release("2"));
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(bench.named(&reloader).as_deref(), Some("1"));
    assert_eq!(bench.labelled(&reloader, "stable").as_deref(), Some("2"));
}

#[tokio::test]
async fn a_journal_without_names_as_an_earlier_release_wrote_it_is_a_clean_start() {
    let bench = bench();
    publish(&bench, "a", with("8", &[], &json!({})));
    bench.start().check().await;
    let journals = bench.directory.path().join("journals");
    let mut rewritten = 0;
    for file in std::fs::read_dir(journals).unwrap() {
        let file = file.unwrap().path();
        let text = std::fs::read(&file).unwrap();
        let Ok(mut journal) = serde_json::from_slice::<serde_json::Map<_, _>>(&text) else {
            continue;
        };
        let record = journal["history"]["last_active"]["record"].as_object_mut();
        if record.unwrap().remove("version").is_some() {
            std::fs::write(file, Json::from(journal).to_string()).unwrap();
            rewritten += 1;
        }
    }
    assert_eq!(rewritten, 1);
    bench.transfers();
    let again = bench.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.named(&again).as_deref(), Some("8"));
    assert_eq!(bench.shelf.transfers(), [MANIFEST], "the model is here");
    assert_eq!(bench.problem(&again), None);
}
