//! Adoption of a local file without a copy.
//!
//! A file whose name is the SHA-256 of its bytes is never changed by its publisher, so that ONNX Runtime can map the
//! original.

use std::time::Instant;

use tokio::task::JoinHandle;

use super::{Compression, FetchRequest, Fetched};
use crate::cache::Cache;

/// Verifies on a thread that the file has the digest of its name and the expected values, and adopts it. `None`
/// requires an ordinary fetch, which copies the file and reports errors.
pub(super) fn adopt(
    request: &FetchRequest<'_>,
    cache: &Cache,
) -> Option<JoinHandle<Option<Fetched>>> {
    let (path, digest) = request.source.in_place()?;
    let size = request.object.size;
    let is_expected = request
        .expected
        .is_none_or(|expected| expected.size == size && expected.digest == digest);
    if request.compression != Compression::None || !is_expected {
        return None;
    }
    let (cache, identity) = (cache.clone(), request.object.identity.clone());
    let started = Instant::now();
    Some(tokio::task::spawn_blocking(move || {
        Some(Fetched {
            file: cache.adopt(&path, &digest)?,
            identity,
            digest,
            size,
            transferred: 0,
            elapsed: started.elapsed(),
        })
    }))
}
