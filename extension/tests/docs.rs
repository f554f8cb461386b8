//! Tables of the documentation compared with the code: every variable and every metric, word for word, in order.

use std::path::Path;

use model_sidecar::config::VARIABLES;
use model_sidecar::metrics::defs;

/// Rows of the first table of a page in `docs`, each cell without its spaces.
fn table(page: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(page);
    let page = std::fs::read_to_string(path).expect("the page exists");
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with('|'))
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
fn the_page_lists_every_variable() {
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
    assert_eq!(table("configuration.md"), code);
}

#[test]
fn the_page_lists_every_metric() {
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
    assert_eq!(table("metrics.md"), code);
}
