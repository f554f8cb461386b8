//! Read-ahead of the bundled ONNX Runtime on a host that has not run the function before.
//!
//! Lambda loads layers lazily. For each page that is missing, the kernel reads the 128 KB around it when the page is
//! used. More than half of these bytes are not needed, and no read begins before the previous page was used. The pages
//! that every start of the library uses are known, however. They are read ahead on a thread of its own, in the order of
//! their use.
//!
//! `make read-ahead` records the pages of a library in a file of this module. Its first line is the size of the library
//! in bytes. Each further line is a range: its first page, and its number of pages. Another library is not read ahead.

use std::fs::File;
use std::path::Path;

use crate::sys;

/// Pages of the library that the layer has.
const RECORD: &str = if cfg!(target_arch = "aarch64") {
    AARCH64
} else {
    X86_64
};
const AARCH64: &str = include_str!("read_ahead/aarch64.txt");
const X86_64: &str = include_str!("read_ahead/x86_64.txt");
/// Size of a page in bytes.
const PAGE: u64 = 4096;

/// Begins to read ahead what the start of this library needs, if it is the recorded one and not in the page cache.
/// Returns immediately. A failure only means that pages are read when they are used.
pub fn read_ahead(library: &Path) {
    let library = library.to_owned();
    let thread = std::thread::Builder::new().name("read-ahead".to_owned());
    let _ = thread.spawn(move || {
        let file = File::open(&library).ok()?;
        let (size, ranges) = parse(RECORD)?;
        let is_recorded = file.metadata().ok()?.len() == size;
        if is_recorded && !is_cached(&file, &ranges) {
            for (first, count) in ranges {
                sys::read_ahead(&file, first * PAGE, count * PAGE);
            }
        }
        Some(())
    });
}

/// Returns `true` if a process on this host has used the library: its first and last pages are in the page cache.
fn is_cached(file: &File, ranges: &[(u64, u64)]) -> bool {
    let ends = [ranges.first(), ranges.last()];
    let mut ends = ends.into_iter().flatten();
    ends.all(|(page, _)| sys::is_cached(file, page * PAGE))
}

/// Parses a record: the size in bytes, and ranges of pages.
fn parse(record: &str) -> Option<(u64, Vec<(u64, u64)>)> {
    let mut lines = record.lines();
    let size = lines.next()?.parse().ok()?;
    let ranges = lines.map(|line| {
        let (first, count) = line.split_once(' ')?;
        Some((first.parse().ok()?, count.parse().ok()?))
    });
    Some((size, ranges.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::library;

    #[test]
    fn the_record_is_of_the_bundled_library() {
        let (size, _) = parse(RECORD).unwrap();
        let file = File::open(library()).expect("run `make onnxruntime` first");
        assert_eq!(
            size,
            file.metadata().unwrap().len(),
            "run `make read-ahead`"
        );
    }

    #[test]
    fn records_have_each_page_once_and_less_than_half_of_the_library() {
        for record in [AARCH64, X86_64] {
            let (size, mut ranges) = parse(record).unwrap();
            ranges.sort_unstable();
            for pair in ranges.windows(2) {
                assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?} overlap");
            }
            let (first, count) = ranges.last().unwrap();
            assert!((first + count - 1) * PAGE < size);
            let pages: u64 = ranges.iter().map(|(_, count)| count).sum();
            assert!(pages * PAGE < size / 2, "{pages} pages");
        }
    }

    #[test]
    fn a_record_that_is_cut_short_is_none() {
        assert_eq!(
            parse("4096\n0 1\n7 2\n"),
            Some((4096, vec![(0, 1), (7, 2)]))
        );
        assert_eq!(parse("4096\n0 1\n7\n"), None);
        assert_eq!(parse(""), None);
    }
}
