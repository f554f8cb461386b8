//! How a whole file gets its name, and what of an interrupted one is swept.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempPath;

use super::{Cache, CacheError, CachedFile, PARTIAL_PREFIX, digest_of, entries, failed};
use crate::ids::Digest;

/// What nobody has written to for so long, on a directory that several environments share, was left behind: no
/// transfer that still brings something takes a day.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

impl Cache {
    /// Gives a file that is whole its name.
    pub(super) fn place(
        &self,
        file: &File,
        path: TempPath,
        kept: &CachedFile,
        digest: &Digest,
    ) -> Result<(), CacheError> {
        let named = if self.is_shared {
            place_once(file, path, kept.path(), digest)
        } else {
            path.persist(kept.path()).map_err(|error| error.error)
        };
        named.map_err(|error| failed("cannot rename to", kept.path(), error))?;
        self.touch(kept.path());
        Ok(())
    }

    /// Notes that a file is used now: by the time of its last change, since that of the last access is not kept on
    /// many file systems, and an index would be one more file to keep right.
    pub(super) fn touch(&self, path: &Path) {
        // What a link leads to is not the cache's.
        if !self.is_shared && !path.is_symlink() {
            let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
        }
    }

    /// Removes files that have no name yet and belong to nobody.
    pub(super) fn sweep_temporary(&self, directory: &Path) -> Result<(), CacheError> {
        // Says why it cannot be read, where it cannot.
        let read = fs::read_dir(directory);
        read.map_err(|error| failed("cannot read the cache directory", directory, error))?;
        self.sweep_prefixed(directory, PARTIAL_PREFIX);
        Ok(())
    }

    /// Removes temporary files under the undotted prefix, which other releases write, where no file is named after a
    /// model.
    pub(super) fn sweep_undotted(&self) {
        for directory in [&self.files, &self.origins, &self.partials] {
            self.sweep_prefixed(directory, PARTIAL_PREFIX.trim_start_matches('.'));
        }
    }

    fn sweep_prefixed(&self, directory: &Path, prefix: &str) {
        let now = SystemTime::now();
        for path in entries(directory) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_left = !self.is_shared || is_abandoned(&path, now);
            if name.starts_with(prefix) && is_left {
                // The folders of interrupted loads as well.
                let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
            }
        }
    }
}

/// Names a file unless one of these bytes has that name: another environment may have it mapped, and on NFS it would
/// lose it. One that is damaged is replaced.
fn place_once(file: &File, path: TempPath, name: &Path, digest: &Digest) -> io::Result<()> {
    // The name must not reach another machine before the bytes.
    file.sync_all()?;
    match path.persist_noclobber(name) {
        Ok(()) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            if digest_of(name).is_ok_and(|there| there == *digest) {
                return Ok(());
            }
            error.path.persist(name).map_err(|error| error.error)
        }
        Err(error) => Err(error.error),
    }
}

fn is_abandoned(path: &Path, now: SystemTime) -> bool {
    let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
    let age = changed
        .ok()
        .and_then(|changed| now.duration_since(changed).ok());
    age.is_some_and(|age| age > ABANDONED)
}

#[cfg(test)]
mod tests;
