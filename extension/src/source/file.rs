//! A file: on EFS, on a mounted bucket, in the function itself or in another layer.
//!
//! It is copied into the cache like any other model: ONNX Runtime maps what it loads, and a file that is truncated in
//! place takes down the process that has it mapped. One whose name is the SHA-256 of its bytes is used where it lies, since
//! nobody writes to such a file. What tells one content from another is the length and the time of
//! the last change, which are the same in every environment that sees the same file. A copy during which the file was
//! written to is begun anew.

use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_core::future::BoxFuture;

use super::{
    ChunkStream, EarlierVersion, ModelFolder, NamedBy, Object, Opened, Source, SourceError,
};
use crate::ids::{Digest, ETag, FilePath, Identity};

/// What is read at once: large enough for a network file system, small beside a model.
const PIECE: u64 = 1024 * 1024;

/// A directory.
#[derive(Clone, Debug)]
pub struct LocalFolder {
    /// With `/` at its end.
    path: String,
}

impl LocalFolder {
    /// The directory at an absolute path, which ends in `/`.
    #[must_use]
    pub fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
        }
    }
}

impl ModelFolder for LocalFolder {
    fn file(&self, path: &FilePath, named: NamedBy) -> Box<dyn Source> {
        let source = FileSource::new(&format!("{}{path}", self.path));
        Box::new(match named {
            NamedBy::Configuration => source,
            NamedBy::Model => FileSource {
                within: Some(self.path.as_str().into()),
                ..source
            },
        })
    }

    fn folders<'a>(
        &'a self,
        folder: Option<&'a FilePath>,
    ) -> BoxFuture<'a, Result<Vec<String>, SourceError>> {
        Box::pin(async move {
            let below = folder.map(FilePath::as_str).unwrap_or_default();
            let path = format!("{}{below}", self.path);
            let source = FileSource::new(&path);
            let list = blocking(move || {
                let entries = match std::fs::read_dir(path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                    entries => entries?,
                };
                let mut names = Vec::new();
                for entry in entries {
                    let entry = entry?;
                    // Through links: a file system that is mounted may be full of them.
                    if entry.path().is_dir() {
                        names.push(entry.file_name().to_string_lossy().into_owned());
                    }
                }
                Ok(names)
            });
            list.await.map_err(|error| source.explain(&error))
        })
    }

    fn version(&self, path: &FilePath, id: &str) -> Result<Box<dyn Source>, SourceError> {
        let uri = FileSource::new(&format!("{}{path}", self.path)).uri();
        Err(SourceError::permanent(format!(
            "{uri}: there is no version {id}, since a file has no versions"
        ))
        .with_public_reason("a file has no versions"))
    }

    fn earlier_versions<'a>(
        &'a self,
        _: &'a FilePath,
    ) -> BoxFuture<'a, Result<Vec<EarlierVersion>, SourceError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// One file.
#[derive(Clone, Debug)]
pub struct FileSource {
    path: Arc<str>,
    /// The directory that a link must not lead out of.
    within: Option<Arc<str>>,
}

impl FileSource {
    /// The file at an absolute path.
    #[must_use]
    pub fn new(path: &str) -> Self {
        Self {
            path: path.into(),
            within: None,
        }
    }

    /// The file, and what there is to know of it.
    async fn look(&self) -> Result<(Arc<File>, Metadata), SourceError> {
        let (path, within) = (Arc::clone(&self.path), self.within.clone());
        let opened = blocking(move || {
            let file = File::open(&*path)?;
            let metadata = file.metadata()?;
            let strays = match within {
                Some(directory) => !lies_within(&file, &directory)?,
                None => false,
            };
            Ok((Arc::new(file), metadata, strays))
        });
        let (file, metadata, strays) = opened.await.map_err(|error| self.explain(&error))?;
        if strays {
            let (uri, within) = (self.uri(), self.within.as_deref().unwrap_or_default());
            return Err(SourceError::permanent(format!(
                "{uri}: this is a link that leads out of {within}, which a model's own files may not"
            ))
            .with_public_reason("a link leads out of the model's folder"));
        }
        if metadata.is_file() {
            Ok((file, metadata))
        } else {
            let uri = self.uri();
            Err(SourceError::permanent(format!("{uri}: this is no file"))
                .with_public_reason("this is no file"))
        }
    }

