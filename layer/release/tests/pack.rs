//! `release pack`, its zips as Python's `zipfile` reads them, and the SBOM compared with `Cargo.lock`.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

const LIBRARY: &str = "layer/model-sidecar/lib/libonnxruntime.so.1.28.0";
const ELF: &[u8] = b"\x7fELF, as a program begins";

fn staged(reversed: bool, mode: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), reversed, mode);
    folder
}

/// Writes a layer and a handler in this order, with this mode.
fn write(folder: &Path, reversed: bool, mode: u32) {
    let mut files = [
        ("layer/extensions/model-sidecar", ELF),
        (LIBRARY, ELF),
        ("layer/model-sidecar/licenses/LICENSE", b"text"),
        ("handler/bootstrap", ELF),
    ];
    if reversed {
        files.reverse();
    }
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn pack(folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_release"))
        .args([
            "pack",
            "--arch",
            "x86_64",
            "--layer",
            "layer",
            "--handler",
            "handler",
            "--into",
            "out",
        ])
        .current_dir(folder)
        .output()
        .unwrap()
}

fn packed(folder: &Path) -> PathBuf {
    let output = pack(folder);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    folder.join("out")
}

/// Artefacts that the tests share.
fn artefacts() -> &'static Path {
    static OUT: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("release");
        // Left by an earlier run, or absent.
        let _ = fs::remove_dir_all(&folder);
        write(&folder, false, 0o600);
        packed(&folder)
    });
    &OUT
}

/// Entries of a zip, in its order: name, date, mode, and whether its CRC and content are intact.
fn entries(zip: &Path) -> Vec<(String, String, String)> {
    let list = "import sys, zipfile\n\
        z = zipfile.ZipFile(sys.argv[1])\n\
        assert z.testzip() is None\n\
        for i in z.infolist(): print(i.filename, '-'.join(map(str, i.date_time)), oct(i.external_attr >> 16), sep='|')";
    let output = Command::new("python3")
        .args(["-c", list])
        .arg(zip)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let fields = text.lines().map(|line| {
        let mut fields = line.split('|').map(str::to_owned);
        let mut next = || fields.next().unwrap();
        (next(), next(), next())
    });
    fields.collect()
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let other = staged(true, 0o700);
    let (one, other) = (artefacts(), packed(other.path()));
    let mut names: Vec<_> = fs::read_dir(one)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    let expected = [
        "SHA256SUMS",
        "model-handler-x86_64.zip",
        "model-sidecar-x86_64.cdx.json",
        "model-sidecar-x86_64.zip",
        "monitoring.template.json",
        "template-x86_64.yaml",
    ];
    assert_eq!(names, expected);
    for name in names {
        assert!(
            fs::read(one.join(&name)).unwrap() == fs::read(other.join(&name)).unwrap(),
            "{name:?} differs"
        );
    }
    let check = Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(one)
        .output()
        .unwrap();
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stdout)
    );
    assert_eq!(
        String::from_utf8(check.stdout).unwrap().lines().count(),
        expected.len() - 1
    );
}

#[test]
fn zips_have_lambdas_layout_fixed_dates_and_modes() {
    let out = artefacts();
    let expected = |names: &[(&str, &str)]| -> Vec<(String, String, String)> {
        let entry = |&(name, mode): &(&str, &str)| {
            (
                name.to_owned(),
                "1980-1-1-0-0-0".to_owned(),
                mode.to_owned(),
            )
        };
        names.iter().map(entry).collect()
    };
    let layer = [
        ("extensions/model-sidecar", "0o100755"),
        ("model-sidecar/lib/libonnxruntime.so.1.28.0", "0o100755"),
        ("model-sidecar/licenses/LICENSE", "0o100644"),
        ("model-sidecar/licenses/third-party.txt", "0o100644"),
    ];
    assert_eq!(
        entries(&out.join("model-sidecar-x86_64.zip")),
        expected(&layer)
    );
    let handler = [
        ("bootstrap", "0o100755"),
        ("licenses/LICENSE", "0o100644"),
        ("licenses/third-party.txt", "0o100644"),
        ("sample/wine.onnx", "0o100644"),
    ];
    assert_eq!(
        entries(&out.join("model-handler-x86_64.zip")),
        expected(&handler)
    );
}

#[test]
fn the_sbom_names_what_is_inside() {
    let out = artefacts();
    let document = fs::read_to_string(out.join("model-sidecar-x86_64.cdx.json")).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    let components = document["components"].as_array().unwrap();
    let component = |name: &str| {
        components
            .iter()
            .find(|component| component["name"] == name)
    };

    // Linked into the sidecar, into the handler, and into neither: a procedural macro, and a crate of the tests.
    let lock =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock")).unwrap();
    for name in ["aws-sdk-s3", "ort", "lambda_runtime"] {
        let component = component(name).unwrap();
        let checksum = component["hashes"][0]["content"].as_str().unwrap();
        let version = component["version"].as_str().unwrap();
        assert!(
            lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")),
            "{name} {version}"
        );
        assert!(
            lock.contains(&format!("checksum = \"{checksum}\"")),
            "{name} {checksum}"
        );
    }
    for name in ["async-trait", "s3s", "clap"] {
        assert!(component(name).is_none(), "{name}");
    }
    let library = &component("onnxruntime").unwrap()["components"][0];
    let sum = Command::new("sha256sum")
        .arg(out.with_file_name(LIBRARY))
        .output()
        .unwrap();
    let digest = library["hashes"][0]["content"].as_str().unwrap();
    assert!(
        String::from_utf8(sum.stdout).unwrap().starts_with(digest),
        "{digest}"
    );

    // Each dependency is a component.
    let references: Vec<&Value> = components
        .iter()
        .map(|component| &component["bom-ref"])
        .collect();
    for dependency in document["dependencies"].as_array().unwrap() {
        for on in dependency["dependsOn"].as_array().unwrap() {
            assert!(references.contains(&on), "{on}");
        }
    }
}

