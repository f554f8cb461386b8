//! How a fetch is divided.
//!
//! A connection to S3 brings 85–90 MB/s at best, and less while TCP finds its speed. An environment's link has 625
//! Mbit/s, and up to 3,000 above 2,048 MB of memory. So there is a connection for every 85 MB/s, and two more, which
//! fill the link while one waits for its first byte. PartLimits are large enough for that wait to be small beside them,
//! and small enough that what has arrived is one long beginning and little else, for it is hashed in order. A file of
//! less than two comes in one request: until a second connection brought its first byte, the first would have brought
//! much of the rest, and what it had under way when it was dropped would come twice.

/// S3's advice is 8 to 16 MB.
const LENGTH: u64 = 8 * 1024 * 1024;
/// What one connection brings, in MB/s.
const CONNECTION: u64 = 85;
/// Memory in MB, and what the link brings with that, in MB/s: from the first size on more, in proportion.
const LINK: [(u64, u64); 2] = [(2_048, 78), (10_240, 375)];

/// How a fetch is divided. A file of less than two parts comes in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartLimits {
    /// The length of a part in bytes; the last is up to twice as long.
    pub part_bytes: u64,
    /// How many connections are used at once, at most.
    pub max_connections: usize,
}

impl PartLimits {
    /// For a function of this memory size in MB; for the smallest where it is not known.
    #[must_use]
    pub fn for_memory(memory_mb: Option<u64>) -> Self {
        let [(small, slow), (large, fast)] = LINK;
        let above = memory_mb.unwrap_or(small).clamp(small, large) - small;
        let link = slow + above * (fast - slow) / (large - small);
        let connections = link.div_ceil(CONNECTION) + 2;
        Self {
            part_bytes: LENGTH,
            max_connections: usize::try_from(connections).unwrap_or(usize::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_memory_buys_more_of_the_link() {
        let connections = |mb| PartLimits::for_memory(mb).max_connections;
        let sizes = [128, 1_769, 2_048, 4_096, 10_240, 1 << 40];
        assert_eq!(sizes.map(|mb| connections(Some(mb))), [3, 3, 3, 4, 7, 7]);
        assert_eq!(connections(None), 3);
    }
}
