//! Folders whose files arrive at a limited speed, like a layer's on a host that has not run the
//! function before. Lambda loads code lazily, over its network.
//!
//! A FUSE file system shows the folders read-only, with an empty page cache. All reads share one
//! speed and are served in order. Metadata, such as names and sizes, is served immediately. A page
//! that was read once stays in the page cache of this mount.
//!
//! Control groups can limit reads as well, but they grant them in slices of 100 ms. At 150 MB/s,
//! the first 15 MB of a process pass at the speed of the disk.
//!
//! Mounting requires root and `/dev/fuse`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{getgid, getuid};
use tempfile::TempDir;

mod messages;
mod tree;

use messages::{Call, ReadCall, Request};
use tree::Tree;

/// Device of the protocol.
const DEVICE: &str = "/dev/fuse";
/// Size of a page in bytes.
const PAGE: u32 = 4096;
/// Maximum size of a request: a page of arguments, and names.
const MAX_REQUEST: usize = 64 * 1024;

/// A slow folder cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SlowFolderError {
    /// A folder cannot be read.
    #[error("cannot read {}", path.display())]
    Source {
        /// The folder, or a file in it.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The device is missing, or may not be opened.
    #[error("cannot open /dev/fuse: {0}; slow folders require root and a kernel with FUSE")]
    Device(#[source] io::Error),
    /// The mount was rejected.
    #[error("cannot mount a slow folder: {0}; mounting requires root")]
    Mount(#[source] io::Error),
}

/// Folders behind one slow connection. They are unmounted when the value is dropped.
#[derive(Debug)]
pub struct SlowFolder {
    point: TempDir,
    reads: Reads,
}

type Reads = Arc<Mutex<Vec<FileRead>>>;

/// A read of a file by the kernel, which fills the page cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRead {
    /// Path of the source.
    pub path: PathBuf,
    /// Offset in bytes, a multiple of the page size.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

impl SlowFolder {
    /// Mounts each folder below its name. `speed` is in bytes per second, and shared by all.
    ///
    /// # Errors
    /// [`SlowFolderError`] if a folder cannot be read, or mounting is not possible here.
    pub fn mount(folders: &[(&str, &Path)], speed: u64) -> Result<Self, SlowFolderError> {
        Self::with_window(folders, speed, None)
    }

    /// Mounts each folder below its name at full speed. The kernel reads nothing ahead, so that [`Self::reads`] has
    /// exactly the pages that were used, in the order of their use.
    ///
    /// # Errors
    /// [`SlowFolderError`], as for [`Self::mount`].
    pub fn by_page(folders: &[(&str, &Path)]) -> Result<Self, SlowFolderError> {
        Self::with_window(folders, u64::MAX, Some(PAGE))
    }

    /// Mounts folders. `window` is the kernel's read-ahead in bytes, if not its own.
    fn with_window(
        folders: &[(&str, &Path)],
        speed: u64,
        window: Option<u32>,
    ) -> Result<Self, SlowFolderError> {
        let tree = Arc::new(Tree::scan(folders)?);
        let device = OpenOptions::new().read(true).write(true).open(DEVICE);
        let device = device.map_err(SlowFolderError::Device)?;
        let point = tempfile::tempdir().map_err(SlowFolderError::Mount)?;
        let options = format!(
            "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
            device.as_raw_fd(),
            getuid(),
            getgid()
        );
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let name = Some("model-sidecar-lab");
        mount(name, point.path(), Some("fuse"), flags, Some(&*options))
            .map_err(|error| SlowFolderError::Mount(error.into()))?;
        let folder = Self {
            point,
            reads: Arc::default(),
        };
        let connection = Connection(Arc::new(device));
        let (queue, waiting) = mpsc::channel();
        let paced = Paced {
            connection: connection.clone(),
            tree: Arc::clone(&tree),
            speed,
            reads: Arc::clone(&folder.reads),
        };
        thread::spawn(move || paced.serve(&waiting));
        thread::spawn(move || connection.serve(&tree, &queue, window));
        Ok(folder)
    }

    /// Path of the folder with this name.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        self.point.path().join(name)
    }

    /// Bytes that have been read from the folders, including what the kernel read ahead.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.reads().iter().map(|read| read.length).sum()
    }

    /// All reads so far, in their order.
    #[must_use]
    pub fn reads(&self) -> Vec<FileRead> {
        let reads = self.reads.lock();
        reads.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for SlowFolder {
    fn drop(&mut self) {
        // Detached, because a process that is still being killed may use it for a moment. The
        // threads end with the file system.
        let _ = umount2(self.point.path(), MntFlags::MNT_DETACH);
    }
}

/// The kernel's side of the file system.
#[derive(Clone)]
struct Connection(Arc<File>);

impl Connection {
    /// Answers requests until the file system is unmounted.
    fn serve(&self, tree: &Tree, reads: &mpsc::Sender<ReadCall>, window: Option<u32>) {
        let mut buffer = vec![0; MAX_REQUEST];
        loop {
            let length = match (&*self.0).read(&mut buffer) {
                Ok(length) => length,
                // A request that was withdrawn before it was read.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let Some(request) = buffer.get(..length).and_then(Request::parse) else {
                return;
            };
            match request.call {
                Call::Read(read) => {
                    if reads.send(read).is_err() {
                        return;
                    }
                }
                Call::Silent => {}
                Call::Init { readahead } => {
                    let window = window.map_or(readahead, |window| window.min(readahead));
                    let body = messages::init(window);
                    self.send(&messages::response(request.unique, Ok(&body)));
                }
                call => self.send(&tree.answer(request.unique, &call)),
            }
        }
    }

    /// Sends a response. A request whose caller was killed no longer expects one.
    fn send(&self, response: &[u8]) {
        let _ = (&*self.0).write(response);
    }
}

/// Reads, at a limited speed.
struct Paced {
    connection: Connection,
    tree: Arc<Tree>,
    speed: u64,
    reads: Reads,
}

impl Paced {
    fn serve(&self, reads: &mpsc::Receiver<ReadCall>) {
        let mut free = Instant::now();
        for call in reads {
            let content = self.content(&call);
            if let Ok(content) = &content {
                let length = content.len() as u64;
                free = free.max(Instant::now()) + time(length, self.speed);
                thread::sleep(free.saturating_duration_since(Instant::now()));
                let reads = self.reads.lock();
                reads
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(FileRead {
                        path: self.tree.path(call.node),
                        offset: call.offset,
                        length,
                    });
            }
            self.connection
                .send(&messages::response(call.unique, content.as_deref()));
        }
    }

    fn content(&self, call: &ReadCall) -> io::Result<Vec<u8>> {
        let file = self.tree.open(call.node)?;
        let mut content = vec![0; call.size];
        let mut filled = 0;
        while let Some(rest) = content.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, call.offset + filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        content.truncate(filled);
        Ok(content)
    }
}

/// Time in which `bytes` pass at `speed`.
fn time(bytes: u64, speed: u64) -> Duration {
    Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / speed.max(1))
}
