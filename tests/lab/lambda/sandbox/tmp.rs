//! A `/tmp` of limited size, as on Lambda: a file system in memory, mounted on the host's folder.
//!
//! Files in it count as memory of the writing processes, which is not so on Lambda. It is therefore
//! for tests of a full `/tmp` and not for every environment.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// `/tmp` cannot have a size here.
#[derive(Debug, thiserror::Error)]
#[error("cannot limit {} to {megabytes} MB: mounting a file system requires root", folder.display())]
pub struct NoSizeLimit {
    folder: PathBuf,
    megabytes: u32,
    #[source]
    source: nix::Error,
}

/// A folder of limited size. Its content is removed with this value.
#[derive(Debug)]
pub struct SizedTmp {
    folder: PathBuf,
}

impl SizedTmp {
    /// Mounts a file system of `megabytes` on `folder`, before a sandbox that shows the folder is
    /// started.
    ///
    /// # Errors
    /// [`NoSizeLimit`] if the lab may not mount.
    pub fn mount(folder: &Path, megabytes: u32) -> Result<Self, NoSizeLimit> {
        let options = format!("size={megabytes}m,mode=0700");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let source = "model-sidecar-lab";
        mount(Some(source), folder, Some("tmpfs"), flags, Some(&*options)).map_err(|source| {
            NoSizeLimit {
                folder: folder.to_owned(),
                megabytes,
                source,
            }
        })?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }
}

impl Drop for SizedTmp {
    fn drop(&mut self) {
        // Detached, because a process that is still being killed may use it for a moment.
        let _ = umount2(&self.folder, MntFlags::MNT_DETACH);
    }
}
