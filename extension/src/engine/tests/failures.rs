//! Tests of loads that fail although the model is good, with ONNX Runtime's messages.

use std::fs;
use std::fs::File;
use std::path::Path;

use super::*;
use crate::onnx::tests::write::{bytes, entry, join, model, node, number, value};

fn failure(file: &Path) -> EngineError {
    engine().load(file, None).err().expect("a failed load")
}

fn is_missing(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::File {
            is_missing: true,
            ..
        }
    )
}

/// Creates a directory with a model of one weight, of this many floats, in a data file.
fn with_weights(floats: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let length = (floats * 4).to_string();
    let weight = join([
        number(1, floats as u64),
        number(2, 1),
        bytes(8, b"w"),
        bytes(13, &entry("location", "w.bin")),
        bytes(13, &entry("offset", "0")),
        bytes(13, &entry("length", &length)),
        number(14, 1),
    ]);
    let graph = [
        bytes(1, &node("Add", &["x", "w"], &["y"])),
        bytes(2, b"g"),
        bytes(5, &weight),
        bytes(11, &value("x", 1, &[floats])),
        bytes(12, &value("y", 1, &[floats])),
    ];
    fs::write(folder.path().join("m.onnx"), model(&graph)).unwrap();
    let weights = File::create(folder.path().join("w.bin")).unwrap();
    weights.set_len(floats as u64 * 4).unwrap();
    folder
}

#[test]
fn a_missing_file_is_distinguished_from_a_bad_model() {
    let folder = with_weights(1024);
    let (model, weights) = (folder.path().join("m.onnx"), folder.path().join("w.bin"));
    engine().load(&model, None).unwrap();
    fs::remove_file(&weights).unwrap();
    let error = failure(&model);
    assert!(is_missing(&error), "{error:?}");
    fs::create_dir(&weights).unwrap();
    let error = failure(&model);
    assert!(matches!(error, EngineError::File { .. }), "{error:?}");
    fs::remove_dir(&weights).unwrap();
    fs::write(&weights, b"short").unwrap();
    let error = failure(&model);
    assert!(matches!(error, EngineError::File { .. }), "{error:?}");
    fs::remove_file(&model).unwrap();
    let error = failure(&model);
    assert!(is_missing(&error), "{error:?}");
}

/// Runs in a process of its own, since a process can open one library only.
#[test]
fn a_library_for_a_newer_glibc_names_the_runtime_to_use() {
    run_limited("true", "engine::tests::failures::with_an_older_glibc");
}

#[test]
#[ignore = "run by the test above"]
fn with_an_older_glibc() {
    // The version that Amazon Linux 2 lacks is replaced by one that every system lacks.
    let mut bytes = fs::read(library()).unwrap();
    let version = b"GLIBC_2.27\0";
    let at = bytes.windows(version.len()).position(|it| it == version);
    let at = at.unwrap();
    bytes[at..at + version.len()].copy_from_slice(b"GLIBC_9.99\0");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libonnxruntime.so");
    fs::write(&path, bytes).unwrap();
    let error = OnnxRuntime::open(&path, 1, None).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("`GLIBC_9.99' not found"), "{text}");
    assert!(
        text.ends_with("use a runtime on Amazon Linux 2023"),
        "{text}"
    );
}

#[test]
fn a_failed_allocation_in_a_load_is_not_the_models_fault() {
    run_limited(
        "ulimit -v 3000000",
        "engine::tests::failures::at_a_limit_of_memory",
    );
}

#[test]
#[ignore = "run by the test above, at a limit of its address space"]
fn at_a_limit_of_memory() {
    // More than the limit allows; the sparse file takes no disk space.
    let folder = with_weights(1 << 30);
    let error = failure(&folder.path().join("m.onnx"));
    assert!(error.is_out_of_memory(), "{error:?}");
}

#[test]
fn too_many_open_files_are_not_the_models_fault() {
    run_limited(
        "ulimit -n 64",
        "engine::tests::failures::at_a_limit_of_open_files",
    );
}

#[test]
#[ignore = "run by the test above, at a limit of its open files"]
fn at_a_limit_of_open_files() {
    let file = workspace().join("tests/models/wine-v1.onnx");
    engine().load(&file, None).unwrap();
    let mut open = Vec::new();
    while let Ok(another) = File::open(&file) {
        open.push(another);
    }
    let error = failure(&file);
    assert!(
        matches!(
            error,
            EngineError::File {
                is_missing: false,
                ..
            }
        ),
        "{error:?}"
    );
    drop(open);
    engine().load(&file, None).unwrap();
}
