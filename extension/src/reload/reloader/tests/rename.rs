//! The same content under another name, and labels that move.

use serde_json::{Value as Json, json};

use super::manifest::{MANIFEST, Versions, manifest, publish, upload};
use super::validation::{example, row};
use super::*;

const CONTENT: &[u8] = b"model one";
const TWINS: Versions<'static> = &[
    ("2026-11-a", &[("model.onnx", CONTENT)]),
    ("8", &[("model.onnx", CONTENT)]),
];

/// A manifest with this current version, one of the twins, with these golden examples and labels.
fn with(current: &str, golden: &[Json], labels: &Json) -> &'static [u8] {
    let mut manifest: Json = serde_json::from_slice(manifest(current, None, TWINS)).unwrap();
    manifest["versions"][current]["golden"] = golden.into();
    manifest["version_labels"] = labels.clone();
    manifest.to_string().into_bytes().leak()
}

fn fixture() -> Fixture {
    let fixture = Fixture::at(MANIFEST);
    upload(&fixture, TWINS);
    fixture
}

impl Fixture {
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
    let fixture = fixture();
    let golden = [example("x", &[1.0, 2.0])];
    publish(&fixture, "a", with("2026-11-a", &golden, &json!({})));
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.named(&reloader).as_deref(), Some("2026-11-a"));
    let active = reloader.shared.models.current(&fixture.name).unwrap();
    fixture.runs();

    publish(&fixture, "b", with("8", &golden, &json!({})));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(fixture.named(&reloader).as_deref(), Some("8"));
    let status = reloader.shared.status.get(&fixture.name).unwrap();
    assert_eq!(status.version.unwrap().as_str(), "8");
    assert_eq!((fixture.loads(), fixture.runs().len()), (1, 0));
    // A request that began before has the former name, and the same load in statistics and rollback.
    let renamed = reloader.shared.models.current(&fixture.name).unwrap();
    assert_eq!(active.version.as_str(), "2026-11-a");
    assert_eq!(
        (&active.digest, active.loaded_at),
        (&renamed.digest, renamed.loaded_at)
    );
    // The journal has the new name.
    assert_eq!(reloader.check().await, Outcome::Current);
    fixture.source.holds(MANIFEST, Err("no route to S3"));
    let again = fixture.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.named(&again).as_deref(), Some("8"));
    // A start warms up, as it would under the former name.
    assert_eq!(fixture.runs().len(), 1);
}

#[tokio::test]
async fn a_start_that_meets_the_new_name_first_only_warms_up() {
    let fixture = fixture();
    let golden = [example("x", &[1.0, 2.0]), example("x", &[3.0, 4.0])];
    publish(&fixture, "a", with("2026-11-a", &golden, &json!({})));
    fixture.start().check().await;
    assert_eq!(fixture.runs().len(), 2);
    publish(&fixture, "b", with("8", &golden, &json!({})));
    let again = fixture.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.named(&again).as_deref(), Some("8"));
    assert_eq!(fixture.runs().len(), 1);
}

#[tokio::test]
async fn content_with_new_acceptance_criteria_is_validated_first() {
    let fixture = fixture();
    let meets = example("x", &[1.0, 2.0]);
    publish(&fixture, "a", with("2026-11-a", &[], &json!({})));
    let reloader = fixture.start();
    reloader.check().await;
    let mut fails = meets.clone();
    fails["outputs"][0]["data"] = json!([9]);
    publish(&fixture, "b", with("8", &[fails], &json!({})));
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(fixture.named(&reloader).as_deref(), Some("2026-11-a"));
    let problem = fixture.problem(&reloader).unwrap();
    assert!(problem.contains("golden[0] is not met"), "{problem}");
    assert_eq!(fixture.runs().len(), 1);
    // The failure is reported and not tried again, and the content stays accepted under its former name.
    assert_eq!(reloader.check().await, Outcome::Current);
    assert!(fixture.problem(&reloader).is_some());
    let again = fixture.start();
    again.check().await;
    assert_eq!(fixture.named(&again).as_deref(), Some("2026-11-a"));
    assert!(fixture.runs().is_empty());

    publish(&fixture, "c", with("8", &[meets], &json!({})));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(fixture.named(&reloader).as_deref(), Some("8"));
    assert_eq!(fixture.problem(&reloader), None);
    assert_eq!(fixture.runs()[0].inputs, row([1.0, 2.0]));
    assert_eq!(fixture.loads(), 2, "one for each start");
}

