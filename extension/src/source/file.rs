//! Local files: on EFS, on a mounted bucket, in the function's package, or in another layer.
//!
//! A file is copied to the cache like any other source. ONNX Runtime maps the files that it loads, and truncating a
//! mapped file crashes the process. The exception is a file whose name is the SHA-256 of its bytes, which is used in
//! place, since its publisher never changes it.
//!
//! The identity of the content consists of length and modification time, which are the same in all environments that
//! see the file. A copy restarts if the file is written to in the meantime.

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

/// Number of bytes to read at once: efficient on a network file system, and small in comparison with a model.
const READ_BYTES: u64 = 1024 * 1024;

/// Directory of model files.
#[derive(Clone, Debug)]
pub struct LocalFolder {
    /// Ends in `/`.
    path: String,
}

impl LocalFolder {
    /// Directory at an absolute path, which must end in `/`.
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
                    // Follows links, which are common on mounted file systems.
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
            "cannot read version {id} of {uri}: a file has no versions"
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

/// Local file.
#[derive(Clone, Debug)]
pub struct FileSource {
    path: Arc<str>,
    /// Directory that a symbolic link must not lead out of.
    within: Option<Arc<str>>,
}

impl FileSource {
    /// File at an absolute path.
    #[must_use]
    pub fn new(path: &str) -> Self {
        Self {
            path: path.into(),
            within: None,
        }
    }

    /// Opens the file, and checks that it may be read.
    async fn open_file(&self) -> Result<(Arc<File>, Metadata), SourceError> {
        let (path, within) = (Arc::clone(&self.path), self.within.clone());
        let opened = blocking(move || {
            let file = File::open(&*path)?;
            let metadata = file.metadata()?;
            let leads_out = match within {
                Some(directory) => !lies_within(&file, &directory)?,
                None => false,
            };
            Ok((Arc::new(file), metadata, leads_out))
        });
        let (file, metadata, leads_out) = opened.await.map_err(|error| self.explain(&error))?;
        if leads_out {
            let (uri, within) = (self.uri(), self.within.as_deref().unwrap_or_default());
            return Err(SourceError::permanent(format!(
                "cannot read {uri}: the symbolic link leads out of {within}; files that a model names must be inside"
            ))
            .with_public_reason("a symbolic link leads out of the model's folder"));
        }
        if metadata.is_file() {
            Ok((file, metadata))
        } else {
            let uri = self.uri();
            Err(
                SourceError::permanent(format!("cannot read {uri}: not a regular file"))
                    .with_public_reason("not a regular file"),
            )
        }
    }