    fn explain(&self, error: &io::Error) -> SourceError {
        let uri = self.uri();
        match error.kind() {
            io::ErrorKind::NotFound => SourceError::permanent(format!(
                "{uri}: there is no such file (is the file system mounted at this path, or the layer attached?)"
            ))
            .with_public_reason("there is no such file"),
            io::ErrorKind::PermissionDenied => SourceError::permanent(format!(
                "{uri}: the file may not be read by the user that Lambda runs the function as"
            ))
            .with_public_reason("the file may not be read"),
            kind => SourceError::transient(format!("{uri}: {error}"))
                .with_public_reason(format!("the file cannot be read: {kind}")),
        }
    }

    fn body(&self, file: Arc<File>, identity: Identity, range: Range<u64>) -> Box<dyn ChunkStream> {
        Box::new(FileBody {
            source: self.clone(),
            file,
            identity,
            range,
        })
    }
}

/// Whether an open file is in `directory` or below it, links followed.
fn lies_within(file: &File, directory: &str) -> io::Result<bool> {
    // Of the file that is open, not of the name, behind which another link may be by now.
    let real = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(real.starts_with(std::fs::canonicalize(directory)?))
}

fn identity_of(metadata: &Metadata) -> Identity {
    let (size, seconds) = (metadata.len(), metadata.mtime());
    let nanoseconds = metadata.mtime_nsec();
    Identity {
        etag: ETag(format!("\"{size:x}-{seconds:x}-{nanoseconds:x}\"")),
        version_id: None,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?
}

impl Source for FileSource {
    fn uri(&self) -> String {
        format!("file://{}", self.path)
    }

    fn open<'a>(
        &'a self,
        known: Option<&'a Identity>,
    ) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(async move {
            let (file, metadata) = self.look().await?;
            let identity = identity_of(&metadata);
            if known == Some(&identity) {
                return Ok(Opened::Unchanged);
            }
            let size = metadata.len();
            Ok(Opened::Object(Object {
                identity: identity.clone(),
                size,
                checksum: None,
                range: 0..size,
                body: self.body(file, identity, 0..size),
            }))
        })
    }

    fn read<'a>(
        &'a self,
        identity: &'a Identity,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Box<dyn ChunkStream>, SourceError>> {
        Box::pin(async move {
            let (file, metadata) = self.look().await?;
            if identity_of(&metadata) != *identity {
                return Err(changed(&self.uri()));
            }
            Ok(self.body(file, identity.clone(), range))
        })
    }

    fn in_place(&self) -> Option<(PathBuf, Digest)> {
        let path = Path::new(&*self.path);
        let digest = Digest::parse(path.file_stem()?.to_str()?).ok()?;
        Some((path.to_owned(), digest))
    }
}

fn changed(uri: &str) -> SourceError {
    SourceError::changed(format!("{uri}: the file was written to meanwhile"))
        .with_public_reason("the file was written to while it was read")
}

struct FileBody {
    source: FileSource,
    file: Arc<File>,
    identity: Identity,
    range: Range<u64>,
}

