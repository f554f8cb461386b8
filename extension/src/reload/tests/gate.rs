//! What is refused at the gate, what stands in, and what is only warmed up.

use serde_json::{Value as Json, json};

use super::published::{MANIFEST, Versions, manifest, publish, upload};
use super::*;

/// A manifest of one version, `1`, with golden examples.
fn with_golden(bytes: &'static [u8], golden: &[Json]) -> &'static [u8] {
    let versions: Versions<'_> = &[("1", &[("model.onnx", bytes)])];
    let mut manifest: Json = serde_json::from_slice(manifest("1", None, versions)).unwrap();
    manifest["versions"]["1"]["golden"] = golden.into();
    manifest.to_string().into_bytes().leak()
}

/// An example whose input is this row of the input of this name.
pub(super) fn example(name: &str, row: &[f32]) -> Json {
    let input = json!({"name": name, "shape": [1, row.len()], "datatype": "FP32", "data": row});
    with_inputs(&[input])
}

fn with_inputs(inputs: &[Json]) -> Json {
    let output = json!({"name": "y", "shape": [1], "datatype": "FP32", "data": [0]});
    json!({"inputs": inputs, "outputs": [output]})
}

/// What is held from now on: these bytes as version `1`, with golden examples.
fn release(bench: &Bench, etag: &'static str, bytes: &'static [u8], golden: &[Json]) {
    upload(bench, &[("1", &[("model.onnx", bytes)])]);
    publish(bench, etag, with_golden(bytes, golden));
}

fn warm_up(outcome: &Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Loaded(steps) => steps.warm_up,
        outcome => panic!("{outcome:?}"),
    }
}

pub(super) fn row(row: [f32; 2]) -> Vec<(String, Value)> {
    let tensor = Tensor::new(vec![1, 2], row.to_vec()).unwrap();
    vec![("x".to_owned(), Value::Tensor(tensor))]
}

impl Bench {
    /// The runs since this was last asked.
    pub(super) fn runs(&self) -> Vec<Run> {
        std::mem::take(&mut self.seen.lock().unwrap().runs)
    }

