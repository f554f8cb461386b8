//! The versions in a repository laid out as Triton's: `MODEL/NUMBER/model.onnx`.
//!
//! The highest number is the version to serve, unless another is pinned; that its file is missing is for whoever asks
//! for it to say. Folders that are no number are none of our business.

use super::CheckError;
use super::gather::Gatherer;
use crate::config::Form;
use crate::ids::{FilePath, VersionName};
use crate::manifest::Choice;

/// What the folder of a version holds.
const MODEL_FILE: &str = "model.onnx";
/// How many names an error lists.
const SHOWN: usize = 10;

impl Gatherer<'_> {
    /// The model's files in the folders of all versions that may serve, that with the highest number first; at least
    /// one. Of a pinned version only its own.
    pub(super) async fn models_in_repository(&self) -> Result<Vec<FilePath>, CheckError> {
        let name = self.settings.name.as_str();
        let own = FilePath::parse(name).map_err(CheckError::Repository)?;
        let mut folder = format!("{name}/");
        let mut numbers = descending(&self.place.folders(Some(&own)).await?);
        if numbers.is_empty() {
            // The location may be the model's own folder.
            let folders = self.place.folders(None).await?;
            (folder, numbers) = (String::new(), descending(&folders));
            if numbers.is_empty() {
                return Err(self.no_version(folders));
            }
        }
        if let Choice::Version(pinned) = &self.settings.choice {
            let there = std::mem::take(&mut numbers);
            numbers.extend(there.iter().filter(|number| number.to_string() == *pinned));
            if numbers.is_empty() {
                return Err(self.not_there(&there));
            }
        }
        let path = |number| FilePath::parse(&format!("{folder}{number}/{MODEL_FILE}"));
        let paths: Result<_, _> = numbers.into_iter().map(path).collect();
        paths.map_err(CheckError::Repository)
    }

    /// The name that the publisher gives the version whose model's file is at `path`: the number of its folder.
    pub(super) fn published_name(&self, path: &FilePath) -> Option<VersionName> {
        match self.settings.form {
            Form::Repository => VersionName::parse(path.as_str().rsplit('/').nth(1)?).ok(),
            Form::Model(_) | Form::Manifest(_) => None,
        }
    }

    fn not_there(&self, there: &[u64]) -> CheckError {
        let there = there.iter().take(SHOWN).map(u64::to_string);
        let there = there.collect::<Vec<_>>().join(", ");
        let (location, choice) = (&self.settings.location, &self.settings.choice);
        CheckError::Repository(format!(
            "{location}: {choice} is not there; the highest numbers are {there}"
        ))
    }

    fn no_version(&self, mut folders: Vec<String>) -> CheckError {
        folders.sort_unstable();
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

/// Those of the names that are version numbers as Triton has them, positive and without leading zeros, from the highest
/// down.
fn descending(folders: &[String]) -> Vec<u64> {
    let number = |folder: &String| {
        let number: u64 = folder.parse().ok()?;
        (number > 0 && number.to_string() == *folder).then_some(number)
    };
    let mut numbers: Vec<u64> = folders.iter().filter_map(number).collect();
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    numbers
}
