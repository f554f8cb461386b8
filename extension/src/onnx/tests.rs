//! Compares descriptions of real models with those of the onnx package, and tests files that are not models.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use super::*;

mod properties;
mod quantize;
mod skeleton;
mod stored_weight;
mod strip_zipmap;
pub(crate) mod write;

use write::{bytes, join, number, tensor};

fn models() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/models")
}

fn file(name: &str) -> File {
    File::open(models().join(name)).unwrap()
}

/// Returns a file with this content.
fn holding(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

fn read(content: &[u8]) -> Result<Description, OnnxError> {
    Description::read(&holding(content))
}

fn parse_error(content: &[u8]) -> String {
    read(content).unwrap_err().to_string()
}

#[test]
fn descriptions_match_those_of_the_onnx_package() {
    let expected = std::fs::read(models().join("external/external.json")).unwrap();
    let expected: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&expected).unwrap();
    assert!(expected.len() >= 9);
    for (name, expected) in expected {
        let locations: Vec<&str> = expected["external"]
            .as_array()
            .unwrap()
            .iter()
            .map(|location| location.as_str().unwrap())
            .collect();
        let found = Description::read(&file(&format!("external/{name}")));
        if name == "above.onnx" || name == "absolute.onnx" {
            let error = found.unwrap_err().to_string();
            let beginning = format!(
                "cannot use the external data file {:?} of tensor \"w\"; allowed",
                locations[0]
            );
            assert!(error.starts_with(&beginning), "{error}");
            assert!(error.contains("inside the model's own folder"), "{error}");
            continue;
        }
        let found = found.unwrap();
        assert_eq!(found.format, Format::Onnx, "{name}");
        let paths: Vec<&str> = found.external.iter().map(FilePath::as_str).collect();
        if name == "odd.onnx" {
            // Paths are normalized as every file system reads them.
            assert_eq!(locations, [".//odd/./weights.bin"]);
            assert_eq!(paths, ["odd/weights.bin"]);
        } else {
            assert_eq!(paths, locations, "{name}");
        }
        for path in paths {
            assert!(models().join("external").join(path).is_file(), "{path}");
        }
        let metadata: BTreeMap<String, String> =
            serde_json::from_value(expected["metadata"].clone()).unwrap();
        assert_eq!(found.metadata, metadata, "{name}");
    }
}

#[test]
fn small_models_have_no_external_data() {
    let mut seen = 0;
    for entry in std::fs::read_dir(models()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.extension().is_none_or(|extension| extension != "onnx") {
            continue;
        }
        let found = Description::read(&File::open(&path).unwrap());
        if name == "garbage.onnx" || name == "truncated.onnx" {
            assert!(matches!(found, Err(OnnxError::NotOnnx { .. })), "{name}");
        } else {
            assert_eq!(found.unwrap().external, BTreeSet::new(), "{name}");
        }
        seen += 1;
    }
    assert!(seen > 20);
}

#[test]
fn work_is_fixed_if_every_operator_has_fixed_work() {
    for (name, is_fixed) in [("wine-v1.onnx", true), ("slow.onnx", false)] {
        let description = Description::read(&file(name)).unwrap();
        assert_eq!(description.has_fixed_work, is_fixed, "{name}");
    }
    let relu = || write::node("Relu", &["x"], &["y"]);
    let of = |nodes: &[Vec<u8>], behind: Vec<u8>| {
        let nodes: Vec<_> = nodes.iter().map(|node| bytes(1, node)).collect();
        let model = join([write::model(&nodes), behind]);
        read(&model).unwrap().has_fixed_work
    };
    let in_domain = |name: &str| join([relu(), bytes(7, name.as_bytes())]);
    assert!(of(&[relu(), in_domain("ai.onnx")], Vec::new()));
    assert!(!of(&[in_domain("com.example"), relu()], Vec::new()));
    let range = write::node("Range", &["a", "b", "c"], &["y"]);
    assert!(!of(&[relu(), range.clone(), relu()], Vec::new()));
    // In a subgraph, and in a function.
    let attribute = bytes(6, &bytes(1, &range));
    let inside = join([relu(), bytes(5, &attribute)]);
    assert!(!of(&[inside], Vec::new()));
    let function = bytes(25, &bytes(7, &relu()));
    assert!(!of(&[relu()], function));
}

