//! How much of each part of a file is here.
//!
//! PartLimits are written by several connections, each in order from its beginning, so one count for each says it all.
//! The counts lie behind the file's own bytes, in the same file, and are cut off once it is whole: what they say and
//! what they speak of cannot be parted. A count goes up after the bytes that it counts, and what `write` has taken
//! outlives the process: it may say less than is here, never more.
//!
//! A file of a single part needs none of this. It grows, and its length is the count.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

/// A table of more would be a waste, and a nonsensical length could make it any size. S3 knows no more parts either.
const MAX_PARTS: u64 = 10_000;
const WORD: u64 = 8;

/// The counts of one file.
#[derive(Debug)]
pub(super) struct Progress {
    size: u64,
    part: u64,
    had: Vec<u64>,
}

impl Progress {
    /// Of a file of `size` bytes, in parts of about `part`, of which the first `prefix` bytes are here.
    pub(super) fn of_prefix(size: u64, part: u64, prefix: u64) -> Self {
        let part = part.max(size.div_ceil(MAX_PARTS)).max(1);
        let mut progress = Self {
            size,
            part,
            had: Vec::new(),
        };
        progress.had = (0..parts(size, part))
            .map(|index| {
                let range = progress.range(index);
                prefix.clamp(range.start, range.end) - range.start
            })
            .collect();
        progress
    }

    /// Reads what `file` says of itself, whatever its parts; `None` when that makes no sense.
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
        let part = u64::from_le_bytes(word);
        let table = length - size - WORD;
        if part == 0 || parts(size, part).checked_mul(WORD) != Some(table) {
            return Ok(None);
        }
        let mut progress = Self {
            size,
            part,
            had: Vec::new(),
        };
        for index in 0..parts(size, part) {
            file.read_exact_at(&mut word, size + index * WORD)?;
            let had = u64::from_le_bytes(word);
            let range = progress.range(index);
            if had > range.end - range.start {
                return Ok(None);
            }
            progress.had.push(had);
        }
        Ok(Some(progress))
    }

    /// The same progress in other parts, where that is the beginning of the file and nothing else.
    pub(super) fn divided(self, part: u64) -> Self {
        match self.had[..] {
            [prefix] => Self::of_prefix(self.size, part, prefix),
            _ => self,
        }
    }

    /// Makes the room in `file` in which [`Progress::note`] writes.
    pub(super) fn lay_out(&self, file: &File) -> io::Result<()> {
        if self.had.len() == 1 {
            return Ok(());
        }
        let behind = self.size + self.had.len() as u64 * WORD;
        file.set_len(behind + WORD)?;
        let table: Vec<u8> = self.had.iter().flat_map(|had| had.to_le_bytes()).collect();
        file.write_all_at(&table, self.size)?;
        // Last: without it the table counts for nothing.
        file.write_all_at(&self.part.to_le_bytes(), behind)
    }

    /// Notes that so many bytes from `offset` on, which follow those of their part, have been written.
    pub(super) fn note(&mut self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        let index = self.index(offset);
        let start = self.range(index).start;
        let had = &mut self.had[place(index)];
        debug_assert_eq!(start + *had, offset, "a part is written in order");
        *had += bytes;
        if parts(self.size, self.part) == 1 {
            return Ok(());
        }
        let had = *had;
        file.write_all_at(&had.to_le_bytes(), self.size + index * WORD)
    }

    /// How many bytes are here.
    pub(super) fn have(&self) -> u64 {
        self.had.iter().sum()
    }

    /// What is not here of each part that is not whole, in order.
    pub(super) fn missing(&self) -> Vec<Range<u64>> {
        let rests = (0..).zip(&self.had).map(|(index, had)| {
            let range = self.range(index);
            range.start + had..range.end
        });
        rests.filter(|rest| !rest.is_empty()).collect()
    }

    /// How far the bytes from `at` on are here, looking no further than its part's end.
    pub(super) fn known_to(&self, at: u64) -> u64 {
        let index = self.index(at);
        (self.range(index).start + self.had[place(index)]).max(at)
    }

    fn index(&self, at: u64) -> u64 {
        (at / self.part).min(self.had.len() as u64 - 1)
    }

    fn range(&self, index: u64) -> Range<u64> {
        let start = index * self.part;
        let last = index + 1 == parts(self.size, self.part);
        start..if last { self.size } else { start + self.part }
    }
}

/// How many parts of `part` bytes there are, at least one. What is less than a part goes with the one before: a request
/// of its own would not pay.
fn parts(size: u64, part: u64) -> u64 {
    (size / part).max(1)
}

fn place(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_is_divided_into_parts_of_about_one_length() {
        let missing = |size, part| Progress::of_prefix(size, part, 0).missing();
        assert_eq!(missing(0, 8), []);
        assert_eq!(missing(7, 4), vec![0..7]);
        assert_eq!(missing(8, 4), [0..4, 4..8]);
        assert_eq!(missing(15, 4), [0..4, 4..8, 8..15]);
        assert_eq!(missing(19, 8), [0..8, 8..19]);
        assert_eq!(missing(1 << 60, 8).len() as u64, MAX_PARTS - 1);
    }

    #[test]
    fn a_beginning_that_is_here_is_taken_into_parts() {
        let progress = Progress::of_prefix(24, 24, 9).divided(8);
        assert_eq!(progress.missing(), [9..16, 16..24]);
        let progress = Progress::of_prefix(24, 24, 5).divided(8);
        assert_eq!(progress.missing(), [5..8, 8..16, 16..24]);
    }

    #[test]
    fn what_makes_no_sense_is_nothing() {
        let file = tempfile::tempfile().unwrap();
        Progress::of_prefix(24, 8, 3).lay_out(&file).unwrap();
        let read = |size| Progress::read(&file, size).unwrap();
        assert_eq!(read(24).unwrap().missing(), [3..8, 8..16, 16..24]);
        assert!(read(23).is_none(), "of another length");
        file.write_all_at(&[9], 24).unwrap();
        assert!(read(24).is_none(), "more than the part has");
        file.write_all_at(&[3], 24).unwrap();
        file.write_all_at(&[0; 8], 48).unwrap();
        assert!(read(24).is_none(), "no length of a part");
    }

    proptest! {
        #[test]
        fn another_process_reads_what_was_noted(
            size in 0..100_u64,
            part in 1..40_u64,
            steps in proptest::collection::vec((0..100_usize, 1..20_u64), 0..30),
        ) {
            let file = tempfile::tempfile().unwrap();
            let mut progress = Progress::of_prefix(size, part, 0);
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
                progress.note(&file, rest.start, bytes).unwrap();
                for at in rest.start..rest.start + bytes {
                    here[usize::try_from(at).unwrap()] = true;
                }
            }
            let read = Progress::read(&file, size).unwrap().unwrap().divided(part);
            prop_assert_eq!(read.missing(), progress.missing());
            let missing = |at: u64| progress.missing().iter().any(|rest| rest.contains(&at));
            for (at, here) in (0..).zip(&here) {
                prop_assert_eq!(missing(at), !here);
                prop_assert_eq!(progress.known_to(at) > at, *here);
            }
            prop_assert_eq!(progress.have(), here.iter().filter(|here| **here).count() as u64);
        }
    }
}
