//! The rooms of `src`, and what stands between them: which crate is named where, and which room uses which.
//!
//! Read from the sources, comments left out. Tests inside the rooms are held to the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What may be named only in certain files, and which; a path that ends in `/` means all files below it.
const FENCES: &[(&[&str], &[&str])] = &[
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
        ],
    ),
    (&["hyper_rustls", "rustls"], &["aws/"]),
    (&["model_socket"], &["server/acceptor.rs"]),
    (
        &["lambda_extension", "lambda_runtime_api_client"],
        &["lifecycle/lambda.rs"],
    ),
    (&["tracing_subscriber"], &["log.rs"]),
    (&["libc"], &["sys.rs", "sys/"]),
    (&["zstd_safe"], &["fetch/"]),
];

/// What is written in only these files, name or not.
const WORDS: &[(&[&str], &[&str])] = &[
    (
        &[
            "env::var",
            "env::set_var",
            "env::remove_var",
            "env::current_exe",
            "env::{",
        ],
        // The engine's tests are told by the environment which library to open.
        &["config/environment.rs", "engine/tests.rs"],
    ),
    (
        &["unsafe {", "unsafe fn", "unsafe impl", "unsafe_code"],
        &[
            "sys.rs",
            "sys/directory.rs",
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

/// The rooms, from the top down, and whom each uses. It uses what those use as well: arrows lead only down.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["app", "help", "log"]),
    ("app", &["lifecycle", "server", "source"]),
    ("lifecycle", &["reload", "metrics"]),
    ("server", &["protocol", "scheduler", "metrics"]),
    // A golden example's inputs are read, and held against the model's signature, as a request's are.
    ("reload", &["fetch", "models", "protocol"]),
    ("scheduler", &["models", "protocol"]),
    ("fetch", &["cache", "source"]),
    ("models", &["engine"]),
    ("source", &["aws"]),
    ("metrics", &["aws"]),
    ("cache", &[]),
    ("aws", &[]),
    ("engine", &[]),
    ("protocol", &[]),
    ("help", &[]),
    ("log", &[]),
];

/// Rooms that anybody may use, and that use only each other.
const LEAVES: &[&str] = &[
    "config",
    "excerpt",
    "ids",
    "clock",
    "manifest",
    "onnx",
    "tensor",
    "status",
    "sys",
    "request_memory",
    "test_util",
];

/// Whoever observes something names the metric: the names alone are everybody's.
const NAMES_OF_METRICS: &str = "metrics::defs";

/// Every source file: its path below `src`, and its text without comments.
fn sources() -> BTreeMap<String, String> {
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

/// Whether `file` is one of `allowed`.
fn is_in(file: &str, allowed: &[&str]) -> bool {
    let matches =
        |place: &&str| file == *place || (place.ends_with('/') && file.starts_with(place));
    allowed.iter().any(matches)
}

/// Whether `code` goes into the crate or module `name`, as in `name::…`, and not into one that ends so.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::")).any(|(start, _)| {
        !code[..start].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before))
    })
}

#[test]
fn each_library_is_named_in_its_room_alone() {
    let sources = sources();
    for (libraries, allowed) in FENCES {
        for library in *libraries {
            let found: Vec<&String> = sources
                .iter()
                .filter(|(_, code)| names(code, library))
                .map(|(file, _)| file)
                .collect();
            assert!(
                !found.is_empty(),
                "{library} is named nowhere: a fence around nothing"
            );
            let outside: Vec<_> = found.iter().filter(|file| !is_in(file, allowed)).collect();
            assert!(
                outside.is_empty(),
                "{library} is named in {outside:?}, beside {allowed:?}"
            );
        }
    }
}

#[test]
fn environment_and_unsafe_stay_where_they_belong() {
    for (words, allowed) in WORDS {
        for (file, code) in sources() {
            if is_in(&file, allowed) {
                continue;
            }
            for word in *words {
                assert!(
                    !code.contains(word),
                    "{word:?} in {file}, beside {allowed:?}"
                );
            }
        }
    }
}

#[test]
fn rooms_use_only_rooms_below_them() {
    let reach = reach();
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, code) in sources() {
        if file == "lib.rs" {
            continue;
        }
        let room = room_of(&file);
        assert!(
            reach.contains_key(room) || LEAVES.contains(&room),
            "{room} stands in no plan"
        );
        used.entry(room.to_owned()).or_default().extend(uses(&code));
    }
    let mut wrong = Vec::new();
    for (room, targets) in &used {
        for target in targets {
            let name = target.split("::").next().unwrap_or(target);
            let may = name == room
                || LEAVES.contains(&name)
                || target == NAMES_OF_METRICS
                || reach
                    .get(room.as_str())
                    .is_some_and(|below| below.contains(name));
            if !may {
                wrong.push(format!("{room} uses {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "against the arrows: {wrong:?}");
}

/// For each room all that stands below it.
fn reach() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    // From the bottom up, so that what is below is complete when it is asked for.
    let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (room, direct) in ARROWS.iter().rev() {
        let mut below: BTreeSet<&str> = direct.iter().copied().collect();
        for next in *direct {
            let of_next = reach.get(next);
            below.extend(of_next.unwrap_or_else(|| panic!("{room} points up, to {next}")));
        }
        reach.insert(room, below);
    }
    reach
}

fn room_of(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The modules that `code` names from the crate's root: `a`, or `metrics::defs` where it is the names alone.
fn uses(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for prefix in ["crate::", "model_sidecar::"] {
        for (start, _) in code.match_indices(prefix) {
            let rest = &code[start + prefix.len()..];
            if let Some(group) = rest.strip_prefix('{') {
                let group = group.split("};").next().unwrap_or(group);
                found.extend(group_members(group));
            } else {
                found.insert(target(rest));
            }
        }
    }
    found
}

/// The first parts of the members of `{a::b, c::{d, e}, f}`, given without its first brace.
fn group_members(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut members = vec![String::new()];
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => members.push(String::new()),
            _ => {}
        }
        if let Some(last) = members.last_mut().filter(|_| character != ',' || depth > 0) {
            last.push(character);
        }
    }
    members
        .iter()
        .map(|member| target(member.trim()))
        .filter(|member| !member.is_empty())
        .collect()
}

fn target(path: &str) -> String {
    let identifier = |text: &str| -> String {
        text.chars()
            .take_while(|character| character.is_alphanumeric() || *character == '_')
            .collect()
    };
    let first = identifier(path);
    let second = path[first.len()..].strip_prefix("::").map(identifier);
    if first == "metrics" && second.as_deref() == Some("defs") {
        NAMES_OF_METRICS.to_owned()
    } else {
        first
    }
}

#[test]
fn the_reading_of_sources_finds_what_it_should() {
    let code = "use crate::{ids::Digest, models::{Loaded, Models}, sys};\nuse crate::metrics::defs;\ncrate::clock::x()";
    let expected = ["clock", "ids", "metrics::defs", "models", "sys"];
    assert_eq!(uses(code).into_iter().collect::<Vec<_>>(), expected);
    assert!(names("use ort::session;", "ort") && names("(ort::Error", "ort"));
    assert!(!names("use aws_sdk_s3::x", "sdk_s3") && !names("use sort::x;", "ort"));
}
