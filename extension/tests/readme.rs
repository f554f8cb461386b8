//! The README's tables against the code: every variable and every metric, word for word, in the same order.

use std::path::Path;

use model_sidecar::config::VARIABLES;
use model_sidecar::metrics::defs;

/// The rows of the table under this heading, each cell without its spaces.
fn table(heading: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(path).expect("the README is there");
    let mut lines = readme.lines().skip_while(|line| *line != heading).skip(1);
    let section: Vec<&str> = lines
        .by_ref()
        .take_while(|line| !line.starts_with("## "))
        .collect();
    let rows = section.into_iter().filter(|line| line.starts_with('|'));
    // The first two are the table's head.
    rows.skip(2)
        .map(|row| {
            let cells = row.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

#[test]
fn the_table_of_variables_is_the_codes() {
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
    assert_eq!(table("## Configuration"), code);
}

#[test]
fn the_table_of_metrics_is_the_codes() {
    let code: Vec<Vec<String>> = defs::ALL
        .iter()
        .map(|metric| {
            vec![
                format!("`{}`", metric.name),
                metric.unit.name().to_owned(),
                metric.meaning.to_owned(),
            ]
        })
        .collect();
    assert_eq!(table("## Metrics"), code);
}
