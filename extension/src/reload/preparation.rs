//! Preparation of a model's weights while its file arrives.
//!
//! Only a start benefits, since nothing waits for a reload. Memory is taken before the load, without its permit and
//! its marker. The preparation is therefore limited to the only model of an environment that no earlier process has
//! used. So an environment that dies of it does the next start without it.

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::engine_slot::on_thread;
use super::memory::{MemoryNeed, ModelBytes};
use super::source_files::SourceFiles;
use crate::engine::PreparedWeights;
use crate::fetch::PartLimits;
use crate::growing_file::GrowingFile;

/// Minimum size of a file in bytes. Below it the expansion takes less than a millisecond.
const MIN_BYTES: u64 = 1024 * 1024;
/// Number of parts of a download. Connections receive parts concurrently, and weights are expanded in the order of the
/// file. With fewer parts, most weights would wait for the end of the download.
const PARTS: u64 = 12;
/// Minimum length of a part in bytes, since each costs a round trip.
const MIN_PART_BYTES: u64 = 2 * 1024 * 1024;

impl SourceFiles {
    /// Performs the `fetch` of the model's file of `size` bytes in `parts`, and prepares the weights in parallel.
    pub(super) async fn with_preparation<T>(
        &self,
        size: u64,
        parts: PartLimits,
        fetch: impl AsyncFnOnce(PartLimits, Option<UnboundedSender<GrowingFile>>) -> T,
    ) -> (T, PreparedWeights) {
        if !self.may_prepare(size) {
            return (fetch(parts, None).await, PreparedWeights::default());
        }
        let parts = in_order(parts, size);
        let (sender, mut files) = unbounded_channel();
        let prepare = async {
            let mut prepared = PreparedWeights::default();
            // A fetch that starts again sends another file.
            while let Some(file) = files.recv().await {
                prepared = PreparedWeights::default();
                let Ok((engine, _)) = self.shared.engine.get().await else {
                    continue;
                };
                let prepare = on_thread("expand-model", move || engine.prepare(&file));
                prepared = prepare.await.unwrap_or_default();
            }
            prepared
        };
        tokio::join!(fetch(parts, Some(sender)), prepare)
    }

    fn may_prepare(&self, size: u64) -> bool {
        let shared = &self.shared;
        let is_start = shared.models.only().is_some()
            && shared.models.current(&self.model).is_none()
            && !shared.cache.is_restart();
        if size < MIN_BYTES || !is_start {
            return false;
        }
        let new = ModelBytes::of_stored_weights(size);
        let need = MemoryNeed { new, active: None }.estimate();
        shared.memory.probe.free().is_none_or(|free| need <= free)
    }
}

/// Returns limits with which a file of `size` bytes arrives mostly in order. A file of one request stays one.
fn in_order(parts: PartLimits, size: u64) -> PartLimits {
    if size < 2 * parts.part_bytes {
        return parts;
    }
    let part_bytes = parts.part_bytes.min((size / PARTS).max(MIN_PART_BYTES));
    PartLimits {
        part_bytes,
        ..parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middle_sized_files_have_shorter_parts() {
        const MIB: u64 = 1024 * 1024;
        let limits = PartLimits {
            part_bytes: 8 * MIB,
            max_connections: 3,
        };
        let part = |mib: u64| in_order(limits, mib * MIB).part_bytes;
        let expected = [8, 2, 2, 4, 8].map(|mib| mib * MIB);
        assert_eq!([15, 16, 24, 48, 200].map(part), expected);
    }
}
