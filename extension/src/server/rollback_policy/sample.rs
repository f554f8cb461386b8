//! Random sample of the inputs of failed runs, bounded in number and bytes.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::sync::Arc;

use super::key::HashKey;
use crate::protocol::Decoded;
use crate::rollback::FailedInput;
use crate::scheduler::MAX_RETURNED_INPUTS;

/// Maximum number of sampled inputs.
const MAX_INPUTS: usize = 3;
/// Maximum size of all sampled inputs, in bytes.
const MAX_BYTES: usize = MAX_RETURNED_INPUTS;

/// Input of a failed run, small enough for the sample, with its fingerprint.
#[derive(Debug)]
pub(in crate::server) struct FingerprintedInput {
    pub(super) fingerprint: u64,
    bytes: usize,
    request: Decoded,
}

impl FingerprintedInput {
    /// Computes the fingerprint; `None` for an input that is too large for the sample.
    pub(in crate::server) fn new(request: Decoded, key: &HashKey) -> Option<Self> {
        let bytes = request.inputs.iter().map(|(_, value)| value.bytes()).sum();
        if bytes > MAX_BYTES {
            return None;
        }
        let mut hasher = key.build_hasher();
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

/// Random sample that contains each of the failures with the same probability.
#[derive(Debug, Default)]
pub(super) struct FailureSample {
    failures: u32,
    inputs: Vec<SampledInput>,
}

#[derive(Clone, Debug)]
struct SampledInput {
    fingerprint: u64,
    bytes: usize,
    input: Arc<FailedInput>,
}

impl FailureSample {
    /// Returns the number of failures that the sample represents.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns the sampled inputs.
    pub(super) fn inputs(&self) -> Vec<Arc<FailedInput>> {
        self.inputs
            .iter()
            .map(|kept| Arc::clone(&kept.input))
            .collect()
    }

    /// Returns the fingerprints of the sampled inputs.
    pub(super) fn fingerprints(&self) -> impl Iterator<Item = u64> {
        self.inputs.iter().map(|kept| kept.fingerprint)
    }

    /// Counts a failure. Copies its input into the sample if the input is drawn and fits.
    pub(super) fn add(&mut self, input: FingerprintedInput, key: &HashKey) {
        self.failures = self.failures.saturating_add(1);
        let drawn = key.hash_one(self.failures) % u64::from(self.failures);
        let index = if self.inputs.len() < MAX_INPUTS {
            self.inputs.len()
        } else {
            match usize::try_from(drawn) {
                Ok(index) if index < MAX_INPUTS => index,
                _ => return,
            }
        };
        let same = |kept: &&SampledInput| kept.fingerprint == input.fingerprint;
        let kept = match self.inputs.iter().find(same) {
            Some(same) => same.clone(),
            None if self.bytes_without(index) + input.bytes > MAX_BYTES => return,
            None => SampledInput::of(input),
        };
        if index < self.inputs.len() {
            self.inputs[index] = kept;
        } else {
            self.inputs.push(kept);
        }
    }

    /// Removes inputs that do not count, and the share of the failures that they represent.
    pub(super) fn forget(&mut self, is_known: impl Fn(u64) -> bool) {
        let before = self.inputs.len();
        self.inputs.retain(|kept| !is_known(kept.fingerprint));
        if self.inputs.len() < before {
            let share = u64::from(self.failures) * widened(self.inputs.len()) / widened(before);
            self.failures = u32::try_from(share).unwrap_or(u32::MAX);
        }
    }

    /// Adds the failures of an earlier sample, and restores its inputs.
    pub(super) fn put_back(&mut self, earlier: FailureSample) {
        self.failures = self.failures.saturating_add(earlier.failures);
        if !earlier.inputs.is_empty() {
            self.inputs = earlier.inputs;
        }
    }

    /// Returns the size of all sampled inputs except the one at `index`, in bytes. Copies share memory and count once.
    fn bytes_without(&self, index: usize) -> usize {
        let others = self
            .inputs
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        let mut others: Vec<&SampledInput> = others.map(|(_, kept)| kept).collect();
        others.sort_unstable_by_key(|kept| kept.fingerprint);
        others.dedup_by_key(|kept| kept.fingerprint);
        others.iter().map(|kept| kept.bytes).sum()
    }
}

fn widened(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl SampledInput {
    /// Copies an input, so that the sample does not keep the request body alive.
    fn of(input: FingerprintedInput) -> Self {
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