    /// Waits until a warm-up is under way.
    async fn warming_up(&self) {
        while self.seen.lock().unwrap().runs.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_version_is_run_once_with_each_example_before_it_answers() {
    let bench = Bench::at(MANIFEST);
    let golden = [example("x", &[1.0, 2.0]), example("x", &[3.0, 4.0])];
    release(&bench, "a", b"model one", &golden);
    let reloader = bench.start();
    assert!(warm_up(&reloader.check().await).is_some());
    let first = bench.version(&reloader);
    let runs = bench.runs();
    let inputs: Vec<_> = runs.iter().map(|run| &run.inputs).collect();
    assert_eq!(inputs, [&row([1.0, 2.0]), &row([3.0, 4.0])]);
    assert!(runs.iter().all(|run| run.answering.is_none()));

    release(&bench, "b", b"model two", &[example("x", &[5.0, 6.0])]);
    assert!(warm_up(&reloader.check().await).is_some());
    assert_ne!(bench.version(&reloader), first);
    let [run] = &bench.runs()[..] else {
        panic!("not one run")
    };
    assert_eq!((&run.inputs, &run.answering), (&row([5.0, 6.0]), &first));

    // Nothing is run for a check that finds nothing new.
    assert_eq!(reloader.check().await, Outcome::Current);
    assert!(bench.runs().is_empty());
}

#[tokio::test]
async fn without_an_example_nothing_is_run() {
    let bench = Bench::at(MANIFEST);
    release(&bench, "a", b"model one", &[]);
    assert_eq!(warm_up(&bench.start().check().await), None);
    let plain = Bench::new(Ok(("1", b"model one")));
    assert_eq!(warm_up(&plain.start().check().await), None);
    assert!(bench.runs().is_empty() && plain.runs().is_empty());
}

/// The version of these bytes is refused at a reload, and the one before goes on; then another manifest is published
/// that says something else of it.
async fn is_refused(bytes: &'static [u8], golden: Json, problem: &str) {
    let bench = Bench::at(MANIFEST);
    release(&bench, "a", b"model one", &[]);
    let reloader = bench.start();
    Box::pin(reloader.check()).await;
    let good = bench.version(&reloader);
    release(&bench, "b", bytes, &[golden]);
    assert_eq!(Box::pin(reloader.check()).await, Outcome::Failed);
    assert_eq!(bench.version(&reloader), good);
    let told = bench.problem(&reloader).unwrap();
    assert!(told.contains(problem), "{told}");
    let runs = bench.runs().len();
    // Neither a check nor another start tries it again.
    assert_eq!(Box::pin(reloader.check()).await, Outcome::Current);
    let again = bench.start();
    Box::pin(again.check()).await;
    assert_eq!(bench.version(&again), good);
    assert!(bench.problem(&again).unwrap().contains(problem));
    assert!(bench.runs().is_empty(), "{runs} runs at first");
    bench.transfers();
    publish(&bench, "c", with_golden(bytes, &[]));
    assert!(matches!(
        Box::pin(reloader.check()).await,
        Outcome::Loaded(_)
    ));
    assert_eq!(
        (bench.answers(), bench.problem(&reloader)),
        (bytes.to_vec(), None)
    );
}

#[tokio::test]
async fn a_version_that_does_not_meet_an_example_is_refused_until_the_manifest_changes() {
    let fits = || example("x", &[1.0, 2.0]);
    is_refused(
        b"other",
        fits(),
        "output \"y\"[0] is 1.0, and 0.0 is expected",
    )
    .await;
    is_refused(b"fails", fits(), "the model failed: not today").await;
    is_refused(b"model 2", example("z", &[1.0, 2.0]), "no input \"z\"").await;
    is_refused(b"model 2", with_inputs(&[]), "missing input: \"x\"").await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_does_not_end_is_cancelled_and_the_version_refused() {
    is_refused(
        b"endless",
        example("x", &[1.0, 2.0]),
        "was not over after 30 s",
    )
    .await;
}

#[tokio::test]
async fn a_start_with_a_version_that_does_not_pass_takes_the_previous_one() {
    let versions: Versions<'_> = &[
        ("1", &[("model.onnx", b"model one")]),
        ("2", &[("model.onnx", b"other two")]),
    ];
    let mut bad: Json = serde_json::from_slice(manifest("2", Some("1"), versions)).unwrap();
    for version in ["1", "2"] {
        bad["versions"][version]["golden"] = json!([example("x", &[1.0, 2.0])]);
    }
    let bench = Bench::at(MANIFEST);
    upload(&bench, versions);
    publish(&bench, "a", bad.to_string().into_bytes().leak());
    for transfers in [3, 0] {
        let reloader = bench.start();
        assert!(warm_up(&reloader.check().await).is_some());
        assert_eq!(bench.answers(), b"model one");
        let problem = bench.problem(&reloader).unwrap();
        assert!(problem.contains("golden[0] is not met"), "{problem}");
        assert!(bench.transfers() >= transfers);
    }
}

#[tokio::test]
async fn a_version_that_was_here_and_did_not_pass_is_held_against_its_manifest_at_the_next_start() {
    let bench = Bench::at(MANIFEST);
    release(&bench, "a", b"endless", &[example("x", &[1.0, 2.0])]);
    let stuck = bench.start();
    let check = tokio::spawn(async move { stuck.check().await });
    bench.warming_up().await;
    // Dropped in the middle of the run, as the process is in a shutdown: the load is forgiven.
    check.abort();
    let _ = check.await;
    Cache::open(bench.directory.path()).unwrap().close_loads();
    tokio::time::pause();
    let again = bench.start();
    assert_eq!(again.check().await, Outcome::Failed);
    assert!(
        bench
            .problem(&again)
            .unwrap()
            .contains("was not over after 30 s")
    );
}

#[tokio::test]
async fn callers_are_not_given_another_signature_unless_it_is_declared() {
    let bench = Bench::new(Ok(("1", b"model one")));
    let reloader = bench.start();
    reloader.check().await;
    let good = bench.version(&reloader);
    bench.holds(Ok(("2", b"wide model")));
    assert_eq!(reloader.check().await, Outcome::Failed);
    let words = "input \"x\" is FP32 [-1, 3], expected FP32 [-1, 2]";
    for start in [&reloader, &bench.start()] {
        start.check().await;
        assert_eq!(bench.version(start), good);
        assert!(bench.problem(start).unwrap().contains(words));
    }

    let bench = Bench::at(MANIFEST);
    release(&bench, "a", b"model one", &[]);
    let reloader = bench.start();
    reloader.check().await;
    release(&bench, "b", b"wide model", &[]);
    assert_eq!(reloader.check().await, Outcome::Failed);
    let mut declared: Json = serde_json::from_slice(with_golden(b"wide model", &[])).unwrap();
    let declare = |declared: &mut Json, shape: Json| {
        declared["versions"]["1"]["signature"] = json!({
            "inputs": [{"name": "x", "datatype": "FP32", "shape": shape}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
        });
        declared.to_string().into_bytes().leak()
    };
    publish(&bench, "c", declare(&mut declared, json!([-1, 4])));
    assert_eq!(reloader.check().await, Outcome::Failed);
    let problem = bench.problem(&reloader).unwrap();
    assert!(
        problem.contains("not what the manifest's `signature` declares"),
        "{problem}"
    );
    publish(&bench, "d", declare(&mut declared, json!([-1, 3])));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"wide model");
}

#[tokio::test]
async fn a_second_start_warms_up_although_it_does_not_read_the_manifest() {
    let bench = Bench::at(MANIFEST);
    release(&bench, "a", b"model one", &[example("x", &[1.0, 2.0])]);
    bench.start().check().await;
    bench.transfers();
    bench.runs();
    assert!(warm_up(&bench.start().check().await).is_some());
    assert_eq!(bench.transfers(), 0);
    assert_eq!(bench.runs()[0].inputs, row([1.0, 2.0]));

    // The same version with another example.
    publish(
        &bench,
        "b",
        with_golden(b"model one", &[example("x", &[3.0, 4.0])]),
    );
    bench.start().check().await;
    bench.runs();
    bench.start().check().await;
    assert_eq!(bench.runs()[0].inputs, row([3.0, 4.0]));
}

#[tokio::test]
async fn an_example_that_is_long_serves_the_start_that_reads_the_manifest() {
    let bench = Bench::at(MANIFEST);
    let mut long = example("x", &[]);
    long["inputs"][0]["shape"] = json!([20_000, 2]);
    long["inputs"][0]["data"] = vec![0; 40_000].into();
    release(&bench, "a", b"model one", &[long]);
    assert!(warm_up(&bench.start().check().await).is_some());
    assert_eq!(warm_up(&bench.start().check().await), None);
    assert_eq!((bench.runs().len(), bench.transfers()), (1, 2));
}

#[tokio::test]
async fn a_version_that_passed_is_warmed_up_whatever_comes_of_it_and_one_death_in_that_is_enough() {
    let bench = Bench::at(MANIFEST);
    release(&bench, "a", b"endless", &[]);
    bench.start().check().await;
    // The same version, which answers already, with an example.
    publish(
        &bench,
        "b",
        with_golden(b"endless", &[example("x", &[1.0, 2.0])]),
    );
    let stuck = bench.start();
    let check = tokio::spawn(async move { stuck.check().await });
    bench.warming_up().await;
    // Dropped in the middle of the run, as the process is by a SIGKILL.
    check.abort();
    let _ = check.await;
    bench.runs();
    let again = bench.start();
    assert_eq!(warm_up(&again.check().await), None);
    assert_eq!(bench.answers(), b"endless");
    assert_eq!(bench.problem(&again), None);
    assert!(bench.runs().is_empty());
}
