//! Versions that validation rejects, their fallbacks, and warm-ups.

use serde_json::{Value as Json, json};

use super::manifest::{MANIFEST, Versions, manifest, publish, upload};
use super::*;

/// A manifest of one version, `1`, with golden examples.
fn with_golden(bytes: &'static [u8], golden: &[Json]) -> &'static [u8] {
    let versions: Versions<'_> = &[("1", &[("model.onnx", bytes)])];
    let mut manifest: Json = serde_json::from_slice(manifest("1", None, versions)).unwrap();
    manifest["versions"]["1"]["golden"] = golden.into();
    manifest.to_string().into_bytes().leak()
}

/// An example with this row for the input of this name.
pub(super) fn example(name: &str, row: &[f32]) -> Json {
    let input = json!({"name": name, "shape": [1, row.len()], "datatype": "FP32", "data": row});
    with_inputs(&[input])
}

fn with_inputs(inputs: &[Json]) -> Json {
    let output = json!({"name": "y", "shape": [1], "datatype": "FP32", "data": [0]});
    json!({"inputs": inputs, "outputs": [output]})
}

/// Publishes these bytes as version `1`, with golden examples.
fn release(fixture: &Fixture, etag: &'static str, bytes: &'static [u8], golden: &[Json]) {
    upload(fixture, &[("1", &[("model.onnx", bytes)])]);
    publish(fixture, etag, with_golden(bytes, golden));
}

fn warm_up(outcome: &Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Loaded(timings) => timings.steps.warm_up,
        outcome => panic!("{outcome:?}"),
    }
}

pub(super) fn row(row: [f32; 2]) -> Vec<(String, Value)> {
    let tensor = Tensor::new(vec![1, 2], row.to_vec()).unwrap();
    vec![("x".to_owned(), Value::Tensor(tensor))]
}

impl Fixture {
    /// Takes the runs so far.
    pub(super) fn runs(&self) -> Vec<Run> {
        std::mem::take(&mut self.seen.lock().unwrap().runs)
    }