#[test]
fn licences_of_linked_packages_are_in_the_zip() {
    let out = artefacts();
    let read = "import sys, zipfile\n\
        sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read('model-sidecar/licenses/third-party.txt'))";
    let zip = out.join("model-sidecar-x86_64.zip");
    let output = Command::new("python3")
        .args(["-c", read])
        .arg(zip)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.lines()
            .any(|line| line.starts_with("ring 0.") && line.contains("ISC")),
        "{text}"
    );
    assert!(
        text.contains("Copyright (c) 2014-2021 Sean McArthur") || text.contains("Sean McArthur"),
        "hyper's licence"
    );
    assert!(
        !text
            .lines()
            .any(|line| line.starts_with("lambda_runtime 1.")),
        "the handler's package in the layer"
    );
}

#[test]
fn an_archive_above_its_ceiling_is_an_error() {
    let folder = staged(false, 0o644);
    fs::write(folder.path().join("handler/bootstrap"), vec![0; 3_000_000]).unwrap();
    let output = pack(folder.path());
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.starts_with("release: cannot write model-handler-x86_64.zip: 3"),
        "{error}"
    );
    assert!(
        error.ends_with("bytes unzipped, at most 3000000 are allowed\n"),
        "{error}"
    );
    assert!(!folder.path().join("out/model-handler-x86_64.zip").exists());
}

#[test]
fn a_layer_without_onnx_runtime_is_an_error() {
    let folder = staged(false, 0o644);
    fs::remove_file(folder.path().join(LIBRARY)).unwrap();
    let output = pack(folder.path());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        error,
        "release: layer has no model-sidecar/lib/libonnxruntime.so.1.28.0\n"
    );
}

#[test]
fn the_layer_of_operators_has_its_zip_and_its_sbom() {
    let folder = tempfile::tempdir().unwrap();
    let name = "_extensions_pydll.cpython-311-aarch64-linux-gnu.so";
    let module = folder
        .path()
        .join("layer/model-sidecar/operators")
        .join(name);
    fs::create_dir_all(module.parent().unwrap()).unwrap();
    let pack = || {
        Command::new(env!("CARGO_BIN_EXE_release"))
            .args([
                "operators",
                "--arch",
                "arm64",
                "--layer",
                "layer",
                "--into",
                "out",
            ])
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    let error = String::from_utf8(pack().stderr).unwrap();
    assert_eq!(
        error,
        "release: layer has no model-sidecar/operators/_extensions_pydll.*.so\n"
    );

    fs::write(&module, ELF).unwrap();
    let licenses = "model-sidecar/licenses/onnxruntime-extensions";
    let notices = ["FurtherNotices.txt", "LICENSE", "ThirdPartyNotices.txt"];
    fs::create_dir_all(folder.path().join("layer").join(licenses)).unwrap();
    for notice in notices {
        let error = String::from_utf8(pack().stderr).unwrap();
        assert!(
            error.starts_with("release: layer has no model-sidecar/licenses/"),
            "{error}"
        );
        fs::write(
            folder.path().join("layer").join(licenses).join(notice),
            "text",
        )
        .unwrap();
    }
    assert!(pack().status.success());
    let out = folder.path().join("out");
    let entry =
        |name: String, mode: &str| (name, "1980-1-1-0-0-0".to_owned(), format!("0o100{mode}"));
    let mut expected = notices
        .map(|notice| entry(format!("{licenses}/{notice}"), "644"))
        .to_vec();
    expected.push(entry(format!("model-sidecar/operators/{name}"), "755"));
    assert_eq!(
        entries(&out.join("model-sidecar-operators-arm64.zip")),
        expected
    );
    let sbom = fs::read(out.join("model-sidecar-operators-arm64.cdx.json")).unwrap();
    let sbom: Value = serde_json::from_slice(&sbom).unwrap();
    let package = &sbom["components"][0];
    let pin = fs::read_to_string("../operators/aarch64.txt").unwrap();
    let version = package["version"].as_str().unwrap();
    let digest = package["hashes"][0]["content"].as_str().unwrap();
    assert_eq!(
        pin.trim(),
        format!("onnxruntime-extensions=={version} --hash=sha256:{digest}")
    );
    assert_eq!(package["components"][0]["name"], name);
    assert_eq!(sbom["dependencies"][0]["dependsOn"][0], package["bom-ref"]);
    let sums = fs::read_to_string(out.join("SHA256SUMS")).unwrap();
    assert!(
        sums.contains("  model-sidecar-operators-arm64.zip\n"),
        "{sums}"
    );
}
