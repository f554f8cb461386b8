//! Tests of the engine on real models, with the ONNX Runtime that `make onnxruntime` fetches.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

mod containers;
mod failures;
mod memory;
mod stored_weights;
mod weight_loader;
mod zipmap;

use super::*;
use crate::tensor::{Data, Datatype, Kind, Tensor};

fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Path of the bundled ONNX Runtime, which `make onnxruntime` fetches.
pub(super) fn library() -> PathBuf {
    let architecture = std::env::consts::ARCH;
    workspace().join(format!(
        "target/onnxruntime/{architecture}/libonnxruntime.so.1.28.0"
    ))
}

/// Memory limit of the arena that all tests share, in bytes.
const MEMORY: u64 = 2 << 30;

/// Returns the engine of all tests: a process can have only one.
fn engine() -> &'static OnnxRuntime {
    static ENGINE: OnceLock<OnnxRuntime> = OnceLock::new();
    ENGINE.get_or_init(|| {
        OnnxRuntime::open(&library(), 2, Some(MEMORY)).expect("run `make onnxruntime` first")
    })
}

fn load(model: &str) -> Result<Box<dyn Session>, EngineError> {
    engine().load(&workspace().join("tests/models").join(model), None)
}

fn run(model: &str, inputs: Vec<(&str, Tensor)>) -> Result<Vec<(String, Value)>, EngineError> {
    let inputs: Vec<_> = inputs
        .into_iter()
        .map(|(name, tensor)| (name.to_owned(), Value::Tensor(tensor)))
        .collect();
    load(model).unwrap().run(&inputs, &[], &Cancel::default())
}

