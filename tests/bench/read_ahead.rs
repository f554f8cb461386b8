//! `make read-ahead`: records the pages of ONNX Runtime that a start of the sidecar uses, for its read-ahead.
//!
//! The sidecar loads the smallest model from S3. The library's folder is mounted so that the kernel reads single pages.
//! The record has the pages in the order of their first use. Pages that are at most two apart are one range.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use lab::process::Process;
use lab::s3::S3Server;
use lab::slow_folder::SlowFolder;

const LIBRARY: &str = "libonnxruntime.so.1.28.0";
/// Size of a page in bytes.
const PAGE: u64 = 4096;
/// Maximum distance of two pages in a range.
const MAX_DISTANCE: u64 = 2;
const BUCKET: &str = "models";

/// Writes the record of the library in this layer. `emulator` is a command that runs programs of the layer's
/// architecture; without one, the machine runs them.
pub(crate) async fn run(record: &Path, layer: &Path, emulator: &[OsString]) -> Result<ExitCode> {
    let scratch = tempfile::tempdir()?;
    let lib = scratch.path().join("lib");
    std::fs::create_dir(&lib)?;
    let library = layer.join("model-sidecar/lib").join(LIBRARY);
    let mut content = std::fs::read(&library)
        .with_context(|| format!("cannot read {}; run `make layer`", library.display()))?;
    let size = content.len();
    // The sidecar does not read ahead a library of another size, which would hide the order of use.
    content.push(0);
    std::fs::write(lib.join(LIBRARY), content)?;
    let slow = SlowFolder::by_page(&[("lib", &lib)])?;

    let s3 = S3Server::start().await?;
    let model = lab::artifacts::workspace().join("tests/models/wine-v1.onnx");
    s3.put(BUCKET, "model.onnx", std::fs::read(model)?);
    let mut command = emulator.to_vec();
    command.push(layer.join("extensions/model-sidecar").into());
    let mut command = command.into_iter();
    let mut sidecar = Process::of(command.next().context("no program")?);
    for argument in command {
        sidecar = sidecar.arg(argument);
    }
    let sidecar = sidecar
        .envs(s3.env())
        .env("MODEL_URI", format!("s3://{BUCKET}/model.onnx"))
        .env("ORT_DYLIB_PATH", slow.folder("lib").join(LIBRARY))
        .env("MODEL_SOCKET", scratch.path().join("socket"))
        .env("MODEL_PORT", "0")
        .env("MODEL_CACHE_DIR", scratch.path().join("cache"))
        .start()?;
    sidecar.wait_for(" ready ").await?;

    // Page -> its place in the order of use.
    let mut used = HashMap::new();
    for read in slow.reads() {
        let first = read.offset / PAGE;
        for page in first..first + read.length.div_ceil(PAGE) {
            let place = used.len();
            used.entry(page).or_insert(place);
        }
    }
    let ranges = ranges(&used);
    let mut text = format!("{size}\n");
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
