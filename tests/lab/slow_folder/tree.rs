//! Names and attributes of all files, read once.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::SlowFolderError;
use super::messages::{self, Attributes, Call};

/// Number of the file system's root.
const ROOT: u64 = 1;

/// All files and folders, with their numbers.
pub(super) struct Tree {
    nodes: Vec<Node>,
    opened: Mutex<HashMap<u64, Arc<File>>>,
}

struct Node {
    path: PathBuf,
    attributes: Attributes,
    /// Names in a folder; the order is that of its list.
    names: Vec<(OsString, u64)>,
}

impl Tree {
    /// Reads the folders. Symbolic links are followed.
    pub(super) fn scan(folders: &[(&str, &Path)]) -> Result<Self, SlowFolderError> {
        let mut tree = Self {
            nodes: Vec::new(),
            opened: Mutex::default(),
        };
        let (_, first) = folders.first().copied().unwrap_or(("", Path::new("/")));
        tree.add(first.to_owned())?;
        for (name, path) in folders {
            let number = tree.add_all(path)?;
            tree.nodes[0].names.push(((*name).into(), number));
        }
        Ok(tree)
    }

    /// Adds a file or folder with all that it contains, and returns its number.
    fn add_all(&mut self, path: &Path) -> Result<u64, SlowFolderError> {
        let number = self.add(path.to_owned())?;
        if path.is_dir() {
            let failed = |source| SlowFolderError::Source {
                path: path.to_owned(),
                source,
            };
            let mut names = Vec::new();
            for entry in fs::read_dir(path).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                names.push((entry.file_name(), self.add_all(&entry.path())?));
            }
            self.nodes[index(number)].names = names;
        }
        Ok(number)
    }

    fn add(&mut self, path: PathBuf) -> Result<u64, SlowFolderError> {
        let number = self.nodes.len() as u64 + ROOT;
        let attributes = match fs::metadata(&path) {
            Ok(metadata) => attributes(number, &metadata),
            Err(source) => return Err(SlowFolderError::Source { path, source }),
        };
        self.nodes.push(Node {
            path,
            attributes,
            names: Vec::new(),
        });
        Ok(number)
    }

    fn node(&self, number: u64) -> io::Result<&Node> {
        let node = self.nodes.get(index(number));
        node.ok_or_else(|| io::Error::from_raw_os_error(nix::libc::ENOENT))
    }

    /// Path of the source behind a number.
    pub(super) fn path(&self, number: u64) -> PathBuf {
        self.node(number)
            .map(|node| node.path.clone())
            .unwrap_or_default()
    }

    /// The file behind a number. It stays open.
    pub(super) fn open(&self, number: u64) -> io::Result<Arc<File>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = opened.get(&number) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(&self.node(number)?.path)?);
        opened.insert(number, Arc::clone(&file));
        Ok(file)
    }

    /// Response to a call that is not a read.
    pub(super) fn answer(&self, unique: u64, call: &Call<'_>) -> Vec<u8> {
        let body = match call {
            Call::Lookup { parent, name } => self.node(*parent).and_then(|parent| {
                let mut names = parent.names.iter();
                let found = names.find(|(one, _)| one == name);
                let found = found.map(|(_, number)| self.node(*number)).transpose()?;
                Ok(messages::entry(found.map(|node| &node.attributes)))
            }),
            Call::Attributes { node } => self
                .node(*node)
                .map(|node| messages::attributes(&node.attributes)),
            Call::List { node, offset, size } => self.list(*node, *offset, *size),
            _ => Err(io::Error::from_raw_os_error(nix::libc::ENOSYS)),
        };
        messages::response(unique, body.as_deref())
    }

    /// Part of a folder's list, from an offset on.
    fn list(&self, number: u64, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        let folder = self.node(number)?;
        // The kernel ignores the number of the parent.
        let own = [(OsStr::new("."), number), (OsStr::new(".."), number)];
        let names = folder.names.iter().map(|(name, number)| (&**name, *number));
        let mut body = Vec::new();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (next, (name, number)) in (1..).zip(own.into_iter().chain(names)).skip(from) {
            if !messages::list(&mut body, size, next, &self.node(number)?.attributes, name) {
                break;
            }
        }
        Ok(body)
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number.wrapping_sub(ROOT)).unwrap_or(usize::MAX)
}

fn attributes(node: u64, of: &Metadata) -> Attributes {
    Attributes {
        node,
        size: of.size(),
        modified: (
            of.mtime().cast_unsigned(),
            u32::try_from(of.mtime_nsec()).unwrap_or_default(),
        ),
        mode: of.mode(),
        owner: [of.uid(), of.gid()],
    }
}