/// Runs an ignored test of this module in a separate process, with a resource limit that the shell sets.
fn run_limited(limit: &str, test: &str) {
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("{limit} && exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("1 passed"), "{said}{complained}");
}

#[test]
fn every_datatype_round_trips() {
    use half::{bf16, f16};
    let cases: Vec<(&str, Data)> = vec![
        ("bool", vec![true, false].into()),
        ("uint8", vec![0_u8, u8::MAX].into()),
        ("uint16", vec![0_u16, u16::MAX].into()),
        ("uint32", vec![0_u32, u32::MAX].into()),
        ("uint64", vec![0_u64, u64::MAX].into()),
        ("int8", vec![i8::MIN, i8::MAX].into()),
        ("int16", vec![i16::MIN, i16::MAX].into()),
        ("int32", vec![i32::MIN, i32::MAX].into()),
        ("int64", vec![i64::MIN, i64::MAX].into()),
        ("float16", vec![f16::MIN, f16::INFINITY].into()),
        ("bfloat16", vec![bf16::MIN, bf16::EPSILON].into()),
        ("float", vec![f32::MIN_POSITIVE, f32::NEG_INFINITY].into()),
        ("double", vec![f64::MAX, -0.1].into()),
        (
            "string",
            vec![
                String::new(),
                "a NUL\0, and longer than what a short string holds 🍷".to_owned(),
            ]
            .into(),
        ),
    ];
    assert_eq!(cases.len(), Datatype::ALL.len());
    for (name, data) in cases {
        let given = Tensor::new(vec![1, 2], data).unwrap();
        let outputs = run(&format!("identity-{name}.onnx"), vec![("x", given.clone())]).unwrap();
        assert_eq!(outputs, [("y".to_owned(), Value::Tensor(given))], "{name}");
    }
}

#[test]
fn scalars_and_empty_tensors() {
    let scalar = Tensor::new(vec![], vec![2.0_f32]).unwrap();
    let outputs = run("scalar.onnx", vec![("x", scalar)]).unwrap();
    assert_eq!(
        outputs[0].1,
        Value::Tensor(Tensor::new(vec![], vec![-2.0_f32]).unwrap())
    );
    let empty = Tensor::new(vec![0, 3], Vec::<f32>::new()).unwrap();
    let outputs = run("identity-float.onnx", vec![("x", empty.clone())]).unwrap();
    assert_eq!(outputs[0].1, Value::Tensor(empty));
    let outputs = run("no-input.onnx", vec![]).unwrap();
    assert_eq!(
        outputs[0].1,
        Value::Tensor(Tensor::new(vec![3], vec![1.0_f32, 2.0, 3.0]).unwrap())
    );
}

#[test]
fn the_default_output_of_scikit_learn_is_labels_and_maps() {
    let session = load("wine-names.onnx").unwrap();
    let signature = session.signature();
    assert_eq!(
        signature.inputs[0].kind,
        Kind::Tensor {
            datatype: Datatype::Fp32,
            shape: vec![None, Some(13)]
        }
    );
    assert!(signature.outputs[1].kind.is_sequence_of_maps());
    let rows = Tensor::new(vec![2, 13], vec![1.0_f32; 26]).unwrap();
    let outputs = session
        .run(
            &[("X".to_owned(), Value::Tensor(rows))],
            &[],
            &Cancel::default(),
        )
        .unwrap();
    let Value::Maps(maps) = &outputs[1].1 else {
        panic!("{outputs:?}")
    };
    let maps = maps.to_values();
    let Value::Map {
        keys: Data::Bytes(keys),
        values: Data::Fp32(values),
    } = &maps[1]
    else {
        panic!("{maps:?}")
    };
    assert!(
        keys.iter().eq(["class_0", "class_1", "class_2"]),
        "{keys:?}"
    );
    assert!((values.iter().sum::<f32>() - 1.0).abs() < 1e-5);
}

#[test]
fn a_sequence_of_tensors_is_returned() {
    let x = Tensor::new(vec![1, 2], vec![1.0_f32, 2.0]).unwrap();
    let minus = Tensor::new(vec![1, 2], vec![-1.0_f32, -2.0]).unwrap();
    let outputs = run("sequence.onnx", vec![("x", x.clone())]).unwrap();
    assert_eq!(
        outputs[0].1,
        Value::Sequence(vec![Value::Tensor(x), Value::Tensor(minus)])
    );
}

#[test]
fn an_output_that_is_an_input_is_returned_unchanged() {
    use crate::onnx::tests::write::{bytes, model, value};
    let port = value("x", 1, &[2, 2]);
    let content = model(&[bytes(2, b"graph"), bytes(11, &port), bytes(12, &port)]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let session = engine().load(file.path(), None).unwrap();
    let x = Value::Tensor(Tensor::new(vec![2, 2], vec![1.0_f32, 2.0, 3.0, 4.0]).unwrap());
    let inputs = vec![("x".to_owned(), x.clone())];
    let outputs = session.run(&inputs, &[], &Cancel::default()).unwrap();
    assert_eq!(outputs, [("x".to_owned(), x)]);
}

#[test]
fn only_the_requested_outputs_are_returned() {
    let x = Value::Tensor(Tensor::new(vec![1, 2], vec![1.0_f32, f32::NAN]).unwrap());
    let session = load("two-outputs.onnx").unwrap();
    let outputs = session
        .run(
            &[("x".to_owned(), x)],
            &["missing".to_owned()],
            &Cancel::default(),
        )
        .unwrap();
    assert_eq!(
        outputs,
        [(
            "missing".to_owned(),
            Value::Tensor(Tensor::new(vec![1, 2], vec![false, true]).unwrap())
        )]
    );
}

#[test]
fn outputs_are_returned_in_the_requested_order_each_once() {
    let x = || {
        let x = Tensor::new(vec![1, 2], vec![1.0_f32, 2.0]).unwrap();
        vec![("x".to_owned(), Value::Tensor(x))]
    };
    let session = load("two-outputs.onnx").unwrap();
    let names = |asked: &[&str]| {
        let asked: Vec<String> = asked.iter().map(|&name| name.to_owned()).collect();
        let outputs = session.run(&x(), &asked, &Cancel::default());
        outputs.map(|outputs| {
            outputs
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(names(&[]).unwrap(), ["double", "missing"]);
    assert_eq!(
        names(&["missing", "double", "missing"]).unwrap(),
        ["missing", "double"]
    );
    let unknown = names(&["triple"]).unwrap_err();
    assert!(
        matches!(&unknown, EngineError::Input(text) if text.contains("\"triple\"")),
        "{unknown:?}"
    );
}

#[test]
fn an_unknown_input_is_named() {
    let x = Tensor::new(vec![1, 2], vec![1.0_f32, 2.0]).unwrap();
    let error = run("two-outputs.onnx", vec![("x", x.clone()), ("z", x)]).unwrap_err();
    assert!(
        matches!(&error, EngineError::Input(text) if text.contains("\"z\"")),
        "{error:?}"
    );
}

/// The short runs can end only if runs of one session are concurrent, since the long run does not end.
#[test]
fn runs_of_one_session_are_concurrent() {
    let session: Arc<dyn Session> = load("slow.onnx").unwrap().into();
    let trips = |count: i64| {
        vec![(
            "trips".to_owned(),
            Value::Tensor(Tensor::new(vec![1], vec![count]).unwrap()),
        )]
    };
    let long = Arc::new(Cancel::default());
    let running = {
        let (session, cancel) = (Arc::clone(&session), Arc::clone(&long));
        std::thread::spawn(move || session.run(&trips(1_000_000_000), &[], &cancel))
    };
    // The short runs end while the long run does not, whichever begins first.
    for _ in 0..3 {
        let outputs = session.run(&trips(1), &[], &Cancel::default()).unwrap();
        assert_eq!(
            outputs[0].1,
            Value::Tensor(Tensor::new(vec![1], vec![1.0_f32]).unwrap())
        );
    }
    assert!(!running.is_finished());
    long.cancel();
    assert!(matches!(
        running.join().unwrap(),
        Err(EngineError::Cancelled)
    ));
}

#[test]
fn a_session_knows_whether_its_work_is_fixed() {
    assert!(load("wine-v1.onnx").unwrap().has_fixed_work());
    assert!(!load("slow.onnx").unwrap().has_fixed_work());
}

#[test]
fn an_empty_optional_output_is_an_error_and_the_session_remains_usable() {
    let session = load("optional-empty.onnx").unwrap();
    for _ in 0..2 {
        let x = Value::Tensor(Tensor::new(vec![1, 1], vec![1.0_f32]).unwrap());
        let error = session
            .run(&[("x".to_owned(), x)], &[], &Cancel::default())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read output \"nothing\": it is an empty optional value, which is not supported"
        );
    }
}

#[test]
fn inputs_that_do_not_fit_the_graph_are_input_errors() {
    let wrong_width = Tensor::new(vec![1, 12], vec![0.0_f32; 12]).unwrap();
    let error = run("wine-v1.onnx", vec![("X", wrong_width)]).unwrap_err();
    assert!(
        matches!(&error, EngineError::Input(text) if text.contains("12")),
        "{error:?}"
    );
}

#[test]
fn files_that_are_not_models_are_rejected_with_a_reason() {
    for file in ["garbage.onnx", "truncated.onnx"] {
        let error = load(file).err().unwrap();
        assert!(
            matches!(&error, EngineError::Load(reason) if !reason.is_empty()),
            "{file}: {error:?}"
        );
    }
}

#[test]
fn a_cancelled_run_stops_and_the_next_run_does_not() {
    let session: Arc<dyn Session> = load("slow.onnx").unwrap().into();
    let trips = |count: i64| {
        vec![(
            "trips".to_owned(),
            Value::Tensor(Tensor::new(vec![1], vec![count]).unwrap()),
        )]
    };
    let cancel = Arc::new(Cancel::default());
    let running = {
        let (session, cancel) = (Arc::clone(&session), Arc::clone(&cancel));
        std::thread::spawn(move || session.run(&trips(1_000_000_000), &[], &cancel))
    };
    // The cancellation must stop the run before and after its begin.
    std::thread::yield_now();
    cancel.cancel();
    assert!(matches!(
        running.join().unwrap(),
        Err(EngineError::Cancelled)
    ));
    assert!(session.run(&trips(1), &[], &Cancel::default()).is_ok());
}

#[test]
fn several_threads_use_one_session() {
    let session: Arc<dyn Session> = load("add-two-inputs.onnx").unwrap().into();
    let threads: Vec<_> = (0..4_u8)
        .map(|thread| {
            let session = Arc::clone(&session);
            std::thread::spawn(move || {
                for _ in 0..50 {
                    let value = f32::from(thread);
                    let input = |name: &str| {
                        (
                            name.to_owned(),
                            Value::Tensor(Tensor::new(vec![1, 2], vec![value; 2]).unwrap()),
                        )
                    };
                    let outputs = session
                        .run(&[input("a"), input("b")], &[], &Cancel::default())
                        .unwrap();
                    let sum = Tensor::new(vec![1, 2], vec![2.0 * value; 2]).unwrap();
                    assert_eq!(outputs[0].1, Value::Tensor(sum));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn the_format_of_a_model_is_detected_by_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let models = workspace().join("tests/models");
    let cases = [
        ("external/one-file.ort", "4f2d"),
        ("external/one-file.ort", "a.onnx"),
        ("fixed-batch.onnx", "b.ort"),
    ];
    for (model, name) in cases {
        let named = folder.path().join(name);
        std::fs::copy(models.join(model), &named).unwrap();
        let session = engine().load(&named, None).unwrap();
        assert_eq!(session.signature().inputs.len(), 1, "{model} as {name}");
    }
}

#[test]
fn an_optimised_graph_returns_the_same_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let given = workspace().join("tests/models/fixed-batch.onnx");
    let optimised = folder.path().join("model.onnx");
    let names = engine().optimise(&given, &optimised, "data", 1024).unwrap();
    assert_eq!(
        names,
        [("x".to_owned(), vec![String::new(), String::new()])]
    );
    let x = Tensor::new(vec![1, 4], vec![1.0_f32, 2.0, 3.0, 4.0]).unwrap();
    let run = || {
        let inputs = vec![("x".to_owned(), Value::Tensor(x.clone()))];
        let session = engine().load(&optimised, None).unwrap();
        session.run(&inputs, &[], &Cancel::default()).unwrap()
    };
    let minus = Tensor::new(vec![1, 4], vec![-1.0_f32, -2.0, -3.0, -4.0]).unwrap();
    assert_eq!(run(), [("y".to_owned(), Value::Tensor(minus))]);
}

#[test]
fn a_byte_that_is_neither_0_nor_1_in_a_boolean_tensor_is_true() {
    use crate::onnx::tests::write::{bytes, model, node, raw, value};
    const BOOL: u64 = 9;
    // The small tensor is copied, the large one shared.
    for count in [3, 8192] {
        let elements: Vec<u8> = [0, 1, 2, 255].into_iter().cycle().take(count).collect();
        let content = model(&[
            bytes(1, &node("Identity", &["c"], &["y"])),
            bytes(2, b"graph"),
            bytes(5, &raw("c", BOOL, &[count], &elements)),
            bytes(12, &value("y", BOOL, &[count])),
        ]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let session = engine().load(file.path(), None).unwrap();
        let outputs = session.run(&[], &[], &Cancel::default()).unwrap();
        let expected: Vec<bool> = elements.iter().map(|byte| *byte > 0).collect();
        let expected = Tensor::new(vec![count], expected).unwrap();
        assert_eq!(outputs, [("y".to_owned(), Value::Tensor(expected))]);
    }
}

/// Declares an FP32 input or output with a named dimension and a dimension of this size.
fn named(name: &str, dimension: &str, size: u64) -> Vec<u8> {
    use crate::onnx::tests::write::{bytes, join, number};
    let dimensions = [bytes(2, dimension.as_bytes()), number(1, size)];
    let shape = join(dimensions.map(|dimension| bytes(1, &dimension)));
    let tensor = join([number(1, 1), bytes(2, &shape)]);
    join([bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))])
}

#[test]
fn shared_dimensions_are_known_however_the_model_is_loaded() {
    use crate::onnx::tests::write::{bytes, model, node, raw};
    // The larger width makes the weights large enough for the weight loader.
    for width in [2_u64, 2048] {
        let length = usize::try_from(width * width).unwrap();
        let shape = [usize::try_from(width).unwrap(); 2];
        let content = model(&[
            bytes(1, &node("MatMul", &["a", "w"], &["c"])),
            bytes(1, &node("Add", &["c", "b"], &["y"])),
            bytes(2, b"graph"),
            bytes(5, &raw("w", 1, &shape, &vec![0; 4 * length])),
            bytes(11, &named("a", "N", width)),
            bytes(11, &named("b", "N", width)),
            bytes(12, &named("y", "N", width)),
        ]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let before = super::weight_loader::loaded();
        let session = engine().load(file.path(), None).unwrap();
        assert_eq!(super::weight_loader::loaded() > before, width > 2);
        let given = |rows: [usize; 2]| {
            let tensor = |rows: usize| {
                let shape = vec![rows, usize::try_from(width).unwrap()];
                let count = shape.iter().product();
                Value::Tensor(Tensor::new(shape, vec![0_f32; count]).unwrap())
            };
            let [a, b] = rows;
            [("a".to_owned(), tensor(a)), ("b".to_owned(), tensor(b))]
        };
        let check = |rows| session.shared_dimensions().check(&given(rows), true);
        assert_eq!(check([2, 2]), Ok(()));
        let error = check([2, 3]).unwrap_err().to_string();
        assert!(error.contains("share the dimension \"N\""), "{error}");
    }
}

#[test]
fn a_missing_library_is_an_error_that_names_its_path() {
    let error = OnnxRuntime::open(std::path::Path::new("/nowhere/libonnxruntime.so"), 1, None)
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("/nowhere/libonnxruntime.so"),
        "{error}"
    );
}
