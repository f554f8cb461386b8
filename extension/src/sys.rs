//! The few calls that need `unsafe` or libc.
#![expect(
    unsafe_code,
    reason = "the one room where the process itself is touched; each block says why it is sound"
)]

mod directory;
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
pub use memory::{MemoryProbe, SystemMemory};

/// Tells ONNX Runtime not to start its telemetry client (on by default in Microsoft's builds from 1.29 on).
///
/// # Safety
/// Changes the process's environment: call it before any other thread exists.
pub unsafe fn disable_onnxruntime_telemetry() {
    // SAFETY: both strings are constants that end in NUL, and the caller promises that no other thread can
    // read the environment at the same time.
    unsafe { libc::setenv(c"ORT_DISABLE_TELEMETRY".as_ptr(), c"1".as_ptr(), 1) };
}

/// A number from the system's random number generator. State of the process would be the same in every environment that
/// is restored from one snapshot.
#[must_use]
pub fn random_u64() -> u64 {
    // Linux gives so few bytes without fail.
    getrandom::u64().unwrap_or_default()
}

/// As [`random_u64`], of half the length.
#[must_use]
pub fn random_u32() -> u32 {
    getrandom::u32().unwrap_or_default()
}

/// Ends the process at once, without the destructors of C++ libraries: a thread may still be inside ONNX Runtime,
/// opening it, loading or running a model, and would have its ground taken from under it.
pub fn exit(code: i32) -> ! {
    let _ = std::io::stdout().flush();
    // SAFETY: _exit has no precondition, and does not return.
    unsafe { libc::_exit(code) }
}

/// Has all threads share one heap. Each would else have its own, which glibc gives back to the system in part only, whose
/// room is of no use to the others, and which grows page by page, each time in a system call that holds up whoever
/// touches new memory elsewhere: more than a thousand times while ONNX Runtime opens.
pub fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes the allocator's own lock and has no other precondition. Where it fails, all is as it was.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory that was freed back to the system. glibc keeps it otherwise, a whole model's worth.
pub fn release_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes the allocator's own locks and has no other precondition.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes of the heap that were freed and are still this process's: what [`release_freed_memory`] may give back. Takes the
/// allocator's lock and looks through its lists.
#[must_use]
pub fn free_heap_bytes() -> u64 {
    #[cfg(target_env = "gnu")]
    {
        // Not mallinfo2, which glibc has from 2.33 on. This one counts up to 4 GB, and begins anew there.
        // SAFETY: mallinfo takes the allocator's own locks and has no other precondition.
        let figures = unsafe { libc::mallinfo() };
        u64::from(figures.fordblks.cast_unsigned())
    }
    #[cfg(not(target_env = "gnu"))]
    0
}

/// Lowers the priority of the calling thread, and of those that it starts, behind threads that serve requests.
pub fn lower_thread_priority() {
    // SAFETY: for PRIO_PROCESS, 0 means the calling thread on Linux; a failure leaves the priority as it was.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 10);
    }
}

/// Has the calling thread, and those that it starts, not take the CPU from whoever runs when it is woken. Its share of
/// the CPU stays the same.
pub fn use_sched_batch() {
    // SAFETY: a struct of integers, for which zero is a value.
    let parameters = unsafe { std::mem::zeroed::<libc::sched_param>() };
    // SAFETY: 0 means the calling thread; the parameters are read only. A failure leaves the policy as it was.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters);
    }
}

/// Resident memory of this process in bytes; `None` where `/proc` is not to be read.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    resident().map(|(all, _)| all)
}

/// The part of [`resident_bytes`] that is no file's: what the system cannot take back.
#[must_use]
pub fn own_bytes() -> Option<u64> {
    resident().map(|(all, of_files)| all.saturating_sub(of_files))
}

/// Resident memory of this process, and the part of it that is of files, in bytes.
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

/// A file system's figures, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// How much it holds.
    pub total: u64,
    /// How much this process may still write.
    pub free: u64,
}

/// The figures of the file system of `path`; `None` where it does not say.
#[must_use]
pub fn disk(path: &Path) -> Option<Disk> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut figures = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends in NUL, and the struct is the caller's to fill; it is read only when that was done.
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

/// Whether `path` lies on NFS, as EFS does.
#[must_use]
pub fn is_on_nfs(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    let mut figures = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path ends in NUL, and the struct is the caller's to fill; it is read only when that was done.
    unsafe {
        libc::statfs(path.as_ptr(), figures.as_mut_ptr()) == 0
            && figures.assume_init().f_type == libc::NFS_SUPER_MAGIC
    }
}

/// Whether this process may make files in a directory; the error says why not, such as a file system that is read-only.
pub fn check_writable(directory: &Path) -> io::Result<()> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: the path ends in NUL.
    match unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes room on the disk for the first `bytes` of `file`, without changing its length. Where the file system cannot,
/// as on NFS, nothing happens; where there is no room, the error says so.
pub fn reserve_space(file: &File, bytes: u64) -> io::Result<()> {
    let Ok(length @ 1..) = libc::off_t::try_from(bytes) else {
        return Ok(());
    };
    // SAFETY: the descriptor is open as long as `file` is borrowed, and no memory is handed over.
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

/// CPUs that this process may use at the same time; at least 1.
#[must_use]
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Reads the `length` bytes at `offset` of `file` to `to`, all or an error.
///
/// # Safety
/// `to` is the beginning of `length` bytes that the caller may write; they need not be initialised.
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
        // SAFETY: the descriptor is open as long as `file` is borrowed, and `length - done` bytes from `to + done` on are
        // the caller's.
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

/// The address of a symbol in a shared library that is open already; `None` where it is not, or has no such symbol.
#[must_use]
pub fn symbol(library: &Path, name: &CStr) -> Option<NonNull<c_void>> {
    let library = CString::new(library.as_os_str().as_bytes()).ok()?;
    // SAFETY: both texts end in NUL. With RTLD_NOLOAD nothing is opened, so that no code of the library runs; the one
    // reference more that this takes is never given back, so the address stays good.
    let address = unsafe {
        let handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY);
        if handle.is_null() {
            return None;
        }
        libc::dlsym(handle, name.as_ptr())
    };
    NonNull::new(address)
}

/// Whether `path` is a Unix socket.
#[must_use]
pub fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The calling thread's scheduling policy, the 41st of the figures that `proc(5)` lists.
    fn policy() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, after_name) = stat.rsplit_once(')').unwrap();
        let figure = after_name.split_ascii_whitespace().nth(41 - 3);
        figure.unwrap().parse().unwrap()
    }

    #[test]
    fn a_thread_that_gives_way_and_those_that_it_starts_do_so_alone() {
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
