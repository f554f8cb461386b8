//! Random sample of the inputs on which runs of a version failed, bounded in number and bytes.

use std::hash::{BuildHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use crate::protocol::Decoded;
use crate::scheduler::MAX_RETURNED_INPUTS;
use crate::status::FailedInput;

/// Maximum number of inputs that are kept.
const MAX_INPUTS: usize = 3;
/// Maximum size of all inputs that are kept, in bytes.
const MAX_BYTES: usize = MAX_RETURNED_INPUTS;

/// Input of a failed run that may be kept.
#[derive(Debug)]
pub(in crate::server) struct Input {
    pub(super) fingerprint: u64,
    bytes: usize,
    request: Decoded,
}

impl Input {
    /// Makes the fingerprint; `None` for an input that is too large to be kept.
    pub(in crate::server) fn new(request: Decoded, random: &impl BuildHasher) -> Option<Self> {
        let bytes = request.inputs.iter().map(|(_, value)| value.bytes()).sum();
        if bytes > MAX_BYTES {
            return None;
        }
        let mut hasher = random.build_hasher();
        request.outputs.hash(&mut hasher);
        for (name, value) in &request.inputs {
            name.hash(&mut hasher);
            value.feed(&mut hasher);
        }
        Some(Self {
            fingerprint: hasher.finish(),
            bytes,
            request,
        })
    }
}

/// Sample in which each of the failures is with the same probability.
#[derive(Debug, Default)]
pub(super) struct Sample {
    failures: u32,
    kept: Vec<Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    fingerprint: u64,
    bytes: usize,
    input: Arc<FailedInput>,
}

impl Sample {
    /// Failures of which this is a sample.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn inputs(&self) -> Vec<Arc<FailedInput>> {
        self.kept
            .iter()
            .map(|kept| Arc::clone(&kept.input))
            .collect()
    }

    pub(super) fn fingerprints(&self) -> impl Iterator<Item = u64> {
        self.kept.iter().map(|kept| kept.fingerprint)
    }

    /// Counts a failure, and keeps its input if it is drawn and there is room for it. Only then is it copied.
    pub(super) fn add(&mut self, input: Input, random: &impl BuildHasher) {
        self.failures = self.failures.saturating_add(1);
        let drawn = random.hash_one(self.failures) % u64::from(self.failures);
        let place = if self.kept.len() < MAX_INPUTS {
            self.kept.len()
        } else {
            match usize::try_from(drawn) {
                Ok(place) if place < MAX_INPUTS => place,
                _ => return,
            }
        };
        let same = |kept: &&Kept| kept.fingerprint == input.fingerprint;
        let kept = match self.kept.iter().find(same) {
            Some(same) => same.clone(),
            None if self.bytes_without(place) + input.bytes > MAX_BYTES => return,
            None => Kept::of(input),
        };
        if place < self.kept.len() {
            self.kept[place] = kept;
        } else {
            self.kept.push(kept);
        }
    }

    /// Takes out inputs that are known not to count, and the share of the failures that they are a sample of.
    pub(super) fn forget(&mut self, is_known: impl Fn(u64) -> bool) {
        let before = self.kept.len();
        self.kept.retain(|kept| !is_known(kept.fingerprint));
        if self.kept.len() < before {
            let share = u64::from(self.failures) * widened(self.kept.len()) / widened(before);
            self.failures = u32::try_from(share).unwrap_or(u32::MAX);
        }
    }

    /// Adds the failures of an earlier sample, whose inputs stay.
    pub(super) fn put_back(&mut self, earlier: Sample) {
        self.failures = self.failures.saturating_add(earlier.failures);
        if !earlier.kept.is_empty() {
            self.kept = earlier.kept;
        }
    }

    /// Bytes of all inputs but the one at this place. One that was drawn twice is there once.
    fn bytes_without(&self, place: usize) -> usize {
        let others = self
            .kept
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != place);
        let mut others: Vec<&Kept> = others.map(|(_, kept)| kept).collect();
        others.sort_unstable_by_key(|kept| kept.fingerprint);
        others.dedup_by_key(|kept| kept.fingerprint);
        others.iter().map(|kept| kept.bytes).sum()
    }
}

fn widened(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Kept {
    /// A copy that keeps no request body alive.
    fn of(input: Input) -> Self {
        let inputs = input.request.inputs.into_iter();
        let inputs = inputs
            .map(|(name, value)| (name, value.detached()))
            .collect();
        Self {
            fingerprint: input.fingerprint,
            bytes: input.bytes,
            input: Arc::new(FailedInput {
                inputs,
                outputs: input.request.outputs,
            }),
        }
    }
}
