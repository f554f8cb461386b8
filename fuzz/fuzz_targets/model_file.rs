//! Model files: never a panic, bounded memory, and external data in the described places.

#![no_main]

use std::fs::File;
use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use model_sidecar::onnx::{Description, ModelWithoutZipMap, Skeleton};

fuzz_target!(|model: &[u8]| {
    let file = file_of(model);
    let Ok(description) = Description::read(&file) else {
        // A file that is no model is loaded as a whole, and left to ONNX Runtime.
        let _ = (Skeleton::of(&file, 0), ModelWithoutZipMap::of(&file));
        return;
    };
    assert!(description.external.len() <= 4096);
    for place in &description.external {
        let segments: Vec<&str> = place.as_str().split('/').collect();
        let is_inside = |name: &&str| !name.is_empty() && *name != "." && *name != "..";
        assert!(segments.iter().all(is_inside), "{place:?}");
    }
    let _ = (description.mark(), description.at_load());
    let length = model.len() as u64;
    if let Some(skeleton) = Skeleton::of(&file, 0) {
        for weight in &skeleton.weights {
            assert!(!weight.name.is_empty() && weight.bytes.start <= weight.bytes.end);
            assert!(weight.bytes.end <= length, "{weight:?} of {length}");
        }
        is_model(&skeleton.model, &description);
    }
    if let Some(stripped) = ModelWithoutZipMap::of(&file) {
        assert!(!stripped.outputs.is_empty());
        is_model(&stripped.model, &description);
    }
});

/// An unlinked temporary file with this content.
fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile_in("/dev/shm").expect("a file in memory");
    file.write_all(bytes).expect("memory");
    file
}

/// A derived model is a valid model with the same description.
fn is_model(made: &[u8], description: &Description) {
    let again = Description::read(&file_of(made)).expect("a model");
    assert_eq!(again.metadata, description.metadata);
    assert!(again.external.is_subset(&description.external));
}
