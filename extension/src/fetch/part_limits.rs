//! Division of a download into parts.
//!
//! A connection to S3 delivers at most 85 to 90 MB/s, and less during TCP slow start. The network link of an
//! environment has 625 Mbit/s, and up to 3,000 Mbit/s above 2,048 MB of memory. So a download has one connection per
//! 85 MB/s, and two more, which fill the link while a connection waits for its first byte.
//!
//! Parts are long enough that this wait is short in comparison. They are short enough that the received bytes are
//! mostly contiguous, since hashing is sequential. A file of less than two parts is downloaded in one request. Before a
//! second connection delivered its first byte, the first one would have delivered much of the file.

/// Length of a part in bytes. S3's recommendation is 8 to 16 MB.
const PART_BYTES: u64 = 8 * 1024 * 1024;
/// Throughput of one connection, in MB/s.
const CONNECTION_MB_PER_S: u64 = 85;
/// Memory size in MB and throughput of the link in MB/s. Between these points the throughput grows linearly.
const LINK: [(u64, u64); 2] = [(2_048, 78), (10_240, 375)];

/// Limits of a parallel download. A file of less than two parts is downloaded in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartLimits {
    /// Length of a part in bytes. The last part is up to twice as long.
    pub part_bytes: u64,
    /// Maximum number of concurrent connections.
    pub max_connections: usize,
}

impl PartLimits {
    /// Limits for a function of this memory size in MB; `None`: the smallest.
    #[must_use]
    pub fn for_memory(memory_mb: Option<u64>) -> Self {
        let [(small, slow), (large, fast)] = LINK;
        let above = memory_mb.unwrap_or(small).clamp(small, large) - small;
        let link = slow + above * (fast - slow) / (large - small);
        let connections = link.div_ceil(CONNECTION_MB_PER_S) + 2;
        Self {
            part_bytes: PART_BYTES,
            max_connections: usize::try_from(connections).unwrap_or(usize::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_memory_permits_more_connections() {
        let connections = |mb| PartLimits::for_memory(mb).max_connections;
        let sizes = [128, 1_769, 2_048, 4_096, 10_240, 1 << 40];
        assert_eq!(sizes.map(|mb| connections(Some(mb))), [3, 3, 3, 4, 7, 7]);
        assert_eq!(connections(None), 3);
    }
}
