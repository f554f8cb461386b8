//! Description of a model's file: what the file says of itself.

use std::fs::File;
use std::io;
use std::path::Path;

use super::error::CheckError;
use crate::ids::FilePath;
use crate::onnx::{Description, OnnxError};

/// Reads the description of a model's file; `None` for a file that is no model, which ONNX Runtime will reject.
pub(super) async fn describe(model: &Path) -> Result<Option<Description>, CheckError> {
    let model = model.to_owned();
    let read = move || Description::read(&File::open(model)?);
    let read = tokio::task::spawn_blocking(read).await;
    match read.unwrap_or_else(|error| Err(io::Error::other(error).into())) {
        Ok(description) => Ok(Some(description)),
        Err(OnnxError::NotOnnx { .. } | OnnxError::Empty) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the data files that a model's file refers to.
pub(super) fn data_files(description: Option<&Description>) -> impl Iterator<Item = &FilePath> {
    description.into_iter().flat_map(|it| &it.external)
}

/// Rejects one version of an object that refers to data files, since those have versions of their own.
pub(super) fn has_no_data_files(
    uri: &str,
    description: Option<&Description>,
) -> Result<(), CheckError> {
    match data_files(description).next() {
        None => Ok(()),
        Some(file) => Err(CheckError::HasDataFiles {
            uri: uri.to_owned(),
            file: file.clone(),
        }),
    }
}
