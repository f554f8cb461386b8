//! Huge pages for the weights of a model.
//!
//! The first write to a page is a page fault: 25,000 of them for 100 MB of weights, and as many for their packed form.
//! With pages of 2 MiB, 100 MB need 50. Weights are written and used whole, so that huge pages take no more memory.
//! Tensors of runs can be parts of larger allocations, and keep small pages.
//!
//! ONNX Runtime cannot ask for huge pages. Its C++ library allocates with `aligned_alloc`, which the program defines in
//! place of the C library: its dynamic symbol takes precedence. Where the kernel has no huge page free, pages are
//! small.

use std::cell::Cell;
use std::ffi::c_void;

/// Size of a huge page in bytes, on both architectures.
const HUGE_PAGE: usize = 2 * 1024 * 1024;

thread_local! {
    /// `true` while this thread allocates weights.
    static IS_WANTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, whose large allocations on this thread get huge pages.
pub fn with_huge_pages<T>(work: impl FnOnce() -> T) -> T {
    struct Previous(bool);
    impl Drop for Previous {
        fn drop(&mut self) {
            IS_WANTED.set(self.0);
        }
    }
    let _previous = Previous(IS_WANTED.replace(true));
    work()
}

/// Allocates `size` bytes as `aligned_alloc` does: for `free`, and null without memory. The alignment is a power of
/// two.
#[must_use]
pub fn allocate_aligned(alignment: usize, size: usize) -> *mut c_void {
    let is_huge = IS_WANTED.get() && size >= HUGE_PAGE;
    let alignment = alignment.max(if is_huge { HUGE_PAGE } else { 1 });
    // SAFETY: any alignment and size are allowed. This is the older name of the function in the C library.
    let memory = unsafe { libc::memalign(alignment, size) };
    if is_huge && !memory.is_null() {
        // The rest of the last huge page may belong to another allocation.
        let whole_pages = size / HUGE_PAGE * HUGE_PAGE;
        // SAFETY: the range is within the allocation, and the advice does not change its content. A kernel without huge
        // pages returns an error, which changes nothing.
        unsafe { libc::madvise(memory, whole_pages, libc::MADV_HUGEPAGE) };
    }
    memory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_are_aligned_and_writable() {
        for (alignment, size) in [(8, 0), (64, 1), (64, 5 * HUGE_PAGE), (4096, HUGE_PAGE)] {
            let memory = with_huge_pages(|| allocate_aligned(alignment, size));
            assert!(!memory.is_null() && memory.addr() % alignment == 0);
            // SAFETY: the allocation has `size` bytes, and this is its last use.
            unsafe {
                memory.cast::<u8>().write_bytes(1, size);
                libc::free(memory);
            }
        }
        assert!(allocate_aligned(64, usize::MAX / 2).is_null());
    }

    #[test]
    fn a_panic_ends_the_wish_for_huge_pages() {
        let panic = std::panic::catch_unwind(|| with_huge_pages(|| panic!("as a load may")));
        assert!(panic.is_err() && !IS_WANTED.get());
    }
}
