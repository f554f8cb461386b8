//! Boundaries between the modules of `src`: the files that may name a crate, the modules that may use each other, and
//! no cycles between files.
//!
//! Checked on the sources without comments. Test code keeps to the same direction between modules.

mod graph;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use graph::FileGraph;
use source::Source;

/// Crates, and the files that may name them; a path that ends in `/` stands for all files below it.
const CRATES: &[(&[&str], &[&str])] = &[
    (&["aws_sdk_s3"], &["source/s3.rs"]),
    (&["aws_sdk_cloudwatch"], &["metrics/cloudwatch.rs"]),
    (&["ort"], &["engine/", "engine.rs"]),
    (
        &["hyper", "hyper_util"],
        &[
            "server/",
            "server.rs",
            "aws/connections.rs",
            "aws/proxies.rs",
            "runtime/api.rs",
        ],
    ),
    (&["hyper_rustls", "rustls"], &["aws/"]),
    (
        &["model_expansion"],
        &["engine/weight_loader.rs", "engine/weight_loader/"],
    ),
    (&["model_socket"], &["server/acceptor.rs"]),
    (
        &["model_handler"],
        &[
            "app.rs",
            "app/parts.rs",
            "runtime.rs",
            "runtime/",
            "server/attachment.rs",
            "server/connection.rs",
            "server/context.rs",
            "server/routes/attach.rs",
        ],
    ),
    (
        &["lambda_extension", "lambda_runtime_api_client"],
        &["lifecycle/lambda.rs"],
    ),
    (&["tracing_subscriber"], &["log.rs"]),
    (&["libc"], &["sys.rs", "sys/"]),
    (&["zstd_safe"], &["fetch/"]),
];

/// Code, and the files that may hold it.
const RESTRICTED_CODE: &[(&[&str], &[&str])] = &[
    (
        &[
            "env::var",
            "env::set_var",
            "env::remove_var",
            "env::current_exe",
            "env::{",
        ],
        // The engine's tests read from the environment which library to open.
        &["config/environment.rs", "engine/tests.rs"],
    ),
    (
        &["unsafe {", "unsafe fn", "unsafe impl", "unsafe_code"],
        &[
            "sys.rs",
            "sys/directory.rs",
            "sys/file_cache.rs",
            "sys/huge_pages.rs",
            "main.rs",
            "engine/arena.rs",
            "engine/weight_loader.rs",
            "engine/weight_loader/",
            "engine/session.rs",
            "engine/values.rs",
            "engine/values/",
            "tensor/buffer.rs",
        ],
    ),
];

/// Modules from the top down, each with the modules that it may use. It may also use the modules that those may use,
/// and every leaf.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["app", "help", "log"]),
    ("app", &["runtime", "lifecycle", "server", "config"]),
    ("runtime", &["lifecycle", "server", "config"]),
    ("lifecycle", &["reload", "metrics"]),
    ("server", &["scheduler", "protocol", "status", "metrics"]),
    // The inputs of a golden example are decoded and checked like those of a request.
    (
        "reload",
        &[
            "fetch", "models", "protocol", "manifest", "status", "config",
        ],
    ),
    ("scheduler", &["models", "protocol", "config"]),
    ("fetch", &["cache", "source"]),
    ("models", &["engine"]),
    ("source", &["aws"]),
    ("metrics", &["aws"]),
    ("help", &["config"]),
    ("log", &["config"]),
    ("cache", &["manifest", "onnx"]),
    ("engine", &["onnx"]),
    ("protocol", &["manifest", "request_memory"]),
    ("aws", &[]),
];

/// Leaves, from the top down: every module above may use them, and they use only the leaves listed with them.
const LEAVES: &[(&str, &[&str])] = &[
    ("drift", &["manifest", "ids", "tensor"]),
    ("config", &["manifest", "ids", "sys"]),
    ("manifest", &["ids", "tensor"]),
    ("onnx", &["growing_file", "ids", "tensor"]),
    ("status", &["rollback", "clock", "ids", "tensor"]),
    ("rollback", &["ids", "tensor"]),
    ("tensor", &["excerpt"]),
    ("request_memory", &["sys"]),
    ("clock", &[]),
    ("growing_file", &[]),
    ("excerpt", &[]),
    ("ids", &[]),
    ("sys", &[]),
    ("test_util", &[]),
];

/// Names of metrics, which every module that observes something may use.
const METRIC_NAMES: [&str; 2] = ["metrics", "defs"];

/// Cycles between files that are still to be removed. Nothing may be added.
const KNOWN_CYCLES: &[&[&str]] = &[];

