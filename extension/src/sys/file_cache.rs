//! Page cache of files.

use std::fs::File;
use std::os::fd::AsRawFd as _;

/// Maximum number of bytes of one call. The kernel reads at most its read-ahead window, by default 128 KB, and ignores
/// the rest.
const MAX_BYTES: u64 = 128 << 10;

/// Asks the kernel to read a part of a file into the page cache. May wait while the device has many reads queued.
pub fn read_ahead(file: &File, offset: u64, length: u64) {
    let mut begin = offset;
    let end = offset.saturating_add(length);
    while begin < end {
        let bytes = (end - begin).min(MAX_BYTES);
        let (Ok(at), Ok(count)) = (begin.try_into(), bytes.try_into()) else {
            return;
        };
        // SAFETY: the descriptor is open, and the call has no other precondition. It is only advice.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), at, count, libc::POSIX_FADV_WILLNEED) };
        begin += bytes;
    }
}

/// Returns `true` if the page at this offset is in the page cache; `false` if it is not, or if the file system cannot
/// tell.
#[must_use]
pub fn is_cached(file: &File, offset: u64) -> bool {
    let mut byte = 0_u8;
    let part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let Ok(offset) = offset.try_into() else {
        return false;
    };
    // SAFETY: the descriptor is open, and the only buffer is one byte that is written before the call returns.
    let read = unsafe {
        libc::preadv2(
            file.as_raw_fd(),
            &raw const part,
            1,
            offset,
            libc::RWF_NOWAIT,
        )
    };
    read == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

    #[test]
    fn reading_ahead_changes_no_byte_and_passes_the_end() {
        let before = std::fs::read(PATH).unwrap();
        let file = File::open(PATH).unwrap();
        read_ahead(&file, 0, before.len() as u64 + MAX_BYTES);
        read_ahead(&file, u64::MAX - 1, u64::MAX);
        assert!(std::fs::read(PATH).unwrap() == before);
    }

    #[test]
    fn no_page_after_the_end_is_cached() {
        let file = File::open(PATH).unwrap();
        let length = file.metadata().unwrap().len();
        assert!(!is_cached(&file, length));
        assert!(!is_cached(&file, u64::MAX));
    }
}