impl ChunkStream for FileBody {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        Box::pin(async move {
            if self.range.is_empty() {
                return None;
            }
            let (file, at) = (Arc::clone(&self.file), self.range.start);
            let length = PIECE.min(self.range.end - at);
            let read = blocking(move || {
                let mut piece = vec![0; usize::try_from(length).unwrap_or_default()];
                file.read_exact_at(&mut piece, at)?;
                // Bytes from before and after a change must not meet in one model.
                Ok((piece, identity_of(&file.metadata()?)))
            });
            Some(match read.await {
                Ok((_, identity)) if identity != self.identity => Err(changed(&self.source.uri())),
                Ok((piece, _)) => {
                    self.range.start += length;
                    Ok(piece.into())
                }
                // Truncated under our hands.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Err(changed(&self.source.uri()))
                }
                Err(error) => Err(self.source.explain(&error)),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        directory: tempfile::TempDir,
        source: FileSource,
    }

    impl Bench {
        fn new(bytes: &[u8]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("model.onnx");
            std::fs::write(&path, bytes).unwrap();
            let source = FileSource::new(path.to_str().unwrap());
            Self { directory, source }
        }

        async fn open(&self) -> Object {
            match self.source.open(None).await.unwrap() {
                Opened::Object(object) => object,
                Opened::Unchanged => panic!("nothing is known"),
            }
        }

        /// Writes in place, at a later time.
        fn write(&self, bytes: &[u8]) {
            let path = self.directory.path().join("model.onnx");
            std::fs::write(&path, bytes).unwrap();
            let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(later).unwrap();
        }
    }

    async fn all(mut body: Box<dyn ChunkStream>) -> Result<Vec<u8>, SourceError> {
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes)
    }

    #[tokio::test]
    async fn a_file_is_read_whole_or_in_part_and_known_again_until_it_changes() {
        let bytes: Vec<u8> = (0..3 * PIECE / 2).map(|n| (n % 251) as u8).collect();
        let bench = Bench::new(&bytes);
        let object = bench.open().await;
        assert_eq!(object.size, bytes.len() as u64);
        assert!(all(object.body).await.unwrap() == bytes);
        let part = bench.source.read(&object.identity, 5..PIECE + 7).await;
        let part = all(part.ok().unwrap()).await.unwrap();
        assert!(part == bytes[5..part.len() + 5] && part.len() as u64 == PIECE + 2);
        let again = bench.source.open(Some(&object.identity)).await.unwrap();
        assert!(matches!(again, Opened::Unchanged));
        bench.write(b"other");
        let other = bench.source.open(Some(&object.identity)).await.unwrap();
        assert!(matches!(other, Opened::Object(_)));
        let old = bench.source.read(&object.identity, 0..3).await;
        assert!(old.err().unwrap().is_changed());
    }

    #[tokio::test]
    async fn a_file_that_is_written_to_while_it_is_read_says_so() {
        for after in [&b""[..], b"abcdef"] {
            let bench = Bench::new(b"123456");
            let object = bench.open().await;
            bench.write(after);
            assert!(all(object.body).await.unwrap_err().is_changed());
        }
    }

    #[tokio::test]
    async fn what_is_no_file_is_named() {
        let bench = Bench::new(b"");
        let folder = FileSource::new(bench.directory.path().to_str().unwrap());
        let error = folder.open(None).await.err().unwrap().to_string();
        assert!(error.contains("this is no file"), "{error}");
        let missing = FileSource::new("/nowhere/model.onnx").open(None).await;
        let error = missing.err().unwrap();
        assert!(error.to_string().contains("file:///nowhere/model.onnx"));
        assert!(!error.is_transient());
    }

    #[tokio::test]
    async fn a_models_own_file_is_not_read_over_a_link_that_leads_out_of_its_folder() {
        let elsewhere = Bench::new(b"secret");
        let bench = Bench::new(b"123456");
        let folder = format!("{}/", bench.directory.path().display());
        let link = |target: &std::path::Path, name: &str| {
            std::os::unix::fs::symlink(target, bench.directory.path().join(name)).unwrap();
            FilePath::parse(name).unwrap()
        };
        let out = link(&elsewhere.directory.path().join("model.onnx"), "out.bin");
        let inside = link(&bench.directory.path().join("model.onnx"), "inside.bin");
        let place = LocalFolder::new(&folder);
        let error = place.file(&out, NamedBy::Model).open(None).await.err();
        let error = error.unwrap().to_string();
        assert!(error.contains("a link that leads out of"), "{error}");
        for (path, named) in [(inside, NamedBy::Model), (out, NamedBy::Configuration)] {
            assert!(place.file(&path, named).open(None).await.is_ok());
        }
    }

    #[tokio::test]
    async fn folders_are_listed_and_one_that_is_missing_is_empty() {
        let bench = Bench::new(b"");
        let root = bench.directory.path();
        for folder in ["fraud/1", "fraud/2", "churn"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let place = LocalFolder::new(&format!("{}/", root.display()));
        let fraud = FilePath::parse("fraud").unwrap();
        let none = FilePath::parse("none").unwrap();
        for (folder, expected) in [
            (None, vec!["churn", "fraud"]),
            (Some(&fraud), vec!["1", "2"]),
            (Some(&none), vec![]),
        ] {
            let mut names = place.folders(folder).await.unwrap();
            names.sort();
            assert_eq!(names, expected);
        }
    }
}
