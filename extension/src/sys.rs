//! System calls that need `unsafe` or libc.
#![expect(
    unsafe_code,
    reason = "the module for system calls; each block states why it is sound"
)]

mod directory;
mod file_cache;
mod huge_pages;
mod memory;

use std::ffi::{CStr, CString, c_void};
use std::fs::File;
use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::NonNull;

pub use directory::make_private;
pub use file_cache::{is_cached, read_ahead};
pub use huge_pages::{allocate_aligned, with_huge_pages};
pub use memory::{MemoryProbe, SystemMemory};

/// Disables the telemetry client of ONNX Runtime, which Microsoft's builds enable by default from version 1.29.
///
/// # Safety
/// Changes the environment of the process, so it must be called before any other thread exists.
pub unsafe fn disable_onnxruntime_telemetry() {
    // SAFETY: both strings are constants that end in NUL, and the caller guarantees that no other thread reads the
    // environment concurrently.
    unsafe { libc::setenv(c"ORT_DISABLE_TELEMETRY".as_ptr(), c"1".as_ptr(), 1) };
}

/// Returns a number from the system's random number generator. State of the process would be the same in all
/// environments that are restored from one snapshot.
#[must_use]
pub fn random_u64() -> u64 {
    // Linux always returns a few bytes.
    getrandom::u64().unwrap_or_default()
}

/// As [`random_u64`], with 32 bits.
#[must_use]
pub fn random_u32() -> u32 {
    getrandom::u32().unwrap_or_default()
}

/// Seeds the random numbers of libraries on this thread anew: the AWS SDK draws the jitter of its retries from them.
pub fn reseed_libraries() {
    fastrand::seed(random_u64());
}

/// Ends the process at once, without the destructors of C++ libraries, because a thread may still be running inside
/// ONNX Runtime.
pub fn exit(code: i32) -> ! {
    let _ = std::io::stdout().flush();
    // SAFETY: _exit has no precondition, and does not return.
    unsafe { libc::_exit(code) }
}

/// Makes all threads share one heap. With a heap per thread, glibc returns memory to the system only in part, and free
/// space of one heap is useless to other threads. Each heap also grows page by page, in system calls that block page
/// faults of other threads. More than a thousand of them occur while ONNX Runtime opens.
pub fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes the allocator's own lock and has no other precondition. A failure changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Returns freed memory to the system. Otherwise glibc keeps it, up to the size of a model.
pub fn release_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes the allocator's own locks and has no other precondition.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Returns the freed bytes of the heap, which [`release_freed_memory`] can return to the system. Takes the
/// allocator's lock and walks its lists.
#[must_use]
pub fn free_heap_bytes() -> u64 {
    #[cfg(target_env = "gnu")]
    {
        // mallinfo2 needs glibc 2.33. The count of mallinfo wraps at 4 GB.
        // SAFETY: mallinfo takes the allocator's own locks and has no other precondition.
        let figures = unsafe { libc::mallinfo() };
        u64::from(figures.fordblks.cast_unsigned())
    }
    #[cfg(not(target_env = "gnu"))]
    0
}

/// Lowers the priority of the calling thread, and of threads that it starts, below threads that serve requests.
pub fn lower_thread_priority() {
    // SAFETY: for PRIO_PROCESS, 0 means the calling thread on Linux; a failure leaves the priority as it was.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 10);
    }
}

/// Sets `SCHED_BATCH` for the calling thread and for threads that it starts: they do not preempt a running thread
/// when they wake up. Their share of the CPU stays the same.
pub fn use_sched_batch() {
    // SAFETY: a struct of integers, for which zero is a value.
    let parameters = unsafe { std::mem::zeroed::<libc::sched_param>() };
    // SAFETY: 0 means the calling thread; the parameters are only read. A failure leaves the policy as it was.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters);
    }
}

/// Returns the resident memory of this process in bytes; `None` if `/proc` cannot be read.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    resident().map(|(all, _)| all)
}

/// Returns the part of [`resident_bytes`] that is not backed by files, which the system cannot reclaim.
#[must_use]
pub fn own_bytes() -> Option<u64> {
    resident().map(|(all, of_files)| all.saturating_sub(of_files))
}

/// Returns the resident memory of this process, and the part that is backed by files, in bytes.
fn resident() -> Option<(u64, u64)> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = statm
        .split_ascii_whitespace()
        .skip(1)
        .map(str::parse::<u64>);
    let (all, of_files) = (pages.next()?.ok()?, pages.next()?.ok()?);
    // SAFETY: sysconf reads a constant of the system.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    Some((all * page, of_files * page))
}

