//! When memory is given back.
//!
//! ONNX Runtime keeps the memory of the largest run for the next one, which is right for runs that are all of a size, and
//! wrong after one that was much larger than the others. What a run takes shows in what goes into it. So runs
//! are held against a mean of the last ones, which large runs raise faster than small ones lower it: where they come
//! often, their memory is kept.

use crate::tensor::Value;

/// With fewer elements, what is kept is not worth the trouble: a quarter of a megabyte of single precision, and often a hundred
/// times that on the way.
const WORTH_IT: u64 = 1 << 16;
/// A run that is larger by this factor than what is usual is outsize.
const OUTSIZE: u64 = 4;

/// The number of elements of all tensors among these.
pub(super) fn elements(values: &[(String, Value)]) -> u64 {
    let lengths = values.iter().map(|(_, value)| value.length() as u64);
    lengths.sum()
}

/// The sizes of one model's runs, in elements of its inputs.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    usual: u64,
    /// The largest since memory was given back.
    kept: u64,
}

impl Sizes {
    /// Takes note of a run; `true` when memory is to be given back at its end.
    pub(super) fn ran(&mut self, elements: u64) -> bool {
        self.kept = self.kept.max(elements);
        self.usual = if elements > self.usual {
            self.usual + (elements - self.usual) / 8
        } else {
            self.usual - (self.usual - elements) / 16
        };
        let is_too_much = self.kept >= WORTH_IT && self.kept > OUTSIZE * self.usual;
        if is_too_much {
            self.kept = 0;
        }
        is_too_much
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: u64 = 20;
    const LARGE: u64 = 10_000_000;

    /// After how many of these runs memory is given back.
    fn given_back(sizes: &mut Sizes, runs: impl IntoIterator<Item = u64>) -> Vec<usize> {
        let runs = runs.into_iter().enumerate();
        runs.filter_map(|(place, elements)| sizes.ran(elements).then_some(place))
            .collect()
    }

    #[test]
    fn memory_is_given_back_at_once_after_one_large_run_among_small_ones() {
        let mut sizes = Sizes::default();
        let runs = [vec![SMALL; 50], vec![LARGE], vec![SMALL; 50]].concat();
        assert_eq!(given_back(&mut sizes, runs), [50]);
    }

    #[test]
    fn memory_is_kept_while_all_runs_are_large_and_given_back_when_they_are_over() {
        let mut sizes = Sizes::default();
        let begin = given_back(&mut sizes, [LARGE; 10]);
        assert!(begin.len() <= 3, "{begin:?}");
        assert_eq!(given_back(&mut sizes, [LARGE; 1_000]), [0; 0]);
        let after = given_back(&mut sizes, [SMALL; 1_000]);
        assert!(after.len() == 1 && after[0] < 50, "{after:?}");
    }

    #[test]
    fn memory_is_kept_where_every_other_run_is_large() {
        let mut sizes = Sizes::default();
        given_back(&mut sizes, [LARGE; 10]);
        let runs = [SMALL, LARGE].into_iter().cycle().take(1_000);
        assert_eq!(given_back(&mut sizes, runs), [0; 0]);
    }

    #[test]
    fn small_runs_are_not_looked_after() {
        let mut sizes = Sizes::default();
        let runs = [vec![SMALL; 50], vec![1_000 * SMALL], vec![SMALL; 50]].concat();
        assert_eq!(given_back(&mut sizes, runs), [0; 0]);
    }
}
