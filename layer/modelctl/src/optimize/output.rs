//! Output files of the optimised model: created in a temporary folder on the same file system, then
//! moved, so that no partial output is visible.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, bail};
use model_sidecar::ids::FilePath;
use model_sidecar::onnx::Description;
use tempfile::TempDir;

/// Paths of the output files.
pub(crate) struct OutputFiles {
    folder: PathBuf,
    /// File name of the model.
    pub(crate) name: String,
    /// File name of its data.
    pub(crate) data: String,
}

impl OutputFiles {
    /// Determines the output files. Rejects existing files unless they may be replaced, and always
    /// the files of `model` itself.
    pub(crate) fn resolve(
        output: &Path,
        model: &Path,
        description: &Description,
        replace: bool,
    ) -> anyhow::Result<Self> {
        let is_model = output
            .extension()
            .is_some_and(|extension| extension == "onnx")
            && !output.is_dir();
        let (folder, name) = if is_model {
            let folder = output
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            (folder.unwrap_or(Path::new(".")), output.file_name())
        } else {
            (output, model.file_name())
        };
        let name = name
            .and_then(|name| name.to_str())
            .filter(|name| FilePath::parse(name).is_ok());
        let Some(name) = name else {
            bail!("the file name of {} is not valid UTF-8", model.display());
        };
        if folder.exists() && !folder.is_dir() {
            bail!(
                "{} exists and is not a folder; give a folder, or a file that ends in .onnx",
                folder.display()
            );
        }
        let place = Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            data: format!("{name}.data"),
        };
        let own = own_files(model, description);
        for file in place
            .files()
            .into_iter()
            .chain([place.folder.join(place.golden())])
        {
            if file.canonicalize().is_ok_and(|file| own.contains(&file)) {
                bail!(
                    "{} belongs to the model itself; give another output path",
                    file.display()
                );
            }
            if !replace && file.symlink_metadata().is_ok() {
                bail!("{} already exists; --force replaces it", file.display());
            }
        }
        Ok(place)
    }

    /// File name of the golden examples of a quantized model.
    pub(crate) fn golden(&self) -> String {
        format!("{}.golden.json", self.name)
    }

    fn files(&self) -> [PathBuf; 2] {
        [&self.name, &self.data].map(|name| self.folder.join(name))
    }

    /// A temporary folder on the same file system, removed when dropped.
    pub(crate) fn temporary_folder(&self) -> anyhow::Result<TempDir> {
        let there = self.folder.ancestors().find(|folder| folder.is_dir());
        tempfile::Builder::new()
            .prefix(".modelctl-")
            .tempdir_in(there.unwrap_or(Path::new(".")))
            .with_context(|| format!("cannot write to {}", self.folder.display()))
    }

    /// Moves the files in `from` to their place, and returns the final paths.
    pub(crate) fn publish(&self, from: &Path) -> anyhow::Result<Vec<PathBuf>> {
        self.move_from(from)
            .with_context(|| format!("cannot write to {}", self.folder.display()))
    }

    /// A model never exists with the data of another: the old model is removed first, and the new
    /// one is moved last.
    fn move_from(&self, from: &Path) -> io::Result<Vec<PathBuf>> {
        fs::create_dir_all(&self.folder)?;
        let [model, data] = self.files();
        remove(&model)?;
        remove(&data)?;
        let made = from.join(&self.data);
        let has_data = made.exists();
        if has_data {
            fs::rename(made, &data)?;
        }
        fs::rename(from.join(&self.name), &model)?;
        let golden = self.folder.join(self.golden());
        let mut written = vec![model];
        written.extend(has_data.then_some(data));
        if from.join(self.golden()).exists() {
            fs::rename(from.join(self.golden()), &golden)?;
            written.push(golden);
        } else {
            // Examples of an earlier model.
            remove(&golden)?;
        }
        Ok(written)
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The model's file and the external data files that it names, as far as they exist.
fn own_files(model: &Path, description: &Description) -> BTreeSet<PathBuf> {
    let named = description
        .external
        .iter()
        .map(|name| model.with_file_name(name.as_str()));
    [model.to_owned()]
        .into_iter()
        .chain(named)
        .filter_map(|file| file.canonicalize().ok())
        .collect()
}