/// Returns the number of threads of this process; `None` if `/proc` cannot be read.
#[must_use]
pub fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

/// Returns the number of open file descriptors of this process; `None` if `/proc` cannot be read.
#[must_use]
pub fn file_descriptors() -> Option<usize> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // The directory itself is open during the count.
    Some(entries.saturating_sub(1))
}

/// Size of a file system, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// Total size.
    pub total: u64,
    /// Space that is available to this process.
    pub free: u64,
}

/// Returns the size of the file system of `path`; `None` if it is unknown.
#[must_use]
pub fn disk(path: &Path) -> Option<Disk> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut figures = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends in NUL, and the struct is valid for writes; it is read only after the call succeeded.
    let figures = unsafe {
        if libc::statvfs(path.as_ptr(), figures.as_mut_ptr()) != 0 {
            return None;
        }
        figures.assume_init()
    };
    Some(Disk {
        total: figures.f_blocks.saturating_mul(figures.f_frsize),
        free: figures.f_bavail.saturating_mul(figures.f_frsize),
    })
}

/// Returns `true` if `path` is on NFS, as EFS is.
#[must_use]
pub fn is_on_nfs(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    let mut figures = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path ends in NUL, and the struct is valid for writes; it is read only after the call succeeded.
    unsafe {
        libc::statfs(path.as_ptr(), figures.as_mut_ptr()) == 0
            && figures.assume_init().f_type == libc::NFS_SUPER_MAGIC
    }
}

/// Checks that this process may create files in a directory. The error is the reason, such as a read-only file system.
pub fn check_writable(directory: &Path) -> io::Result<()> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: the path ends in NUL.
    match unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reserves disk space for the first `bytes` of `file`, without changing its length. Does nothing on file systems
/// without support, such as NFS. Fails if there is not enough space.
pub fn reserve_space(file: &File, bytes: u64) -> io::Result<()> {
    let Ok(length @ 1..) = libc::off_t::try_from(bytes) else {
        return Ok(());
    };
    // SAFETY: the descriptor is open as long as `file` is borrowed, and no memory is passed.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, length) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => Err(error),
        _ => Ok(()),
    }
}

/// Returns the number of CPUs that this process may use; at least 1.
#[must_use]
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Reads exactly `length` bytes at `offset` of `file` to `to`.
///
/// # Safety
/// `to` must be valid for writes of `length` bytes, which need not be initialised.
pub unsafe fn read_exact_at(
    file: &File,
    to: *mut u8,
    length: usize,
    offset: u64,
) -> io::Result<()> {
    let mut done = 0;
    while done < length {
        let at = offset.checked_add(done as u64);
        let at = at.and_then(|at| libc::off_t::try_from(at).ok());
        let at = at.ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: the descriptor is open as long as `file` is borrowed, and `length - done` bytes from `to + done`
        // are valid for writes.
        let read = unsafe { libc::pread(file.as_raw_fd(), to.add(done).cast(), length - done, at) };
        match usize::try_from(read) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Returns the address of a symbol in a shared library that is already open. `None` if the library is not open or has
/// no such symbol.
#[must_use]
pub fn symbol(library: &Path, name: &CStr) -> Option<NonNull<c_void>> {
    let library = CString::new(library.as_os_str().as_bytes()).ok()?;
    // SAFETY: both strings end in NUL. With RTLD_NOLOAD nothing is opened, so that no code of the library runs. The
    // additional reference is never released, so that the address stays valid.
    let address = unsafe {
        let handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY);
        if handle.is_null() {
            return None;
        }
        libc::dlsym(handle, name.as_ptr())
    };
    NonNull::new(address)
}

/// Returns `true` if `path` is a Unix socket.
#[must_use]
pub fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scheduling policy of the calling thread: the 41st field of `stat` in `proc(5)`.
    fn policy() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, after_name) = stat.rsplit_once(')').unwrap();
        let field = after_name.split_ascii_whitespace().nth(41 - 3);
        field.unwrap().parse().unwrap()
    }

    #[test]
    fn sched_batch_applies_to_the_thread_and_its_children() {
        let thread = std::thread::spawn(|| {
            use_sched_batch();
            let started = std::thread::spawn(policy).join();
            (policy(), started.unwrap())
        });
        let batch = libc::SCHED_BATCH;
        assert_eq!(thread.join().unwrap(), (batch, batch));
        assert_eq!(policy(), libc::SCHED_OTHER);
    }
}