    fn explain(&self, error: &io::Error) -> SourceError {
        let uri = self.uri();
        match error.kind() {
            io::ErrorKind::NotFound => SourceError::permanent(format!(
                "cannot read {uri}: there is no such file; check that the file system is mounted or the layer is attached"
            ))
            .with_public_reason("there is no such file"),
            io::ErrorKind::PermissionDenied => SourceError::permanent(format!(
                "cannot read {uri}: permission denied for the user that Lambda runs the function as"
            ))
            .with_public_reason("permission denied"),
            kind => SourceError::transient(format!("cannot read {uri}: {error}"))
                .with_public_reason(format!("cannot read the file: {kind}")),
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

/// Returns `true` if an open file is below `directory`, after following links.
fn lies_within(file: &File, directory: &str) -> io::Result<bool> {
    // The open file, not its name: a link may have been replaced since.
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
            let (file, metadata) = self.open_file().await?;
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
            let (file, metadata) = self.open_file().await?;
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
    SourceError::changed(format!(
        "cannot read {uri}: the file was written to during the read"
    ))
    .with_public_reason("the file was written to during the read")
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
            let length = READ_BYTES.min(self.range.end - at);
            let read = blocking(move || {
                let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
                file.read_exact_at(&mut bytes, at)?;
                // Bytes from before and after a change must not be mixed.
                Ok((bytes, identity_of(&file.metadata()?)))
            });
            Some(match read.await {
                Ok((_, identity)) if identity != self.identity => Err(changed(&self.source.uri())),
                Ok((bytes, _)) => {
                    self.range.start += length;
                    Ok(bytes.into())
                }
                // The file was truncated.
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

    struct TestFile {
        directory: tempfile::TempDir,
        source: FileSource,
    }

    impl TestFile {
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
                Opened::Unchanged => panic!("no identity is known"),
            }
        }

        /// Writes in place, with a later modification time.
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
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(bytes)
    }

    #[tokio::test]
    async fn a_file_is_read_in_full_or_in_part_and_is_unchanged_until_it_is_written() {
        let bytes: Vec<u8> = (0..3 * READ_BYTES / 2).map(|n| (n % 251) as u8).collect();
        let test = TestFile::new(&bytes);
        let object = test.open().await;
        assert_eq!(object.size, bytes.len() as u64);
        assert!(all(object.body).await.unwrap() == bytes);
        let part = test.source.read(&object.identity, 5..READ_BYTES + 7).await;
        let part = all(part.ok().unwrap()).await.unwrap();
        assert!(part == bytes[5..part.len() + 5] && part.len() as u64 == READ_BYTES + 2);
        let again = test.source.open(Some(&object.identity)).await.unwrap();
        assert!(matches!(again, Opened::Unchanged));
        test.write(b"other");
        let other = test.source.open(Some(&object.identity)).await.unwrap();
        assert!(matches!(other, Opened::Object(_)));
        let old = test.source.read(&object.identity, 0..3).await;
        assert!(old.err().unwrap().is_changed());
    }

    #[tokio::test]
    async fn a_write_during_the_read_is_a_change() {
        for after in [&b""[..], b"abcdef"] {
            let test = TestFile::new(b"123456");
            let object = test.open().await;
            test.write(after);
            assert!(all(object.body).await.unwrap_err().is_changed());
        }
    }

    #[tokio::test]
    async fn the_error_of_a_missing_or_irregular_file_names_it() {
        let test = TestFile::new(b"");
        let folder = FileSource::new(test.directory.path().to_str().unwrap());
        let error = folder.open(None).await.err().unwrap().to_string();
        assert!(error.contains("not a regular file"), "{error}");
        let missing = FileSource::new("/nowhere/model.onnx").open(None).await;
        let error = missing.err().unwrap();
        assert!(error.to_string().contains("file:///nowhere/model.onnx"));
        assert!(!error.is_transient());
    }

    #[tokio::test]
    async fn a_link_out_of_the_folder_is_followed_only_if_the_configuration_names_it() {
        let elsewhere = TestFile::new(b"secret");
        let test = TestFile::new(b"123456");
        let path = format!("{}/", test.directory.path().display());
        let link = |target: &std::path::Path, name: &str| {
            std::os::unix::fs::symlink(target, test.directory.path().join(name)).unwrap();
            FilePath::parse(name).unwrap()
        };
        let out = link(&elsewhere.directory.path().join("model.onnx"), "out.bin");
        let inside = link(&test.directory.path().join("model.onnx"), "inside.bin");
        let folder = LocalFolder::new(&path);
        let error = folder.file(&out, NamedBy::Model).open(None).await.err();
        let error = error.unwrap().to_string();
        assert!(error.contains("leads out of"), "{error}");
        for (path, named) in [(inside, NamedBy::Model), (out, NamedBy::Configuration)] {
            assert!(folder.file(&path, named).open(None).await.is_ok());
        }
    }

    #[tokio::test]
    async fn folders_are_listed_and_a_missing_folder_is_empty() {
        let test = TestFile::new(b"");
        let root = test.directory.path();
        for folder in ["fraud/1", "fraud/2", "churn"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let parent = LocalFolder::new(&format!("{}/", root.display()));
        let fraud = FilePath::parse("fraud").unwrap();
        let none = FilePath::parse("none").unwrap();
        for (folder, expected) in [
            (None, vec!["churn", "fraud"]),
            (Some(&fraud), vec!["1", "2"]),
            (Some(&none), vec![]),
        ] {
            let mut names = parent.folders(folder).await.unwrap();
            names.sort();
            assert_eq!(names, expected);
        }
    }
}
