//! Folder of a project: its files, which are not overwritten, and paths between folders.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};

/// File of a project.
pub(super) struct File {
    /// Path in the project's folder.
    pub(super) path: PathBuf,
    pub(super) content: String,
}

impl File {
    pub(super) fn new(path: impl Into<PathBuf>, content: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            content: content.into(),
        }
    }
}

/// Writes the files into a folder, and returns the paths of those that changed. A file with other content is an
/// error, unless `force` is set; then nothing is written at all.
pub(super) fn write(folder: &Path, files: &[File], force: bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    for file in files {
        let path = folder.join(&file.path);
        match fs::read(&path) {
            Ok(content) if content == file.content.as_bytes() => {}
            Ok(_) if !force => bail!(
                "cannot write {}: it exists with other content; use --force to overwrite it, or another folder",
                path.display()
            ),
            Ok(_) => missing.push((path, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push((path, file)),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        }
    }
    for (path, file) in &missing {
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(path, &file.content))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(missing.into_iter().map(|(path, _)| path).collect())
}

/// Returns the path of `to` as seen from the folder `from`. Both may be relative to the current folder.
pub(super) fn relative(from: &Path, to: &Path) -> anyhow::Result<PathBuf> {
    let normal = |path: &Path| -> anyhow::Result<PathBuf> {
        let absolute =
            std::path::absolute(path).with_context(|| format!("cannot use {}", path.display()))?;
        let mut normal = PathBuf::new();
        for part in absolute.components() {
            if part == Component::ParentDir {
                normal.pop();
            } else {
                normal.push(part);
            }
        }
        Ok(normal)
    };
    let (from, to) = (normal(from)?, normal(to)?);
    let common = from.components().zip(to.components());
    let common = common.take_while(|(one, other)| one == other).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(to.components().skip(common)).collect();
    Ok(if path.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_another_folder() {
        for (from, to, expected) in [
            ("deploy", "dist/release", "../dist/release"),
            ("/a/b", "/a/b/c", "c"),
            ("/a/b/c", "/a", "../.."),
            ("/a/b/../x", "/a/y", "../y"),
            ("/a", "/a", "."),
        ] {
            let path = relative(Path::new(from), Path::new(to)).expect(from);
            assert_eq!(path, Path::new(expected), "{from} {to}");
        }
    }

    #[test]
    fn other_content_is_not_overwritten_and_nothing_else_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = [File::new("new/a", "1"), File::new("b", "2")];
        fs::write(folder.path().join("b"), "mine").expect("a file");
        let error = write(folder.path(), &files, false).expect_err("b exists");
        assert!(error.to_string().contains("--force"), "{error}");
        assert!(!folder.path().join("new").exists());
        assert_eq!(write(folder.path(), &files, true).expect("forced").len(), 2);
        assert_eq!(write(folder.path(), &files, false).expect("equal").len(), 0);
    }
}
