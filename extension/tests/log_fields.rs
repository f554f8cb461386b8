//! Fields of log lines in the sources, compared with the table of the documentation.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LEVELS: [&str; 5] = ["error!(", "warn!(", "info!(", "debug!(", "trace!("];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Product sources below a folder, without comment lines and files of tests.
fn sources(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        let is_test = path.file_stem().is_some_and(|name| name == "tests");
        if path.is_dir() && !is_test {
            sources(&path, texts);
        } else if path.extension().is_some_and(|end| end == "rs") && !is_test {
            let text = fs::read_to_string(&path).expect("a source file");
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            texts.push(code.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Names of the fields in the macros of `tracing`.
fn fields(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for level in LEVELS {
        for (start, _) in code.match_indices(level) {
            let before = code[..start].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || before == '_') {
                continue;
            }
            for argument in arguments(&code[start + level.len()..]) {
                let argument = argument.trim();
                if argument.starts_with('"') {
                    break;
                }
                let name = argument.trim_start_matches(['%', '?']);
                let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_'));
                let (name, rest) = name.split_at(end.unwrap_or(name.len()));
                let rest = rest.trim_start();
                if !name.is_empty() && (rest.is_empty() || rest.starts_with('=')) {
                    names.insert(name.to_owned());
                }
            }
        }
    }
    names
}

/// Splits the arguments of a macro at the commas outside of brackets and strings, up to its closing bracket.
fn arguments(text: &str) -> Vec<&str> {
    let (mut arguments, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    let (mut in_string, mut is_escaped) = (false, false);
    for (at, c) in text.char_indices() {
        if in_string {
            in_string = c != '"' || is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            continue;
        }
        match c {
            '"' => in_string = true,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => {
                arguments.push(&text[start..at]);
                break;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                arguments.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    arguments
}

#[test]
fn the_page_on_logs_lists_every_field() {
    let mut texts = Vec::new();
    for folder in ["extension/src", "handler/src"] {
        sources(&root().join(folder), &mut texts);
    }
    let used: BTreeSet<String> = texts.iter().flat_map(|code| fields(code)).collect();
    let page = fs::read_to_string(root().join("docs/logs.md")).expect("the page exists");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split('`').next());
    let listed: BTreeSet<String> = names.map(str::to_owned).collect();
    assert_eq!(used, listed);
    // Every JSON line has these.
    for name in ["timestamp", "level", "message"] {
        assert!(!used.contains(name), "{name}");
    }
}

#[test]
fn fields_are_found_and_values_and_messages_are_not() {
    let code = r#"
        info!(%model, rows = list.iter().map(|one| one.rows).max(), ?shape, "a, b = {c}", d = 1);
        tracing::warn!(
            messages = ?part.iter().map(|&place| f(place, ")")).collect::<Vec<_>>(),
            "text"
        );
        my_info!(other = 1);
        error!("{problem}");
    "#;
    let found: Vec<String> = fields(code).into_iter().collect();
    assert_eq!(found, ["messages", "model", "rows", "shape"]);
}
