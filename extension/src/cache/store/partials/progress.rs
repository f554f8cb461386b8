//! Progress of a partial download.
//!
//! Several connections write parts of a file, each part sequentially. So one count of bytes for each part describes
//! the progress. The table of counts follows the content in the same file, and is truncated when the content is
//! complete: content and progress cannot get separated. A count is increased after its bytes have been written. After
//! a kill it may be too small, never too large.
//!
//! A file of a single part has no table. The file grows, and its length is the count.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

/// Maximum number of parts: the limit of S3's multipart uploads. Bounds the table for any declared length.
const MAX_PARTS: u64 = 10_000;
/// Length of a count in the table, in bytes.
const WORD: u64 = 8;

/// Number of bytes written of each part of one file.
#[derive(Debug)]
pub(super) struct TransferProgress {
    size: u64,
    part_bytes: u64,
    counts: Vec<u64>,
}

impl TransferProgress {
    /// Progress of a file of `size` bytes, in parts of about `part_bytes`, whose first `prefix` bytes are written.
    pub(super) fn of_prefix(size: u64, part_bytes: u64, prefix: u64) -> Self {
        let part_bytes = part_bytes.max(size.div_ceil(MAX_PARTS)).max(1);
        let mut progress = Self {
            size,
            part_bytes,
            counts: Vec::new(),
        };
        progress.counts = (0..parts(size, part_bytes))
            .map(|index| {
                let range = progress.range(index);
                prefix.clamp(range.start, range.end) - range.start
            })
            .collect();
        progress
    }

    /// Reads the progress from a file with parts of any length; `None` if the table is invalid.
    pub(super) fn read(file: &File, size: u64) -> io::Result<Option<Self>> {
        let length = file.metadata()?.len();
        if length <= size {
            return Ok(Some(Self::of_prefix(size, size, length)));
        }
        let mut word = 0_u64.to_le_bytes();
        if length < size + 2 * WORD {
            return Ok(None);
        }
        file.read_exact_at(&mut word, length - WORD)?;
        let part_bytes = u64::from_le_bytes(word);
        let table = length - size - WORD;
        if part_bytes == 0 || parts(size, part_bytes).checked_mul(WORD) != Some(table) {
            return Ok(None);
        }
        let mut progress = Self {
            size,
            part_bytes,
            counts: Vec::new(),
        };
        for index in 0..parts(size, part_bytes) {
            file.read_exact_at(&mut word, size + index * WORD)?;
            let count = u64::from_le_bytes(word);
            let range = progress.range(index);
            if count > range.end - range.start {
                return Ok(None);
            }
            progress.counts.push(count);
        }
        Ok(Some(progress))
    }

    /// Divides the progress of a single part into parts. Other progress keeps its parts.
    pub(super) fn divided(self, part_bytes: u64) -> Self {
        match self.counts[..] {
            [prefix] => Self::of_prefix(self.size, part_bytes, prefix),
            _ => self,
        }
    }

    /// Writes the table that [`TransferProgress::record`] updates.
    pub(super) fn lay_out(&self, file: &File) -> io::Result<()> {
        if self.counts.len() == 1 {
            return Ok(());
        }
        let behind = self.size + self.counts.len() as u64 * WORD;
        file.set_len(behind + WORD)?;
        let table: Vec<u8> = self
            .counts
            .iter()
            .flat_map(|count| count.to_le_bytes())
            .collect();
        file.write_all_at(&table, self.size)?;
        // Written last: the part length makes the table valid.
        file.write_all_at(&self.part_bytes.to_le_bytes(), behind)
    }

    /// Records that `bytes` bytes were written at `offset`, which must be the end of what its part has.
    pub(super) fn record(&mut self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        let index = self.index(offset);
        let start = self.range(index).start;
        let count = &mut self.counts[position(index)];
        debug_assert_eq!(start + *count, offset, "a part is written in order");
        *count += bytes;
        if parts(self.size, self.part_bytes) == 1 {
            return Ok(());
        }
        let count = *count;
        file.write_all_at(&count.to_le_bytes(), self.size + index * WORD)
    }

