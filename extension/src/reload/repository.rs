//! The newest version in a repository laid out as Triton's: `MODEL/NUMBER/model.onnx`.
//!
//! The highest number is the version to serve; that its file is missing is for whoever asks for it to say, and no
//! reason to serve a lower one. Folders that are no number are none of our business.

use super::CheckError;
use super::gather::Gatherer;
use crate::ids::FilePath;

/// What the folder of a version holds.
const MODEL_FILE: &str = "model.onnx";

impl Gatherer<'_> {
    /// The model's file in the folder with the highest number.
    pub(super) async fn newest_in_repository(&self) -> Result<FilePath, CheckError> {
        let name = self.settings.name.as_str();
        let own = FilePath::parse(name).map_err(CheckError::Repository)?;
        let below = self.place.folders(Some(&own)).await?;
        let (folder, versions) = match highest(&below) {
            Some(version) => (format!("{name}/"), version),
            // The location may be the model's own folder.
            None => {
                let folders = self.place.folders(None).await?;
                let version = highest(&folders).ok_or_else(|| self.no_version(folders))?;
                (String::new(), version)
            }
        };
        FilePath::parse(&format!("{folder}{versions}/{MODEL_FILE}")).map_err(CheckError::Repository)
    }

    fn no_version(&self, mut folders: Vec<String>) -> CheckError {
        const SHOWN: usize = 10;
        folders.sort();
        let (name, location) = (&self.settings.name, &self.settings.location);
        let more = if folders.len() > SHOWN { ", …" } else { "" };
        folders.truncate(SHOWN);
        let there = if folders.is_empty() {
            "there is no folder".to_owned()
        } else {
            format!("the folders there are {}{more}", folders.join(", "))
        };
        CheckError::Repository(format!(
            "{location}: there is no {name}/NUMBER/{MODEL_FILE}, nor NUMBER/{MODEL_FILE}; {there} (MODEL_NAME \
             is the model's folder)"
        ))
    }
}

/// The highest of the names that are version numbers as Triton has them: positive, without leading zeros.
fn highest(folders: &[String]) -> Option<u64> {
    let number = |folder: &String| {
        let number: u64 = folder.parse().ok()?;
        (number > 0 && number.to_string() == *folder).then_some(number)
    };
    folders.iter().filter_map(number).max()
}
