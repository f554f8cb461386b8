//! Versions of a repository laid out as Triton's: `MODEL/NUMBER/model.onnx`.
//!
//! The highest number is the version to serve, unless another is pinned. A folder without a model's file is reported
//! when that file is opened. Folders whose names are not numbers are ignored.

use std::sync::Arc;

use futures_core::future::BoxFuture;

use super::object::{check_model, the_version};
use super::{
    Candidate, Change, Fallback, FallbackList, Labelled, SourceCheck, SourceState, VersionResolver,
};
use crate::cache::Journal;
use crate::ids::{FilePath, VersionName};
use crate::manifest::Choice;
use crate::reload::error::CheckError;
use crate::reload::source_files::SourceFiles;
use crate::source::MAX_EARLIER_VERSIONS;

/// Name of the model's file in the folder of a version.
const MODEL_FILE: &str = "model.onnx";
/// Maximum number of names in an error.
const MAX_SHOWN: usize = 10;

/// Resolver of a repository.
pub(super) struct RepositoryResolver {
    files: Arc<SourceFiles>,
    choice: Choice,
}

impl RepositoryResolver {
    pub(super) fn new(files: Arc<SourceFiles>, choice: Choice) -> Self {
        Self { files, choice }
    }

    async fn check(&self, journal: &Journal, known: bool) -> Result<SourceCheck, CheckError> {
        let mut models = self.models().await?;
        let model = models.remove(0);
        let name = published_name(&model);
        let mut check = check_model(&self.files, &model, name, journal, known).await?;
        check.state.fallbacks = Some(fallbacks(models));
        Ok(check)
    }

    async fn list(&self, state: SourceState) -> Result<FallbackList, CheckError> {
        let now = self.files.shared.clock.now();
        let versions = match state.fallbacks {
            Some(known) => known,
            None => fallbacks(self.models().await?.split_off(1)),
        };
        Ok(FallbackList::new(state.newest, now, versions))
    }

    /// Returns the model's files of all versions that may serve, the highest number first: at least one. Of a pinned
    /// version only its own.
    async fn models(&self) -> Result<Vec<FilePath>, CheckError> {
        let name = self.files.model.as_str();
        let own = FilePath::parse(name).map_err(CheckError::Repository)?;
        let mut folder = format!("{name}/");
        let mut numbers = descending(&self.files.folder.folders(Some(&own)).await?);
        if numbers.is_empty() {
            // The location may be the model's own folder.
            let folders = self.files.folder.folders(None).await?;
            (folder, numbers) = (String::new(), descending(&folders));
            if numbers.is_empty() {
                return Err(self.no_version(folders));
            }
        }
        if let Choice::Version(pinned) = &self.choice {
            let available = std::mem::take(&mut numbers);
            let is_pinned = |number: &&u64| number.to_string() == *pinned;
            numbers.extend(available.iter().filter(is_pinned));
            if numbers.is_empty() {
                return Err(self.not_found(&available));
            }
        }
        let path = |number| FilePath::parse(&format!("{folder}{number}/{MODEL_FILE}"));
        let paths: Result<_, _> = numbers.into_iter().map(path).collect();
        paths.map_err(CheckError::Repository)
    }

    fn not_found(&self, available: &[u64]) -> CheckError {
        let available = available.iter().take(MAX_SHOWN).map(u64::to_string);
        let available = available.collect::<Vec<_>>().join(", ");
        let (location, choice) = (&self.files.location, &self.choice);
        CheckError::Repository(format!(
            "{location}: {choice} is not there; the highest numbers are {available}"
        ))
    }

    fn no_version(&self, mut folders: Vec<String>) -> CheckError {
        folders.sort_unstable();
        let (name, location) = (&self.files.model, &self.files.location);
        let more = if folders.len() > MAX_SHOWN {
            ", …"
        } else {
            ""
        };
        folders.truncate(MAX_SHOWN);
        let found = if folders.is_empty() {
            "there is no folder".to_owned()
        } else {
            format!("the folders there are {}{more}", folders.join(", "))
        };
        CheckError::Repository(format!(
            "{location}: there is no {name}/NUMBER/{MODEL_FILE}, nor NUMBER/{MODEL_FILE}; {found} (MODEL_NAME \
             is the model's folder)"
        ))
    }
}

impl VersionResolver for RepositoryResolver {
    fn changed<'a>(
        &'a self,
        journal: &'a Journal,
        known: bool,
    ) -> BoxFuture<'a, Result<SourceCheck, CheckError>> {
        Box::pin(self.check(journal, known))
    }

    fn candidates(
        &self,
        change: Change,
        state: SourceState,
    ) -> BoxFuture<'_, Labelled<(Vec<Candidate>, SourceState)>> {
        Box::pin(async { the_version(change, state) })
    }

    /// Never reuses the list of the last check, since each check lists the folders.
    fn fallbacks(
        &self,
        state: SourceState,
        _: Option<FallbackList>,
    ) -> BoxFuture<'_, Labelled<FallbackList>> {
        Box::pin(async { Labelled::without_labels(self.list(state).await) })
    }
}

fn fallbacks(models: Vec<FilePath>) -> Vec<Fallback> {
    let fallback = |model: FilePath| Fallback::Folder {
        name: published_name(&model),
        model,
    };
    models
        .into_iter()
        .take(MAX_EARLIER_VERSIONS)
        .map(fallback)
        .collect()
}

/// Returns the publisher's name of the version whose model's file is at `path`: the number of its folder.
fn published_name(path: &FilePath) -> Option<VersionName> {
    VersionName::parse(path.as_str().rsplit('/').nth(1)?).ok()
}

/// Returns those names that are version numbers in Triton's form, positive and without leading zeros, in descending
/// order.
fn descending(folders: &[String]) -> Vec<u64> {
    let number = |folder: &String| {
        let number: u64 = folder.parse().ok()?;
        (number > 0 && number.to_string() == *folder).then_some(number)
    };
    let mut numbers: Vec<u64> = folders.iter().filter_map(number).collect();
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    numbers
}
