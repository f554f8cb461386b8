//! Values of a parsed manifest.

use super::super::*;
use super::fixtures::{SHA, file, full, whole, with, without};
use crate::tensor::{Datatype, Kind};

fn parse(manifest: &serde_json::Value) -> Manifest {
    Manifest::parse(manifest.to_string().as_bytes()).unwrap()
}

#[test]
fn all_fields_are_read() {
    let manifest = parse(&whole());
    let (name, version) = manifest.current();
    assert_eq!(name.as_str(), "7");
    assert_eq!(version.folder.as_str(), "versions/7");
    assert_eq!(version.model, version.files[0]);
    assert_eq!(version.labels, ["legit", "fraud"]);
    assert_eq!(version.size(), 24);
    let [model, weights] = &version.files[..] else {
        panic!("two files")
    };
    assert_eq!(version.path_of(model).as_str(), "versions/7/model.onnx.zst");
    assert_eq!(model.laid_out().as_str(), "model.onnx");
    assert!(model.is_compressed() && !weights.is_compressed());
    assert_eq!(weights.laid_out().as_str(), "data/weights.bin");
    assert_eq!((weights.size, weights.digest.as_str()), (12, SHA));

    let signature = version.signature.as_ref().unwrap();
    let column = Kind::Tensor {
        datatype: Datatype::Fp32,
        shape: vec![None, Some(1)],
    };
    assert_eq!(signature.input("x").unwrap().kind, column);
    assert_eq!(signature.outputs[1].kind, Kind::Other("MAP".to_owned()));

    let [golden] = &version.golden[..] else {
        panic!("one example")
    };
    let input = &golden.inputs[0];
    assert_eq!((&*input.name, &*input.shape), ("x", &[2, 1][..]));
    assert_eq!(input.data, "[[0.5],[null]]");
    assert_eq!(
        golden.tolerance("x86_64").relative.to_bits(),
        0.25_f64.to_bits()
    );
    assert_eq!(
        golden.tolerance("aarch64").absolute.to_bits(),
        0.5_f64.to_bits()
    );
    let expected = Baseline {
        of: Observed::Input("x".to_owned()),
        column: Some(0),
        edges: vec![-1.0, 0.5, 2.0],
        counts: vec![3, 4],
        nulls: 2,
    };
    assert_eq!(version.baseline, [expected]);

    let canary = manifest.canary().unwrap();
    assert_eq!(canary.version.as_str(), "7");
    assert_eq!(canary.percent.to_bits(), 2.5_f64.to_bits());
    let stable = manifest.labels().version("stable");
    assert_eq!(stable.unwrap().as_str(), "6.1");
    assert_eq!(manifest.labels().version("beta"), None);
}

#[test]
fn missing_fields_have_defaults() {
    let (_, version) = parse(&whole())
        .version("6.1")
        .map(|(n, v)| (n.clone(), v.clone()))
        .unwrap();
    assert_eq!(version.folder.as_str(), "6.1");
    assert_eq!(version.model.path.as_str(), "model.ort");
    assert!(version.labels.is_empty() && version.golden.is_empty() && version.baseline.is_empty());
    assert_eq!(version.signature, None);
    let plain = parse(&without("/versions/7/golden/0/tolerance"));
    let golden = &plain.current().1.golden[0];
    assert_eq!(golden.tolerance("x86_64"), Tolerance::default());
    assert_eq!(parse(&without("/previous")).previous(), None);
}

#[test]
fn a_version_is_found_by_its_name() {
    let manifest = parse(&whole());
    assert_eq!(manifest.previous().unwrap().0.as_str(), "6.1");
    assert_eq!(manifest.version("7").unwrap(), manifest.current());
    assert_eq!(
        manifest.version("5").unwrap_err().to_string(),
        "the manifest has no version \"5\"; its versions are 6.1, 7"
    );
}

#[test]
fn a_long_list_of_versions_is_shortened() {
    let mut manifest = whole();
    for number in 10..30 {
        let version = serde_json::json!({"files": [file("model.onnx")]});
        manifest["versions"][number.to_string()] = version;
    }
    let error = parse(&manifest).version("5").unwrap_err().to_string();
    assert!(
        error.ends_with("its versions are 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 and 12 more"),
        "{error}"
    );
}

#[test]
fn a_manifest_at_all_limits_is_read() {
    let manifest = parse(&full());
    assert_eq!(manifest.versions().count(), 100);
    let (_, version) = manifest.current();
    assert_eq!((version.files.len(), version.golden.len()), (1_000, 100));
}

#[test]
fn digests_ignore_case() {
    let upper = with("/versions/7/files/0/sha256", SHA.to_uppercase().into());
    assert_eq!(parse(&upper), parse(&whole()));
}

#[test]
fn only_one_zst_suffix_is_removed() {
    let twice = parse(&with("/versions/7/files/1/path", "w.zst.zst".into()));
    assert_eq!(twice.current().1.files[1].laid_out().as_str(), "w.zst");
}

#[test]
fn tolerance_is_absolute_plus_relative() {
    let tolerance = Tolerance {
        absolute: 0.5,
        relative: 0.25,
    };
    for (expected, got, near) in [
        (0.0, 0.5, true),
        (0.0, 0.51, false),
        (4.0, 2.5, true),
        (4.0, 2.4, false),
        (-4.0, -5.5, true),
        (-4.0, -5.6, false),
        (0.0, -0.0, true),
        (f64::NAN, f64::NAN, true),
        (f64::NAN, 1.0, false),
        (1.0, f64::NAN, false),
        (f64::INFINITY, f64::INFINITY, true),
        (f64::INFINITY, f64::NEG_INFINITY, false),
        (f64::INFINITY, 1.0, false),
        (1.0, f64::INFINITY, false),
    ] {
        assert_eq!(
            tolerance.admits(expected, got),
            near,
            "{got} for {expected}"
        );
    }
}

#[test]
fn edges_have_the_exact_value_of_their_digits() {
    // The nearest number to each text, which a parser that rounds twice misses by one bit.
    let texts = [
        "0.30000001192092896",
        "9007199254740993",
        "123456789.01234567891",
        "1.7976931348623157e308",
    ];
    let text = whole().to_string();
    assert!(text.contains("[-1,0.5,2]"));
    for digits in texts {
        let manifest = text.replace("[-1,0.5,2]", &format!("[-1,0.1,{digits}]"));
        let manifest = Manifest::parse(manifest.as_bytes()).unwrap();
        let edge = manifest.current().1.baseline[0].edges[2];
        assert_eq!(edge.to_bits(), digits.parse::<f64>().unwrap().to_bits());
    }
}

#[test]
fn a_baseline_is_serialized_as_it_is_written() {
    for written in [
        r#"{"input":"x","column":0,"edges":[-1.0,0.1,2.0],"counts":[3,4],"nulls":2}"#,
        r#"{"output":"y","edges":[0.30000001192092896,1e+300],"counts":[1]}"#,
    ] {
        let baseline: Baseline = serde_json::from_str(written).unwrap();
        assert_eq!(serde_json::to_string(&baseline).unwrap(), written);
    }
}