#[test]
fn the_ort_format_is_detected_by_content() {
    let found = Description::read(&file("external/one-file.ort")).unwrap();
    assert_eq!(found.format, Format::Ort);
    // The same letters at the same position are the name of a producer here.
    let model = join([number(1, 10), bytes(2, b"ORTM"), bytes(7, b"")]);
    assert_eq!(model[4..8], *b"ORTM");
    assert_eq!(read(&model).unwrap().format, Format::Onnx);
}

#[test]
fn files_that_are_not_models_are_rejected_with_their_beginning() {
    assert_eq!(parse_error(b""), "the model file is empty");
    let page = parse_error(b"<!DOCTYPE html>\n<html lang=\"en\"></html>");
    assert_eq!(
        page,
        "cannot parse the file as ONNX: at byte 0, a field has an unknown wire type; the file begins with \"<!DOCTYPE \
         html>\\n<html lang=\\\"en\\\">\""
    );
    let pointer = parse_error(b"version https://git-lfs.github.com/spec/v1\noid sha256:1");
    assert!(pointer.contains("\"version https://git-lfs"), "{pointer}");
    let zstd = parse_error(b"\x28\xb5\x2f\xfd\x24\x00\x01\x00\x00");
    assert!(zstd.contains("the bytes 28 b5 2f fd"), "{zstd}");
    let no_graph = parse_error(&join([number(1, 10), bytes(2, b"somebody")]));
    assert!(no_graph.contains("at byte 12, the file ends without a graph"));
}

#[test]
fn a_truncated_model_is_rejected_with_the_position() {
    let model = bytes(7, &bytes(5, &tensor("w", None)));
    let text = parse_error(&model[..model.len() - 4]);
    let left = model.len() - 6;
    let all = model.len() - 2;
    assert!(
        text.contains(&format!(
            "at byte 0, {all} bytes are declared and {left} remain"
        )),
        "{text}"
    );
}

#[test]
fn a_terabyte_of_weights_is_skipped() {
    let weights: u64 = 1 << 40;
    // `raw_data` in an initializer in the graph, followed by one more field of each.
    let behind = join([number(14, 1), bytes(13, &write::entry("location", "w.bin"))]);
    let mut raw = bytes(9, b"");
    raw.truncate(1);
    raw.extend(write::varint(weights));
    let initializer = raw.len() as u64 + weights + behind.len() as u64;
    let mut head = vec![5 << 3 | 2];
    head.extend(write::varint(initializer));
    let mut whole = vec![7 << 3 | 2];
    whole.extend(write::varint(head.len() as u64 + initializer));
    whole.extend(head);
    whole.extend(raw);
    let mut file = holding(&whole);
    file.seek(SeekFrom::Current(1 << 40)).unwrap();
    file.write_all(&behind).unwrap();
    let found = Description::read(&file).unwrap();
    assert_eq!(found.external, BTreeSet::from([path("w.bin")]));
}

#[test]
fn deeply_nested_graphs_are_rejected() {
    let mut graph = Vec::new();
    for _ in 0..2_000 {
        graph = bytes(1, &bytes(5, &bytes(6, &graph)));
    }
    let error = parse_error(&bytes(7, &graph));
    assert!(error.contains("nested too deeply"), "{error}");
    let groups = [0xa3, 0x06].repeat(100_000);
    let error = parse_error(&groups);
    assert!(error.contains("nested too deeply"), "{error}");
}