    /// Returns the number of bytes written.
    pub(super) fn downloaded(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the missing range of each incomplete part, in order.
    pub(super) fn missing(&self) -> Vec<Range<u64>> {
        let rests = (0..).zip(&self.counts).map(|(index, count)| {
            let range = self.range(index);
            range.start + count..range.end
        });
        rests.filter(|rest| !rest.is_empty()).collect()
    }

    /// Returns the end of the written bytes from `at` on, at most the end of the part; `at` if its byte is missing.
    pub(super) fn available_until(&self, at: u64) -> u64 {
        let index = self.index(at);
        (self.range(index).start + self.counts[position(index)]).max(at)
    }

    fn index(&self, at: u64) -> u64 {
        (at / self.part_bytes).min(self.counts.len() as u64 - 1)
    }

    fn range(&self, index: u64) -> Range<u64> {
        let start = index * self.part_bytes;
        let last = index + 1 == parts(self.size, self.part_bytes);
        start..if last {
            self.size
        } else {
            start + self.part_bytes
        }
    }
}

/// Returns the number of parts, at least one. A shorter rest belongs to the last part, since it is not worth a request.
fn parts(size: u64, part_bytes: u64) -> u64 {
    (size / part_bytes).max(1)
}

fn position(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_is_divided_into_parts_of_about_one_length() {
        let missing = |size, part| TransferProgress::of_prefix(size, part, 0).missing();
        assert_eq!(missing(0, 8), []);
        assert_eq!(missing(7, 4), vec![0..7]);
        assert_eq!(missing(8, 4), [0..4, 4..8]);
        assert_eq!(missing(15, 4), [0..4, 4..8, 8..15]);
        assert_eq!(missing(19, 8), [0..8, 8..19]);
        assert_eq!(missing(1 << 60, 8).len() as u64, MAX_PARTS - 1);
    }

    #[test]
    fn a_prefix_is_divided_into_parts() {
        let progress = TransferProgress::of_prefix(24, 24, 9).divided(8);
        assert_eq!(progress.missing(), [9..16, 16..24]);
        let progress = TransferProgress::of_prefix(24, 24, 5).divided(8);
        assert_eq!(progress.missing(), [5..8, 8..16, 16..24]);
    }

    #[test]
    fn an_invalid_table_is_not_read() {
        let file = tempfile::tempfile().unwrap();
        TransferProgress::of_prefix(24, 8, 3)
            .lay_out(&file)
            .unwrap();
        let read = |size| TransferProgress::read(&file, size).unwrap();
        assert_eq!(read(24).unwrap().missing(), [3..8, 8..16, 16..24]);
        assert!(read(23).is_none(), "another length");
        file.write_all_at(&[9], 24).unwrap();
        assert!(read(24).is_none(), "more than the length of the part");
        file.write_all_at(&[3], 24).unwrap();
        file.write_all_at(&[0; 8], 48).unwrap();
        assert!(read(24).is_none(), "no part length");
    }

    proptest! {
        #[test]
        fn another_process_reads_the_recorded_progress(
            size in 0..100_u64,
            part in 1..40_u64,
            steps in proptest::collection::vec((0..100_usize, 1..20_u64), 0..30),
        ) {
            let file = tempfile::tempfile().unwrap();
            let mut progress = TransferProgress::of_prefix(size, part, 0);
            progress.lay_out(&file).unwrap();
            let mut here = vec![false; usize::try_from(size).unwrap()];
            for (which, bytes) in steps {
                let missing = progress.missing();
                let Some(rest) = missing.get(which % missing.len().max(1)) else {
                    break;
                };
                let bytes = bytes.min(rest.end - rest.start);
                let written = vec![1; usize::try_from(bytes).unwrap()];
                file.write_all_at(&written, rest.start).unwrap();
                progress.record(&file, rest.start, bytes).unwrap();
                for at in rest.start..rest.start + bytes {
                    here[usize::try_from(at).unwrap()] = true;
                }
            }
            let read = TransferProgress::read(&file, size).unwrap().unwrap().divided(part);
            prop_assert_eq!(read.missing(), progress.missing());
            let missing = |at: u64| progress.missing().iter().any(|rest| rest.contains(&at));
            for (at, here) in (0..).zip(&here) {
                prop_assert_eq!(missing(at), !here);
                prop_assert_eq!(progress.available_until(at) > at, *here);
            }
            prop_assert_eq!(progress.downloaded(), here.iter().filter(|here| **here).count() as u64);
        }
    }
}