#[tokio::test]
async fn a_folder_with_the_bytes_of_another_renames_and_one_that_is_overwritten_reloads() {
    let fixture = Fixture::at("models/");
    let holds = |path: &str, held| fixture.source.holds(path, held);
    holds("wine/7/model.onnx", Ok(("1", CONTENT)));
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.named(&reloader).as_deref(), Some("7"));
    holds("wine/8/model.onnx", Ok(("1", CONTENT)));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(fixture.named(&reloader).as_deref(), Some("8"));
    assert_eq!(fixture.loads(), 1);
    let digest = fixture.version(&reloader);
    holds("wine/8/model.onnx", Ok(("2", b"model two")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.named(&reloader).as_deref(), Some("8"));
    assert_ne!(fixture.version(&reloader), digest);
}

#[tokio::test]
async fn an_object_that_is_uploaded_again_is_the_same_version() {
    let fixture = Fixture::new(Ok(("1", CONTENT)));
    let reloader = fixture.start();
    reloader.check().await;
    let name = fixture.named(&reloader);
    fixture.holds(Ok(("2", CONTENT)));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!((fixture.named(&reloader), fixture.loads()), (name, 1));
    fixture.transfers();
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(fixture.transfers(), 0);
}

#[tokio::test]
async fn labels_are_those_of_the_last_manifest_also_at_a_start_that_does_not_read_it() {
    let fixture = fixture();
    let labels = json!({"stable": "2026-11-a", "beta": "8"});
    publish(&fixture, "a", with("2026-11-a", &[], &labels));
    let reloader = fixture.start();
    reloader.check().await;
    let stable = |reloader: &Reloader| fixture.labelled(reloader, "stable");
    assert_eq!(stable(&reloader).as_deref(), Some("2026-11-a"));
    assert_eq!(fixture.labelled(&reloader, "beta").as_deref(), Some("8"));
    assert_eq!(fixture.labelled(&reloader, "alpha"), None);
    // Labels alone, a new name and new labels, and none.
    publish(
        &fixture,
        "b",
        with("2026-11-a", &[], &json!({"stable": "8"})),
    );
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(stable(&reloader).as_deref(), Some("8"));
    fixture.transfers();
    let again = fixture.start();
    again.check().await;
    assert_eq!(
        (stable(&again).as_deref(), fixture.transfers()),
        (Some("8"), 0)
    );
    publish(&fixture, "c", with("8", &[], &json!({})));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(stable(&reloader), None);
}

#[tokio::test]
async fn the_labels_of_a_manifest_apply_although_its_version_is_rejected() {
    let fixture = Fixture::at(MANIFEST);
    let versions: Versions<'_> = &[
        ("1", &[("model.onnx", CONTENT)]),
        ("2", &[("model.onnx", b"bad model")]),
    ];
    upload(&fixture, versions);
    let release = |current: &str| {
        let mut text: Json = serde_json::from_slice(manifest(current, None, versions)).unwrap();
        text["version_labels"] = json!({"stable": current});
        &*text.to_string().into_bytes().leak()
    };
    publish(&fixture, "a", release("1"));
    let reloader = fixture.start();
    reloader.check().await;
    assert_eq!(fixture.labelled(&reloader, "stable").as_deref(), Some("1"));
    publish(&fixture, "b", release("2"));
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(fixture.named(&reloader).as_deref(), Some("1"));
    assert_eq!(fixture.labelled(&reloader, "stable").as_deref(), Some("2"));
}

#[tokio::test]
async fn a_journal_without_names_as_an_earlier_release_wrote_it_is_a_clean_start() {
    let fixture = fixture();
    publish(&fixture, "a", with("8", &[], &json!({})));
    fixture.start().check().await;
    let journals = fixture.directory.path().join("journals");
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
    fixture.transfers();
    let again = fixture.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.named(&again).as_deref(), Some("8"));
    assert_eq!(fixture.source.transfers(), [MANIFEST], "the model is here");
    assert_eq!(fixture.problem(&again), None);
}
