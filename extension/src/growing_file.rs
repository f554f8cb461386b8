//! A file that one thread writes from its beginning, while another thread reads it.
//!
//! [`GrowingFile`] is the reader's side: a read waits until its bytes are written. [`FileGrowth`] is the writer's side.
//! If it is dropped early, waiting reads fail.

use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Reader's side of a file that grows to a known length.
#[derive(Debug)]
pub struct GrowingFile {
    file: File,
    length: u64,
    progress: Arc<Progress>,
}

/// Writer's side. A drop ends the growth.
#[derive(Debug)]
pub struct FileGrowth(Arc<Progress>);

#[derive(Debug, Default)]
struct Progress {
    written: Mutex<Written>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Written {
    /// Number of contiguous bytes from the beginning of the file.
    bytes: u64,
    has_ended: bool,
}

impl GrowingFile {
    /// Returns both sides of `file`, which will have `length` bytes. It may have that length already, with arbitrary
    /// content.
    #[must_use]
    pub fn new(file: File, length: u64) -> (Self, FileGrowth) {
        let progress = Arc::<Progress>::default();
        let growth = FileGrowth(Arc::clone(&progress));
        let growing = Self {
            file,
            length,
            progress,
        };
        (growing, growth)
    }

    /// Returns the file itself. Bytes before the end of a successful [`Self::wait_for`] are written.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the length of the complete file in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns `true` if all bytes are written.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.progress.written().bytes >= self.length
    }

    /// Waits until all bytes before `end` are written. Returns the number of bytes written from the beginning. An error
    /// if the growth ends earlier.
    pub fn wait_for(&self, end: u64) -> io::Result<u64> {
        let mut written = self.progress.written();
        while written.bytes < end {
            if written.has_ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let next = self.progress.changed.wait(written);
            written = next.unwrap_or_else(PoisonError::into_inner);
        }
        Ok(written.bytes)
    }
}

impl FileGrowth {
    /// Records that the first `bytes` bytes of the file are written.
    pub fn advance(&self, bytes: u64) {
        let mut written = self.0.written();
        written.bytes = written.bytes.max(bytes);
        drop(written);
        self.0.changed.notify_all();
    }
}

impl Drop for FileGrowth {
    fn drop(&mut self) {
        self.0.written().has_ended = true;
        self.0.changed.notify_all();
    }
}

impl Progress {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_wait_for_the_writer() {
        let (growing, growth) = GrowingFile::new(tempfile::tempfile().unwrap(), 30);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| growing.wait_for(20).unwrap());
            growth.advance(10);
            growth.advance(25);
            assert_eq!(reader.join().unwrap(), 25);
        });
        assert!(!growing.is_complete());
        growth.advance(30);
        assert!(growing.is_complete());
    }

    #[test]
    fn readers_learn_that_the_growth_has_ended() {
        let (growing, growth) = GrowingFile::new(tempfile::tempfile().unwrap(), 30);
        growth.advance(10);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| growing.wait_for(11));
            drop(growth);
            assert!(reader.join().unwrap().is_err());
        });
        assert_eq!(growing.wait_for(10).unwrap(), 10);
    }
}
