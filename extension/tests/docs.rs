//! Tables of the documentation compared with the code: variables, metrics, calls and modules.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use model_sidecar::config::VARIABLES;
use model_sidecar::metrics::defs;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).expect("the file exists")
}

/// Rows of the table whose first column has this head, each cell without its spaces.
fn table(file: &str, head: &str) -> Vec<Vec<String>> {
    let text = read(file);
    let rows = text
        .lines()
        .skip_while(|line| !line.starts_with(&format!("| {head} |")))
        .take_while(|line| line.starts_with('|'));
    // The first two rows are the head of the table.
    rows.skip(2)
        .map(|row| {
            let cells = row.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

#[test]
fn the_page_on_configuration_lists_every_variable() {
    let code: Vec<Vec<String>> = VARIABLES
        .iter()
        .map(|variable| {
            vec![
                format!("`{}`", variable.name),
                variable.default.to_owned(),
                variable.meaning.to_owned(),
            ]
        })
        .collect();
    assert_eq!(table("docs/configuration.md", "variable"), code);
}

#[test]
fn the_readme_lists_ten_variables_with_their_defaults() {
    let rows = table("README.md", "variable");
    assert_eq!(rows.len(), 10);
    for row in rows {
        let variable = VARIABLES
            .iter()
            .find(|variable| row[0] == format!("`{}`", variable.name))
            .unwrap_or_else(|| panic!("there is no variable {}", row[0]));
        assert_eq!(row[1], variable.default, "{}", variable.name);
    }
}

#[test]
fn the_page_on_metrics_lists_every_metric() {
    let code: Vec<Vec<String>> = defs::ALL
        .iter()
        .map(|metric| {
            vec![
                format!("`{}`", metric.name),
                metric.unit.name().to_owned(),
                metric.set.name().to_owned(),
                metric.description.to_owned(),
            ]
        })
        .collect();
    assert_eq!(table("docs/metrics.md", "metric"), code);
}

/// The `OpenAPI` document is compared with the router in the tests of the server.
#[test]
fn the_page_on_the_api_lists_every_call() {
    let document: Value = serde_json::from_str(&read("docs/openapi.json")).expect("valid JSON");
    let paths = document["paths"].as_object().expect("an object of paths");
    let calls: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("an object of methods");
            methods
                .keys()
                .map(move |method| format!("`{} {path}`", method.to_uppercase()))
        })
        .collect();
    let listed: BTreeSet<String> = table("docs/api.md", "call")
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(listed, calls);
}

#[test]
fn the_page_on_architecture_lists_every_module() {
    let library = read("extension/src/lib.rs");
    let modules: BTreeSet<String> = library
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    let listed: BTreeSet<String> = table("docs/architecture.md", "module")
        .into_iter()
        .flat_map(|row| {
            let names = row[0]
                .split(", ")
                .map(|name| name.trim_matches('`').to_owned());
            names.collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(listed, modules);
}
