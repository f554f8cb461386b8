//! The files of the model that is published, with their checksums.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use model_sidecar::ids::FilePath;
use model_sidecar::onnx::Description;
use tempfile::TempDir;

use crate::console::Console;
use crate::context::Context;
use crate::failure::rejected;
use crate::s3::upload::HashedFile;
use crate::s3::{Bucket, S3Uri};

/// Model on this machine.
pub(crate) struct LocalModel {
    /// The file that is loaded.
    pub(crate) file: PathBuf,
    /// All files with their paths in the version; the model is the first.
    pub(crate) files: Vec<(FilePath, HashedFile)>,
    /// Folder of a model that came from S3, removed when dropped.
    _folder: Option<TempDir>,
}

impl LocalModel {
    /// Opens a local model, or downloads one from S3, and computes the checksums of its files.
    pub(crate) async fn open(
        model: &str,
        part: u64,
        context: &Context,
        console: &Console,
    ) -> anyhow::Result<Self> {
        let (file, folder) = if model.starts_with("s3://") {
            let uri: S3Uri = model
                .parse()
                .map_err(|allowed| anyhow::anyhow!("cannot use {model} as a model: {allowed}"))?;
            let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
            (download(&uri, folder.path(), context).await?, Some(folder))
        } else {
            (PathBuf::from(model), None)
        };
        let name = file.file_name().and_then(|name| name.to_str());
        let name = name.and_then(|name| FilePath::parse(name).ok());
        let Some(name) = name else {
            bail!("cannot publish {model}: its file name is not valid UTF-8; rename it");
        };
        if name.is_compressed() {
            return Err(rejected(format!(
                "cannot publish {model}: it is compressed; give the model without .zst"
            )));
        }
        let description = describe(&file)?;
        let external = description.external.iter();
        let paths: Vec<(FilePath, PathBuf)> = std::iter::once((name, file.clone()))
            .chain(external.map(|path| (path.clone(), file.with_file_name(path.as_str()))))
            .collect();
        let mut size = 0;
        for (path, file) in &paths {
            let there = std::fs::metadata(file);
            size += there
                .with_context(|| {
                    format!(
                        "cannot read {}, which the model needs as {path}",
                        file.display()
                    )
                })?
                .len();
        }
        let progress = console.progress("reading", size);
        let files = paths.into_iter().map(|(path, file)| {
            let hashed = HashedFile::read(&file, part, &progress)?;
            if hashed.size == 0 {
                return Err(rejected(format!(
                    "cannot publish {}: the file is empty",
                    file.display()
                )));
            }
            Ok((path, hashed))
        });
        let files = files.collect::<anyhow::Result<Vec<_>>>()?;
        progress.finish_and_clear();
        Ok(Self {
            file,
            files,
            _folder: folder,
        })
    }

    /// Size of all files in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.files.iter().map(|(_, file)| file.size).sum()
    }
}

/// Reads the description of a model's file.
pub(crate) fn describe(file: &Path) -> anyhow::Result<Description> {
    let name = file.display();
    let open = File::open(file).with_context(|| format!("cannot read {name}"))?;
    if open.metadata()?.is_dir() {
        bail!("cannot read {name}: it is a folder; give the model's file");
    }
    Description::read(&open)
        .map_err(|error| rejected(format!("cannot use {name} as a model: {error}")))
}

/// Downloads a model and its external data, and returns the path of the model.
pub(crate) async fn download(
    uri: &S3Uri,
    folder: &Path,
    context: &Context,
) -> anyhow::Result<PathBuf> {
    let bucket = Bucket::new(context.s3().await, &uri.bucket);
    let name = uri.key.rsplit('/').next().unwrap_or_default();
    if FilePath::parse(name).is_err() {
        bail!("cannot use {uri} as a model: give the key of its file");
    }
    let file = folder.join(name);
    fetch(&bucket, &uri.key, &file).await?;
    let prefix = &uri.key[..uri.key.len() - name.len()];
    for path in describe(&file)?.external {
        fetch(
            &bucket,
            &format!("{prefix}{path}"),
            &folder.join(path.as_str()),
        )
        .await?;
    }
    Ok(file)
}

/// Downloads an object to a file.
pub(crate) async fn fetch(bucket: &Bucket, key: &str, file: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot download {} to {}", bucket.uri(key), file.display());
    let Some(mut body) = bucket.open(key).await? else {
        bail!("cannot read {}: there is no such object", bucket.uri(key));
    };
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(failed)?;
    }
    let mut local = File::create(file).with_context(failed)?;
    while let Some(bytes) = body.next().await {
        local
            .write_all(&bytes.with_context(failed)?)
            .with_context(failed)?;
    }
    Ok(())
}