#[test]
fn the_pieces_of_a_tensor_are_merged() {
    let pieces = |first: &[u8], second: &[u8]| {
        let attribute = join([bytes(5, first), bytes(5, second)]);
        read(&bytes(7, &bytes(1, &bytes(5, &attribute)))).unwrap()
    };
    let location = bytes(13, &write::entry("location", "w.bin"));
    let found = pieces(&location, &number(14, 1));
    assert_eq!(found.external, BTreeSet::from([path("w.bin")]));
    // The second piece resets the data location.
    let found = pieces(&join([location, number(14, 1)]), &number(14, 0));
    assert_eq!(found.external, BTreeSet::new());
}

#[test]
fn a_tensor_among_long_lists_of_numbers_is_found() {
    // More than a buffer of each list, with elements of every length.
    let floats =
        (0..3_000_u16).map(|value| join([vec![0x3d], f32::from(value).to_le_bytes().into()]));
    let ints =
        (0..3_000_u64).map(|value| number(8, value.wrapping_mul(u64::MAX / 3_000) >> (value % 64)));
    let strings = (0..300_usize).map(|length| bytes(9, &vec![0x3d; length]));
    let lists = [join(floats), join(ints), join(strings)];
    for place in 0..4 {
        let mut attribute = lists.to_vec();
        attribute.insert(place, bytes(5, &tensor("w", Some("w.bin"))));
        let model = bytes(7, &bytes(1, &bytes(5, &join(attribute))));
        let found = read(&model).unwrap();
        assert_eq!(found.external, BTreeSet::from([path("w.bin")]), "{place}");
        for cut in [1, 2, 3, 4, 5, 9_000] {
            assert!(read(&model[..model.len() - cut]).is_err(), "{cut}");
        }
    }
    // The last element ends beyond the attribute, in the next field.
    let beyond = bytes(
        7,
        &join([bytes(1, &bytes(5, &[0x3d, 0, 0])), bytes(2, b"graph")]),
    );
    assert!(read(&beyond).is_err());
}

#[test]
fn files_and_metadata_have_bounds() {
    let graph = |files: usize| {
        let name = |index: usize| tensor("w", Some(&format!("{index}.bin")));
        bytes(7, &join((0..files).map(|index| bytes(5, &name(index)))))
    };
    let most = read(&graph(scanner::MAX_FILES)).unwrap();
    assert_eq!(most.external.len(), scanner::MAX_FILES);
    let error = parse_error(&graph(scanner::MAX_FILES + 1));
    assert!(
        error.contains("more than 4096 external data files"),
        "{error}"
    );

    let long = "x".repeat(16 * 1024 + 1);
    let entries = [
        ("kept", "first"),
        ("long", long.as_str()),
        (long.as_str(), "of a long key"),
        ("kept", "last"),
    ];
    let entries = entries.map(|(key, value)| bytes(14, &write::entry(key, value)));
    let found = read(&join([graph(0), join(entries)])).unwrap();
    let kept = BTreeMap::from([("kept".to_owned(), "last".to_owned())]);
    assert_eq!(found.metadata, kept);

    let many = (0..100).map(|key| bytes(14, &write::entry(&key.to_string(), &long[..9_999])));
    let found = read(&join([graph(0), join(many)])).unwrap();
    let all: usize = found.metadata.iter().map(|(k, v)| k.len() + v.len()).sum();
    assert!((250_000..=256 * 1024).contains(&all), "{all}");
}

#[test]
fn a_mark_is_read_back_after_any_model() {
    let graph = bytes(7, b"");
    assert_eq!(read(&graph).unwrap().at_load(), AtLoad::Optimise);
    for at_load in [AtLoad::AsItIs, AtLoad::Map, AtLoad::Optimise] {
        let by = format!("onnxruntime 1.28.0, {}", "x".repeat(200));
        let mark = OptimisationMark { by, at_load };
        let found = read(&join([graph.clone(), mark.bytes()])).unwrap();
        assert_eq!(found.mark(), Some(mark));
        assert_eq!(found.at_load(), at_load);
    }
}

fn path(path: &str) -> FilePath {
    FilePath::parse(path).unwrap()
}
