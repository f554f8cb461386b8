//! Release of the memory of runs to the system: the decision when.
//!
//! ONNX Runtime keeps the memory of the largest run for the next one. That is right for runs of similar size, and wrong
//! after a run that was much larger than the others. Before a run, its size is the size of its inputs. A dimension of
//! length zero counts as one, since the model may create that many elements. After a long run, its size is the growth
//! of the process if that is larger, since values may determine sizes too. Runs are compared with a moving average. The
//! average rises faster with large runs than it falls with small ones, so that memory of frequent large runs is kept.

use crate::tensor::Value;

/// Minimum size for a release, in elements: a quarter of a megabyte in single precision, and often a hundred times as
/// much in intermediate results.
const MIN_RELEASED: u64 = 1 << 16;
/// A run is outsize above this multiple of the average.
const OUTSIZE_FACTOR: u64 = 4;
/// Minimum growth of the process that is attributed to a run, in bytes.
const MIN_GROWTH: u64 = 8 * 1024 * 1024;
/// Size of an element in single precision, the unit of growth.
const ELEMENT_BYTES: u64 = 4;

/// Returns the number of elements of all values.
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

/// Sizes of a model's runs, in elements.
#[derive(Debug, Default)]
pub(super) struct RunSizes {
    average: u64,
    /// Largest size since memory was last released.
    largest: u64,
    /// Elements of the last run that made the process grow, and its size by the growth.
    grown: Option<(u64, u64)>,
}

impl RunSizes {
    /// Records a run; returns `true` if memory must be released at its end.
    pub(super) fn record(&mut self, elements: u64) -> bool {
        let size = match self.grown {
            // The run may have used memory that the process has kept since that run.
            Some((like, size)) if elements >= like.div_ceil(2) => size.max(elements),
            _ => elements,
        };
        self.add(size)
    }

    /// Records that the process grew by `bytes` in a run of `elements`; returns `true` if memory must be released.
    pub(super) fn record_growth(&mut self, elements: u64, bytes: u64) -> bool {
        let size = bytes / ELEMENT_BYTES;
        if bytes < MIN_GROWTH || size <= elements {
            return false;
        }
        self.grown = Some((elements, size));
        self.add(size)
    }

    fn add(&mut self, size: u64) -> bool {
        self.largest = self.largest.max(size);
        self.average = if size > self.average {
            self.average + (size - self.average) / 8
        } else {
            self.average - (self.average - size) / 16
        };
        let is_too_much = self.largest >= MIN_RELEASED
            && self.largest > self.average.saturating_mul(OUTSIZE_FACTOR);
        if is_too_much {
            self.largest = 0;
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

    /// Returns the indices of the runs after which memory is released.
    fn released(sizes: &mut RunSizes, runs: impl IntoIterator<Item = u64>) -> Vec<usize> {
        let runs = runs.into_iter().enumerate();
        runs.filter_map(|(index, elements)| sizes.record(elements).then_some(index))
            .collect()
    }

    #[test]
    fn memory_is_released_after_one_large_run_among_small_ones() {
        let mut sizes = RunSizes::default();
        let runs = [vec![SMALL; 50], vec![LARGE], vec![SMALL; 50]].concat();
        assert_eq!(released(&mut sizes, runs), [50]);
    }

    #[test]
    fn memory_is_kept_while_all_runs_are_large_and_released_afterwards() {
        let mut sizes = RunSizes::default();
        let begin = released(&mut sizes, [LARGE; 10]);
        assert!(begin.len() <= 3, "{begin:?}");
        assert_eq!(released(&mut sizes, [LARGE; 1_000]), [0; 0]);
        let after = released(&mut sizes, [SMALL; 1_000]);
        assert!(after.len() == 1 && after[0] < 50, "{after:?}");
    }

    #[test]
    fn memory_is_kept_if_every_other_run_is_large() {
        let mut sizes = RunSizes::default();
        released(&mut sizes, [LARGE; 10]);
        let runs = [SMALL, LARGE].into_iter().cycle().take(1_000);
        assert_eq!(released(&mut sizes, runs), [0; 0]);
    }

    #[test]
    fn small_runs_never_release_memory() {
        let mut sizes = RunSizes::default();
        let runs = [vec![SMALL; 50], vec![1_000 * SMALL], vec![SMALL; 50]].concat();
        assert_eq!(released(&mut sizes, runs), [0; 0]);
    }

    const BYTES: u64 = 4 * LARGE;

    #[test]
    fn memory_that_depends_on_values_is_released() {
        let mut sizes = RunSizes::default();
        released(&mut sizes, [SMALL; 50]);
        assert!(!sizes.record(SMALL));
        assert!(sizes.record_growth(SMALL, BYTES));
        assert_eq!(released(&mut sizes, [SMALL; 1_000]), [0; 0]);
        assert!(sizes.record_growth(SMALL, BYTES), "the next run as well");
    }

    #[test]
    fn memory_that_every_run_allocates_is_kept() {
        let mut sizes = RunSizes::default();
        // While memory is released, the process grows again.
        let begin = (0..10).filter(|_| {
            let before = sizes.record(SMALL);
            sizes.record_growth(SMALL, BYTES) || before
        });
        assert!(begin.count() <= 4);
        assert_eq!(released(&mut sizes, [SMALL; 1_000]), [0; 0]);
    }

    #[test]
    fn a_dimension_of_length_zero_counts_as_one() {
        let tensor = |shape: &[usize]| {
            let tensor = crate::tensor::Tensor::new(shape.to_vec(), Vec::<f32>::new()).unwrap();
            vec![("x".to_owned(), Value::Tensor(tensor))]
        };
        assert_eq!(elements(&tensor(&[2_000_000_000, 0])), 2_000_000_000);
        assert_eq!(elements(&tensor(&[0])), 1);
        assert_eq!(elements(&tensor(&[usize::MAX, 0])), u64::MAX);
    }
}
