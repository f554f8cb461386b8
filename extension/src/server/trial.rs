//! Is the version that answers fit to: what its first runs say.
//!
//! A version that loads may still fail in every run. Runs that fail inside ONNX Runtime are counted, and those that
//! succeed; what the caller did wrong, or gave up, is not. A run can fail because of what a caller sends, in a way
//! that only the graph finds out, so the version before is the judge: a version is doubted when, within its first
//! [`TRIAL`] runs, at least [`ENOUGH`] fail, and a share of them that is more than three times what failed of the last
//! runs of the version before. That one counts as if it had failed once in six runs more than it has made: while it
//! has hardly run, or there was none, more than half of the runs must fail. Where more than a third of its own failed, no
//! version after it is doubted, since it is the callers that have changed.
//!
//! A run that a node of the graph refused is most often the caller's mistake, such as an index out of range, and is
//! answered as one; but a graph can refuse whatever comes. So it counts as a failure where the version before has made
//! [`JUDGE`] runs, and not at all where it has not.
//!
//! Pure: told of each run, it says what it thinks. That a version is withdrawn is for others to do, and the requests
//! that showed it have had their answers: errors that name the version.

use crate::clock::Timestamp;
use crate::ids::Digest;
use crate::models::Loaded;

/// The first runs of a version, which it is judged by, and the last runs of the one before, which judge it.
const TRIAL: u32 = 100;
/// Fewer runs of the version before do not tell what callers send.
const JUDGE: u32 = 20;
/// Fewer failures say nothing.
const ENOUGH: u32 = 3;

/// The trial of one model's versions, one after the other.
#[derive(Debug, Default)]
pub(super) struct Trial {
    current: Option<(Key, Record)>,
    before: Option<(Key, Record)>,
    /// Whether a doubt in the current version was taken up.
    is_settled: bool,
}

/// One load of one version: a version that returns is tried anew.
type Key = (Digest, Timestamp);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With outputs.
    Well,
    /// Inside, and not by what the caller sent.
    Failed,
    /// Inside, in a node that did not take what came to it. It counts where there is a judge.
    RefusedInside,
}

/// How runs ended.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    runs: u32,
    /// The last ones, one bit for each, set where it failed; the lowest is the latest.
    failed: u128,
    /// The same, set where it was refused inside.
    refused: u128,
}

/// Why a version is not fit to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    failed: u32,
    runs: u32,
    failed_before: u32,
    runs_before: u32,
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            failed,
            runs,
            failed_before,
            runs_before,
        } = self;
        write!(
            out,
            "{failed} of the version's first {runs} runs failed inside ONNX Runtime"
        )?;
        if *runs_before > 0 {
            write!(
                out,
                ", and {failed_before} of the last {runs_before} of the one before"
            )?;
        }
        Ok(())
    }
}

impl Trial {
    /// Takes note of a run of `loaded` that has ended; a doubt that is not [settled](Self::settle) comes again with the
    /// next failure.
    pub(super) fn ran(&mut self, loaded: &Loaded, ended: Ended) -> Option<Doubt> {
        self.note(&loaded.digest, loaded.loaded_at, ended)
    }

    /// The doubt was taken up: it is not raised again.
    pub(super) fn settle(&mut self) {
        self.is_settled = true;
    }

    fn note(&mut self, digest: &Digest, loaded_at: Timestamp, ended: Ended) -> Option<Doubt> {
        let is_it = |(key, _): &(Key, Record)| key.0 == *digest && key.1 == loaded_at;
        // A request that began on the version before ends on it.
        if let Some((_, record)) = self.before.as_mut().filter(|before| is_it(before)) {
            record.note(ended);
            return None;
        }
        if !self.current.as_ref().is_some_and(is_it) {
            let key = (digest.clone(), loaded_at);
            self.before = self.current.replace((key, Record::default()));
            self.is_settled = false;
        }
        let (_, record) = self.current.as_mut()?;
        record.note(ended);
        let before = self.before.as_ref().map(|(_, record)| *record);
        let doubt = record.doubt(before.unwrap_or_default());
        doubt.filter(|_| ended != Ended::Well && !self.is_settled)
    }
}

impl Record {
    fn note(&mut self, ended: Ended) {
        self.runs = self.runs.saturating_add(1);
        self.failed = self.failed << 1 | u128::from(ended == Ended::Failed);
        self.refused = self.refused << 1 | u128::from(ended == Ended::RefusedInside);
    }

    /// How many of the last runs are looked at, and how many of them failed.
    fn last(self, with_refused: bool) -> (u32, u32) {
        let refused = if with_refused { self.refused } else { 0 };
        let looked_at = (self.failed | refused) & ((1 << TRIAL) - 1);
        (self.runs.min(TRIAL), looked_at.count_ones())
    }

    fn doubt(self, before: Self) -> Option<Doubt> {
        if self.runs > TRIAL {
            return None;
        }
        let is_judge = before.runs >= JUDGE;
        let (runs, failed) = self.last(is_judge);
        let (runs_before, failed_before) = before.last(is_judge);
        let is_more = failed * (runs_before + 6) > 3 * runs * (failed_before + 1);
        (failed >= ENOUGH && is_more).then_some(Doubt {
            failed,
            runs,
            failed_before,
            runs_before,
        })
    }
}

#[cfg(test)]
mod tests;