    /// Waits for the begin of a warm-up.
    async fn warming_up(&self) {
        while self.seen.lock().unwrap().runs.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_version_runs_once_with_each_example_before_it_is_active() {
    let fixture = Fixture::at(MANIFEST);
    let golden = [example("x", &[1.0, 2.0]), example("x", &[3.0, 4.0])];
    release(&fixture, "a", b"model one", &golden);
    let reloader = fixture.start();
    assert!(warm_up(&reloader.check().await).is_some());
    let first = fixture.version(&reloader);
    let runs = fixture.runs();
    let inputs: Vec<_> = runs.iter().map(|run| &run.inputs).collect();
    assert_eq!(inputs, [&row([1.0, 2.0]), &row([3.0, 4.0])]);
    assert!(runs.iter().all(|run| run.answering.is_none()));

    release(&fixture, "b", b"model two", &[example("x", &[5.0, 6.0])]);
    assert!(warm_up(&reloader.check().await).is_some());
    assert_ne!(fixture.version(&reloader), first);
    let [run] = &fixture.runs()[..] else {
        panic!("not one run")
    };
    assert_eq!((&run.inputs, &run.answering), (&row([5.0, 6.0]), &first));

    // Nothing is run for a check that finds nothing new.
    assert_eq!(reloader.check().await, Outcome::Current);
    assert!(fixture.runs().is_empty());
}

#[tokio::test]
async fn without_an_example_nothing_is_run() {
    let fixture = Fixture::at(MANIFEST);
    release(&fixture, "a", b"model one", &[]);
    assert_eq!(warm_up(&fixture.start().check().await), None);
    let plain = Fixture::new(Ok(("1", b"model one")));
    assert_eq!(warm_up(&plain.start().check().await), None);
    assert!(fixture.runs().is_empty() && plain.runs().is_empty());
}

/// A reload rejects the version of these bytes, and the previous version stays active; then a manifest with other
/// criteria is published.
async fn is_rejected(bytes: &'static [u8], golden: Json, problem: &str) {
    let fixture = Fixture::at(MANIFEST);
    release(&fixture, "a", b"model one", &[]);
    let reloader = fixture.start();
    Box::pin(reloader.check()).await;
    let good = fixture.version(&reloader);
    release(&fixture, "b", bytes, &[golden]);
    assert_eq!(Box::pin(reloader.check()).await, Outcome::Failed);
    assert_eq!(fixture.version(&reloader), good);
    let told = fixture.problem(&reloader).unwrap();
    assert!(told.contains(problem), "{told}");
    let runs = fixture.runs().len();
    // Neither a check nor another start tries it again.
    assert_eq!(Box::pin(reloader.check()).await, Outcome::Current);
    let again = fixture.start();
    Box::pin(again.check()).await;
    assert_eq!(fixture.version(&again), good);
    assert!(fixture.problem(&again).unwrap().contains(problem));
    assert!(fixture.runs().is_empty(), "{runs} runs at first");
    fixture.transfers();
    publish(&fixture, "c", with_golden(bytes, &[]));
    assert!(matches!(
        Box::pin(reloader.check()).await,
        Outcome::Loaded(_)
    ));
    assert_eq!(
        (fixture.active_content(), fixture.problem(&reloader)),
        (bytes.to_vec(), None)
    );
}

#[tokio::test]
async fn a_version_that_fails_an_example_is_rejected_until_the_manifest_changes() {
    let fits = || example("x", &[1.0, 2.0]);
    is_rejected(
        b"other",
        fits(),
        "output \"y\"[0] is 1.0, and 0.0 is expected",
    )
    .await;
    is_rejected(b"fails", fits(), "the model failed: not today").await;
    is_rejected(b"model 2", example("z", &[1.0, 2.0]), "no input \"z\"").await;
    is_rejected(b"model 2", with_inputs(&[]), "missing input: \"x\"").await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_does_not_end_is_cancelled_and_the_version_rejected() {
    is_rejected(
        b"endless",
        example("x", &[1.0, 2.0]),
        "did not end within 30 s",
    )
    .await;
}

#[tokio::test]
async fn a_start_with_a_rejected_version_takes_the_previous_one() {
    let versions: Versions<'_> = &[
        ("1", &[("model.onnx", b"model one")]),
        ("2", &[("model.onnx", b"other two")]),
    ];
    let mut bad: Json = serde_json::from_slice(manifest("2", Some("1"), versions)).unwrap();
    for version in ["1", "2"] {
        bad["versions"][version]["golden"] = json!([example("x", &[1.0, 2.0])]);
    }
    let fixture = Fixture::at(MANIFEST);
    upload(&fixture, versions);
    publish(&fixture, "a", bad.to_string().into_bytes().leak());
    for transfers in [3, 0] {
        let reloader = fixture.start();
        assert!(warm_up(&reloader.check().await).is_some());
        assert_eq!(fixture.active_content(), b"model one");
        let problem = fixture.problem(&reloader).unwrap();
        assert!(problem.contains("golden[0] is not met"), "{problem}");
        assert!(fixture.transfers() >= transfers);
    }
}

#[tokio::test]
async fn a_rejected_version_in_the_cache_is_validated_by_its_manifest_at_the_next_start() {
    let fixture = Fixture::at(MANIFEST);
    release(&fixture, "a", b"endless", &[example("x", &[1.0, 2.0])]);
    let stuck = fixture.start();
    let check = tokio::spawn(async move { stuck.check().await });
    fixture.warming_up().await;
    // The check is dropped during the run, as in a shutdown: the load does not count as interrupted.
    check.abort();
    let _ = check.await;
    Cache::open(fixture.directory.path()).unwrap().close_loads();
    tokio::time::pause();
    let again = fixture.start();
    assert_eq!(again.check().await, Outcome::Failed);
    assert!(
        fixture
            .problem(&again)
            .unwrap()
            .contains("did not end within 30 s")
    );
}

#[tokio::test]
async fn a_change_of_signature_is_rejected_unless_it_is_declared() {
    let fixture = Fixture::new(Ok(("1", b"model one")));
    let reloader = fixture.start();
    reloader.check().await;
    let good = fixture.version(&reloader);
    fixture.holds(Ok(("2", b"wide model")));
    assert_eq!(reloader.check().await, Outcome::Failed);
    let words = "input \"x\" is FP32 [-1, 3], expected FP32 [-1, 2]";
    for start in [&reloader, &fixture.start()] {
        start.check().await;
        assert_eq!(fixture.version(start), good);
        assert!(fixture.problem(start).unwrap().contains(words));
    }

    let fixture = Fixture::at(MANIFEST);
    release(&fixture, "a", b"model one", &[]);
    let reloader = fixture.start();
    reloader.check().await;
    release(&fixture, "b", b"wide model", &[]);
    assert_eq!(reloader.check().await, Outcome::Failed);
    let mut declared: Json = serde_json::from_slice(with_golden(b"wide model", &[])).unwrap();
    let declare = |declared: &mut Json, shape: Json| {
        declared["versions"]["1"]["signature"] = json!({
            "inputs": [{"name": "x", "datatype": "FP32", "shape": shape}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
        });
        declared.to_string().into_bytes().leak()
    };
    publish(&fixture, "c", declare(&mut declared, json!([-1, 4])));
    assert_eq!(reloader.check().await, Outcome::Failed);
    let problem = fixture.problem(&reloader).unwrap();
    assert!(
        problem.contains("differs from the manifest's `signature`"),
        "{problem}"
    );
    publish(&fixture, "d", declare(&mut declared, json!([-1, 3])));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"wide model");
}

#[tokio::test]
async fn a_second_start_warms_up_although_it_does_not_read_the_manifest() {
    let fixture = Fixture::at(MANIFEST);
    release(&fixture, "a", b"model one", &[example("x", &[1.0, 2.0])]);
    fixture.start().check().await;
    fixture.transfers();
    fixture.runs();
    assert!(warm_up(&fixture.start().check().await).is_some());
    assert_eq!(fixture.transfers(), 0);
    assert_eq!(fixture.runs()[0].inputs, row([1.0, 2.0]));

    // The same version with another example.
    publish(
        &fixture,
        "b",
        with_golden(b"model one", &[example("x", &[3.0, 4.0])]),
    );
    fixture.start().check().await;
    fixture.runs();
    fixture.start().check().await;
    assert_eq!(fixture.runs()[0].inputs, row([3.0, 4.0]));
}

#[tokio::test]
async fn a_long_example_is_used_only_by_the_start_that_reads_the_manifest() {
    let fixture = Fixture::at(MANIFEST);
    let mut long = example("x", &[]);
    long["inputs"][0]["shape"] = json!([20_000, 2]);
    long["inputs"][0]["data"] = vec![0; 40_000].into();
    release(&fixture, "a", b"model one", &[long]);
    assert!(warm_up(&fixture.start().check().await).is_some());
    assert_eq!(warm_up(&fixture.start().check().await), None);
    assert_eq!((fixture.runs().len(), fixture.transfers()), (1, 2));
}

#[tokio::test]
async fn an_accepted_version_is_warmed_up_until_a_process_dies_in_it() {
    let fixture = Fixture::at(MANIFEST);
    release(&fixture, "a", b"endless", &[]);
    fixture.start().check().await;
    // The same version, which is already active, with an example.
    publish(
        &fixture,
        "b",
        with_golden(b"endless", &[example("x", &[1.0, 2.0])]),
    );
    let stuck = fixture.start();
    let check = tokio::spawn(async move { stuck.check().await });
    fixture.warming_up().await;
    // Dropped in the middle of the run, as the process is by a SIGKILL.
    check.abort();
    let _ = check.await;
    fixture.runs();
    let again = fixture.start();
    assert_eq!(warm_up(&again.check().await), None);
    assert_eq!(fixture.active_content(), b"endless");
    assert_eq!(fixture.problem(&again), None);
    assert!(fixture.runs().is_empty());
}
