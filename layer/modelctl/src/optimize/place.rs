//! Where the optimised model goes: made in a folder beside, then moved, so that nothing half made is ever there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, bail};
use model_sidecar::ids::FilePath;
use model_sidecar::onnx::Description;
use tempfile::TempDir;

/// The files to be written.
pub(crate) struct Place {
    folder: PathBuf,
    /// The model's name in it.
    pub(crate) name: String,
    /// The name of its data.
    pub(crate) data: String,
}

impl Place {
    /// Where the output goes. Refuses what is there already, unless it may be replaced, and always the files of
    /// `model` itself.
    pub(crate) fn find(
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
            bail!("the name of {} is no text", model.display());
        };
        if folder.exists() && !folder.is_dir() {
            bail!(
                "{} is there and is no folder; name a folder, or a file that ends in .onnx",
                folder.display()
            );
        }
        let place = Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            data: format!("{name}.data"),
        };
        let own = own_files(model, description);
        for file in place.files() {
            if file.canonicalize().is_ok_and(|file| own.contains(&file)) {
                bail!(
                    "{} belongs to the model itself; write elsewhere",
                    file.display()
                );
            }
            if !replace && file.symlink_metadata().is_ok() {
                bail!("{} is there already; --force replaces it", file.display());
            }
        }
        Ok(place)
    }

    fn files(&self) -> [PathBuf; 2] {
        [&self.name, &self.data].map(|name| self.folder.join(name))
    }

    /// A new folder on the same file system, which is gone in the end.
    pub(crate) fn folder_beside(&self) -> anyhow::Result<TempDir> {
        let there = self.folder.ancestors().find(|folder| folder.is_dir());
        tempfile::Builder::new()
            .prefix(".modelctl-")
            .tempdir_in(there.unwrap_or(Path::new(".")))
            .with_context(|| format!("cannot write to {}", self.folder.display()))
    }

    /// Moves what was made in `from` to where it belongs, and gives the files that are there now.
    pub(crate) fn take(&self, from: &Path) -> anyhow::Result<Vec<PathBuf>> {
        self.move_from(from)
            .with_context(|| format!("cannot write to {}", self.folder.display()))
    }

    /// A model is never there with the data of another: the old one goes first, and the new one comes last.
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
        Ok(if has_data {
            vec![model, data]
        } else {
            vec![model]
        })
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The model's file and those that it names, as far as they are there.
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