/// Source files by their paths below `src`, without comments.
fn texts() -> BTreeMap<String, String> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder of sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, files);
            } else {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).expect("a source file");
            let code: Vec<&str> = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            let name = file.strip_prefix(&root).expect("below the root");
            (name.to_string_lossy().into_owned(), code.join("\n"))
        })
        .collect()
}

fn sources() -> BTreeMap<String, Source> {
    let read = |(file, text): (String, String)| {
        let source = Source::read(&file, &text);
        (file, source)
    };
    texts().into_iter().map(read).collect()
}

/// Returns `true` if `file` is one of `allowed`.
fn is_in(file: &str, allowed: &[&str]) -> bool {
    let matches =
        |entry: &&str| file == *entry || (entry.ends_with('/') && file.starts_with(entry));
    allowed.iter().any(matches)
}

/// Returns `true` if `code` has a path that begins with `name`, and not with a longer name that ends in it.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::")).any(|(start, _)| {
        !code[..start].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before))
    })
}

#[test]
fn crates_are_named_only_in_their_files() {
    let texts = texts();
    for (crates, allowed) in CRATES {
        for name in *crates {
            let found: Vec<&String> = texts
                .iter()
                .filter(|(_, code)| names(code, name))
                .map(|(file, _)| file)
                .collect();
            assert!(!found.is_empty(), "no file names {name}: remove its entry");
            let outside: Vec<_> = found.iter().filter(|file| !is_in(file, allowed)).collect();
            assert!(
                outside.is_empty(),
                "{name} is named in {outside:?}; allowed: {allowed:?}"
            );
        }
    }
}

#[test]
fn environment_and_unsafe_code_stay_in_their_files() {
    for (words, allowed) in RESTRICTED_CODE {
        for (file, code) in texts() {
            if is_in(&file, allowed) {
                continue;
            }
            for word in *words {
                assert!(
                    !code.contains(word),
                    "{word:?} in {file}; allowed: {allowed:?}"
                );
            }
        }
    }
}

#[test]
fn modules_use_only_modules_below_them() {
    let reach = reach();
    let mut wrong = BTreeSet::new();
    for (file, source) in sources() {
        let Some(module) = source.module.first() else {
            continue;
        };
        let below = reach.get(module.as_str());
        let below = below.unwrap_or_else(|| panic!("{module} is in neither table"));
        for path in &source.paths {
            let [target, ..] = &path.segments[..] else {
                continue;
            };
            let is_metric_name = path.segments.iter().take(2).eq(METRIC_NAMES);
            if target != module && !is_metric_name && !below.contains(target.as_str()) {
                wrong.insert(format!("{file} uses {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "against the arrows: {wrong:#?}");
}

/// Modules with all modules that they may use.
fn reach() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut add = |table: &[(&'static str, &[&'static str])], common: &[&'static str]| {
        // From the bottom up, so that the modules below are complete.
        for (module, direct) in table.iter().rev() {
            let mut below: BTreeSet<&str> = common.iter().copied().collect();
            for next in *direct {
                let of_next = reach.get(next);
                below.extend(of_next.unwrap_or_else(|| panic!("{module} points up, to {next}")));
                below.insert(next);
            }
            reach.insert(module, below);
        }
    };
    let leaves: Vec<&str> = LEAVES.iter().map(|(leaf, _)| *leaf).collect();
    add(LEAVES, &["test_util"]);
    add(ARROWS, &leaves);
    reach
}

#[test]
fn files_have_no_cycles() {
    let graph = FileGraph::new(&sources());
    let cycles = graph.cycles();
    let known: Vec<BTreeSet<String>> = KNOWN_CYCLES
        .iter()
        .map(|files| files.iter().map(|&file| file.to_owned()).collect())
        .collect();
    let is_known = |group: &&BTreeSet<String>| known.iter().any(|known| group.is_subset(known));
    let new: Vec<String> = cycles
        .iter()
        .filter(|group| !is_known(group))
        .map(|group| format!("{} (all files: {group:?})", graph.describe(group)))
        .collect();
    assert!(new.is_empty(), "files use each other: {new:#?}");
    let is_there = |known: &&BTreeSet<String>| cycles.iter().any(|group| group.is_subset(known));
    let gone: Vec<_> = known.iter().filter(|known| !is_there(known)).collect();
    assert!(gone.is_empty(), "remove from KNOWN_CYCLES: {gone:?}");
}

#[test]
fn crate_names_are_told_from_longer_names() {
    assert!(names("use ort::session;", "ort") && names("(ort::Error", "ort"));
    assert!(!names("use aws_sdk_s3::x", "sdk_s3") && !names("use sort::x;", "ort"));
}
