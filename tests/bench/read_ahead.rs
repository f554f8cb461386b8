//! `make read-ahead`: records the pages of ONNX Runtime that its start uses, for the sidecar's read-ahead.
//!
//! [`bench-open`](bare/open.rs) starts the library and loads the smallest model. Its folder is mounted so that the
//! kernel reads single pages. The record has the pages in the order of their first use. Pages that are at most two
//! apart are one range.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use lab::slow_folder::SlowFolder;

const LIBRARY: &str = "libonnxruntime.so.1.28.0";
/// Size of a page in bytes.
const PAGE: u64 = 4096;
/// Maximum distance of two pages in a range.
const MAX_DISTANCE: u64 = 2;

/// Writes the record.
pub(crate) fn run(record: &Path) -> Result<ExitCode> {
    let root = lab::artifacts::workspace();
    let bare = root.join("target/bench/coldstart/bare");
    let slow = SlowFolder::by_page(&[("bare", &bare)])?;
    let folder = slow.folder("bare");
    let mut open = Command::new(folder.join("bench-open"));
    open.arg(folder.join(LIBRARY));
    open.arg(root.join("tests/models/wine-v1.onnx"));
    let output = open.output().context("cannot run bench-open")?;
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "bench-open failed: {problem}");

    // Page -> its place in the order of use.
    let mut used = HashMap::new();
    for read in slow.reads() {
        if read.path.ends_with(LIBRARY) {
            let first = read.offset / PAGE;
            for page in first..first + read.length.div_ceil(PAGE) {
                let place = used.len();
                used.entry(page).or_insert(place);
            }
        }
    }
    let ranges = ranges(&used);
    let mut text = format!("{}\n", std::fs::metadata(bare.join(LIBRARY))?.len());
    for (first, last) in &ranges {
        writeln!(text, "{first} {}", last - first + 1)?;
    }
    std::fs::write(record, text).with_context(|| format!("cannot write {}", record.display()))?;
    println!(
        "{}: {} pages in {} ranges",
        record.display(),
        used.len(),
        ranges.len()
    );
    Ok(ExitCode::SUCCESS)
}

/// First and last pages of all ranges, in the order of their first use.
fn ranges(used: &HashMap<u64, usize>) -> Vec<(u64, u64)> {
    let mut pages: Vec<_> = used.iter().collect();
    pages.sort_unstable();
    // Place of the first use, first page, last page.
    let mut ranges: Vec<(usize, u64, u64)> = Vec::new();
    for (&page, &place) in pages {
        match ranges.last_mut() {
            Some((first_use, _, last)) if page - *last <= MAX_DISTANCE => {
                *last = page;
                *first_use = place.min(*first_use);
            }
            _ => ranges.push((place, page, page)),
        }
    }
    ranges.sort_unstable();
    let ranges = ranges.into_iter();
    ranges.map(|(_, first, last)| (first, last)).collect()
}

#[test]
fn close_pages_are_one_range_at_the_place_of_the_first_use() {
    let used = [7, 100, 8, 2, 10, 3].into_iter().zip(0..).collect();
    assert_eq!(ranges(&used), [(7, 10), (100, 100), (2, 3)]);
}
