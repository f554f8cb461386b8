//! The run with a manifest's golden example, before a version answers.

use serde_json::{Value as Json, json};

use super::published::{MANIFEST, Versions, manifest, publish, upload};
use super::*;
use crate::tensor::Tensor;

/// A manifest of one version, `1`, with golden examples.
fn with_golden(bytes: &'static [u8], golden: &[Json]) -> &'static [u8] {
    let versions: Versions<'_> = &[("1", &[("model.onnx", bytes)])];
    let mut manifest: Json = serde_json::from_slice(manifest("1", None, versions)).unwrap();
    manifest["versions"]["1"]["golden"] = golden.into();
    manifest.to_string().into_bytes().leak()
}

/// An example whose input is this row of the input of this name.
fn example(name: &str, row: &[f32]) -> Json {
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

fn row(row: [f32; 2]) -> Vec<(String, Value)> {
    let tensor = Tensor::new(vec![1, 2], row.to_vec()).unwrap();
    vec![("x".to_owned(), Value::Tensor(tensor))]
}

impl Bench {
    /// The runs since this was last asked.
    fn runs(&self) -> Vec<Run> {
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
async fn a_version_is_run_once_with_the_first_example_before_it_answers() {
    let bench = Bench::at(MANIFEST);
    let golden = [example("x", &[1.0, 2.0]), example("x", &[3.0, 4.0])];
    release(&bench, "a", b"model one", &golden);
    let reloader = bench.start();
    assert!(warm_up(&reloader.check().await).is_some());
    let first = bench.version(&reloader);
    let [run] = &bench.runs()[..] else {
        panic!("not one run")
    };
    assert_eq!((&run.inputs, &run.answering), (&row([1.0, 2.0]), &None));

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

#[tokio::test]
async fn a_warm_up_that_fails_keeps_no_version_from_answering() {
    let fits = example("x", &[1.0, 2.0]);
    let cases: [(&'static [u8], Json, usize); 4] = [
        (b"fails", fits, 1),
        (b"model one", example("z", &[1.0, 2.0]), 0),
        (b"model one", example("x", &[1.0, 2.0, 3.0]), 0),
        (b"model one", with_inputs(&[]), 0),
    ];
    for (bytes, golden, runs) in cases {
        let bench = Bench::at(MANIFEST);
        release(&bench, "a", bytes, &[golden]);
        let reloader = bench.start();
        assert!(warm_up(&reloader.check().await).is_some());
        assert!(bench.version(&reloader).is_some());
        assert_eq!(bench.problem(&reloader), None);
        assert_eq!(bench.runs().len(), runs);
        assert!(warm_up(&bench.start().check().await).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_that_does_not_end_is_cancelled() {
    let bench = Bench::at(MANIFEST);
    release(&bench, "a", b"endless", &[example("x", &[1.0, 2.0])]);
    let reloader = bench.start();
    assert!(warm_up(&reloader.check().await).is_some());
    assert!(bench.version(&reloader).is_some());
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
async fn a_version_whose_warm_up_killed_the_process_is_loaded_again_without_one() {
    let bench = Bench::at(MANIFEST);
    release(&bench, "a", b"model one", &[]);
    bench.start().check().await;
    release(&bench, "b", b"endless", &[example("x", &[1.0, 2.0])]);
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
