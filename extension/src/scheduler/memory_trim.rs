//! When memory of runs is given back.
//!
//! ONNX Runtime keeps the memory of the largest run for the next one, which is right for runs that are all of a size, and
//! wrong after one that was much larger than the others. Before a run, its size is what goes into it; a dimension of no
//! length counts as one, since what a model makes of it may be as large as that. After a run that took long, its size is
//! what the process has grown by, where that is more: sizes may also come from values. So runs are held against a mean of
//! the last ones, which large runs raise faster than small ones lower it: where they come often, their memory is kept.

use crate::tensor::Value;

/// With fewer elements, what is kept is not worth the trouble: a quarter of a megabyte of single precision, and often a
/// hundred times that on the way.
const WORTH_IT: u64 = 1 << 16;
/// A run that is larger by this factor than what is usual is outsize.
const OUTSIZE: u64 = 4;
/// With fewer bytes, the growth of the process says nothing of a run.
const GROWN: u64 = 8 * 1024 * 1024;
/// Bytes of an element of single precision, in which growth is counted.
const ELEMENT: u64 = 4;

/// The number of elements of all tensors among these.
pub(super) fn elements(values: &[(String, Value)]) -> u64 {
    let lengths = values.iter().map(|(_, value)| match value {
        Value::Tensor(tensor) => {
            let lengths = tensor.shape().iter().map(|&length| length.max(1) as u64);
            lengths.fold(1, u64::saturating_mul)
        }
        value => value.length() as u64,
    });
    lengths.fold(0, u64::saturating_add)
}

/// The sizes of one model's runs, in elements.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    usual: u64,
    /// The largest since memory was given back.
    kept: u64,
    /// The elements of the last run that the process grew by, and its size by that.
    grown: Option<(u64, u64)>,
}

impl Sizes {
    /// Takes note of a run; `true` when memory is to be given back at its end.
    pub(super) fn ran(&mut self, elements: u64) -> bool {
        let size = match self.grown {
            // It may have needed what was there from that run on.
            Some((like, size)) if elements >= like.div_ceil(2) => size.max(elements),
            _ => elements,
        };
        self.note(size)
    }

    /// Takes note of a run of so many elements after which the process had grown by so many bytes; `true` when memory is to
    /// be given back.
    pub(super) fn grew(&mut self, elements: u64, bytes: u64) -> bool {
        let size = bytes / ELEMENT;
        if bytes < GROWN || size <= elements {
            return false;
        }
        self.grown = Some((elements, size));
        self.note(size)
    }

    fn note(&mut self, size: u64) -> bool {
        self.kept = self.kept.max(size);
        self.usual = if size > self.usual {
            self.usual + (size - self.usual) / 8
        } else {
            self.usual - (self.usual - size) / 16
        };
        let is_too_much = self.kept >= WORTH_IT && self.kept > self.usual.saturating_mul(OUTSIZE);
        if is_too_much {
            self.kept = 0;
            self.grown = None;
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

    const BYTES: u64 = 4 * LARGE;

    #[test]
    fn memory_that_values_made_a_run_take_is_given_back_at_once() {
        let mut sizes = Sizes::default();
        given_back(&mut sizes, [SMALL; 50]);
        assert!(!sizes.ran(SMALL));
        assert!(sizes.grew(SMALL, BYTES));
        assert_eq!(given_back(&mut sizes, [SMALL; 1_000]), [0; 0]);
        assert!(sizes.grew(SMALL, BYTES), "the next one as well");
    }

    #[test]
    fn memory_that_every_run_takes_is_kept_though_it_is_far_more_than_goes_in() {
        let mut sizes = Sizes::default();
        // As long as it is given back, the process grows again.
        let begin = (0..10).filter(|_| {
            let before = sizes.ran(SMALL);
            sizes.grew(SMALL, BYTES) || before
        });
        assert!(begin.count() <= 4);
        assert_eq!(given_back(&mut sizes, [SMALL; 1_000]), [0; 0]);
    }

    #[test]
    fn a_dimension_of_no_length_counts_as_one() {
        let tensor = |shape: &[usize]| {
            let tensor = crate::tensor::Tensor::new(shape.to_vec(), Vec::<f32>::new()).unwrap();
            vec![("x".to_owned(), Value::Tensor(tensor))]
        };
        assert_eq!(elements(&tensor(&[2_000_000_000, 0])), 2_000_000_000);
        assert_eq!(elements(&tensor(&[0])), 1);
        assert_eq!(elements(&tensor(&[usize::MAX, 0])), u64::MAX);
    }
}
