//! What is known of a model's versions in this execution environment, and how their loads went.
//!
//! A load can take the whole process with it: by a crash inside ONNX Runtime, or because memory ran out. So a mark
//! is set before every load and taken away after it, also when the process ends in good order in between. A start
//! that finds a mark knows that its predecessor died in that load. A version with a good one behind it is refused
//! then, and the good one answers; one with nothing behind it is tried [`MOST_DEATHS`] times, since the process may
//! have been killed for another reason, such as an Init over its 10 seconds.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{Cache, CacheError, FileRecord, Record, failed, temporary};
use crate::ids::{Digest, FilePath, Identity, ModelName};

/// How often a process may die in the load of a version that there is no other for.
const MOST_DEATHS: u32 = 3;

/// The journal of one model, which lies in the cache's directory.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    mark: PathBuf,
    entries: Entries,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Entries {
    /// Where the versions come from; what is known of another place is of no use.
    location: String,
    /// The manifest that was read last, where the versions come from one.
    manifest: Option<Identity>,
    /// The last version that was loaded.
    good: Option<Entry>,
    /// What the source held later, and what has not been loaded, or could not be.
    candidate: Option<Entry>,
    /// Files that are here of a version of which others are not.
    #[serde(default)]
    arrived: Mutex<Vec<FileRecord>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    record: Record,
    /// Processes that died while they loaded it.
    deaths: u32,
    /// Why it is not to be loaded.
    refused: Option<String>,
}

impl Entry {
    fn new(record: Record) -> Self {
        Self {
            record,
            deaths: 0,
            refused: None,
        }
    }
}

impl Entries {
    /// The digests of the files that may still be loaded.
    pub(super) fn digests(&self) -> Vec<Digest> {
        let entries = [&self.candidate, &self.good].into_iter().flatten();
        let usable = entries.filter(|entry| entry.refused.is_none());
        let files = usable.flat_map(|entry| entry.record.files());
        let arrived = self.arrived();
        let all = files.chain(&*arrived);
        all.map(|file| file.digest.clone()).collect()
    }

    fn arrived(&self) -> MutexGuard<'_, Vec<FileRecord>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files that are not to be loaded.
    pub(super) fn refused(&self) -> Vec<Digest> {
        let entries = [&self.candidate, &self.good].into_iter().flatten();
        let refused = entries.filter(|entry| entry.refused.is_some());
        let files = refused.flat_map(|entry| entry.record.files());
        files.map(|file| file.digest.clone()).collect()
    }
}

impl Cache {
    /// Reads the journal of a model that comes from `location`; one that is absent, damaged or of another place is
    /// empty. A mark that a load has left behind becomes an entry.
    #[must_use]
    pub fn journal(&self, model: &ModelName, location: &str) -> Journal {
        let path = self.journal_path(model);
        let entries = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Entries>(&bytes).ok())
            .filter(|entries| entries.location == location)
            .unwrap_or_else(|| Entries {
                location: location.to_owned(),
                ..Entries::default()
            });
        let mut journal = Journal {
            path,
            mark: self.loading.join(model.as_str()),
            entries,
        };
        journal.count_death();
        journal
    }

    /// Takes all marks away, before the process ends in good order while something loads.
    pub fn forgive_loads(&self) {
        for mark in super::entries(&self.loading) {
            let _ = fs::remove_file(mark);
        }
    }
}

impl Journal {
    /// What the source was last seen to hold, loaded or not.
    #[must_use]
    pub fn newest(&self) -> Option<&Record> {
        let newest = self.entries.candidate.as_ref();
        newest
            .or(self.entries.good.as_ref())
            .map(|entry| &entry.record)
    }

    /// What is known of a file when its source says this of it.
    #[must_use]
    pub fn known(&self, path: &FilePath, identity: &Identity) -> Option<FileRecord> {
        let entries = [&self.entries.candidate, &self.entries.good];
        let files = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.record.file(path));
        let is_it = |file: &&FileRecord| file.path == *path && file.identity == *identity;
        let arrived = self.entries.arrived();
        files.chain(&*arrived).find(is_it).cloned()
    }

    /// Notes that a file is here of a version of which others are not yet, so that it is not fetched again when they
    /// cannot be had.
    pub fn arrived(&self, file: FileRecord) {
        let mut arrived = self.entries.arrived();
        if !arrived.contains(&file) {
            arrived.retain(|other| other.path != file.path);
            arrived.push(file);
            drop(arrived);
            self.save();
        }
    }

    /// What was last seen of a file, whether it belongs to a version that is whole or not.
    #[must_use]
    pub fn seen(&self, path: &FilePath) -> Option<FileRecord> {
        let arrived = self.entries.arrived();
        let newest = self.newest().and_then(|newest| newest.file(path));
        let arrived = arrived.iter().find(|file| file.path == *path);
        arrived.or(newest).cloned()
    }

    /// The manifest that was read last.
    #[must_use]
    pub fn manifest(&self) -> Option<&Identity> {
        self.entries.manifest.as_ref()
    }

    /// The newest version that may be loaded.
    #[must_use]
    pub fn usable(&self) -> Option<&Record> {
        let entries = [&self.entries.candidate, &self.entries.good];
        let usable = |entry: &&Entry| entry.refused.is_none();
        let first = entries.into_iter().flatten().find(usable);
        first.map(|entry| &entry.record)
    }

    /// Why what the source was last seen to hold is not to be loaded; `None` if it is, or if nothing is known.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        let newest = self.entries.candidate.as_ref();
        newest.or(self.entries.good.as_ref())?.refused.as_deref()
    }

    /// Notes that the source holds this, as `manifest` has it, and that it is whole and here. Bytes that were refused
    /// stay refused under a new identity.
    pub fn fetched(&mut self, record: Record, manifest: Option<Identity>) {
        let entries = &mut self.entries;
        entries.manifest = manifest;
        entries.arrived().clear();
        let is_good = entries
            .good
            .as_ref()
            .is_some_and(|good| good.record == record);
        let known = entries.candidate.take();
        entries.candidate = match known {
            _ if is_good => None,
            Some(entry) if entry.record.digest() == record.digest() => {
                Some(Entry { record, ..entry })
            }
            _ => Some(Entry::new(record)),
        };
        self.save();
    }

    /// Notes that this is here and may answer while the newest version cannot be loaded.
    pub fn stands_in(&mut self, record: Record) {
        self.entries.good = Some(Entry::new(record));
        self.save();
    }

    /// Whether this version is known as one that cannot be loaded.
    #[must_use]
    pub fn is_refused(&self, record: &Record) -> bool {
        let entries = [&self.entries.candidate, &self.entries.good];
        let mut refused = entries
            .into_iter()
            .flatten()
            .filter(|entry| entry.refused.is_some());
        refused.any(|entry| entry.record.digest() == record.digest())
    }

    /// Sets the mark: a load of the version of this digest begins.
    pub fn load_begins(&self, digest: &Digest) {
        if let Err(error) = fs::write(&self.mark, digest.as_str()) {
            warn!(
                "a crash in this load would not be noticed: cannot write {}: {error}",
                self.mark.display()
            );
        }
    }

    /// Takes the mark away: the load has ended, and what comes of it is noted next.
    pub fn load_ended(&self) {
        let _ = fs::remove_file(&self.mark);
    }

    /// Notes that this version was loaded.
    pub fn loaded(&mut self, record: &Record) {
        let is_it = |entry: &Entry| entry.record == *record;
        if self.entries.candidate.as_ref().is_some_and(is_it) {
            self.entries.good = self.entries.candidate.take();
        }
        match &mut self.entries.good {
            Some(good) if good.record == *record => good.deaths = 0,
            _ => {}
        }
        self.save();
    }

    /// Notes that this version could not be loaded.
    pub fn refused(&mut self, digest: &Digest, reason: &str) {
        let entries = [&mut self.entries.candidate, &mut self.entries.good];
        let first = entries
            .into_iter()
            .flatten()
            .find(|entry| entry.record.digest() == *digest);
        if let Some(entry) = first {
            entry.refused = Some(reason.to_owned());
        }
        self.save();
    }

    fn count_death(&mut self) {
        let Ok(digest) = fs::read_to_string(&self.mark) else {
            return;
        };
        self.load_ended();
        let has_other = self
            .entries
            .good
            .as_ref()
            .is_some_and(|good| good.record.digest().as_str() != digest);
        let entries = [&mut self.entries.candidate, &mut self.entries.good];
        let dead = entries
            .into_iter()
            .flatten()
            .find(|entry| entry.record.digest().as_str() == digest);
        let Some(entry) = dead else {
            return;
        };
        entry.deaths += 1;
        if has_other || entry.deaths >= MOST_DEATHS {
            let times = match entry.deaths {
                1 => String::new(),
                deaths => format!(" {deaths} times"),
            };
            entry.refused = Some(format!(
                "the process died{times} while it loaded this version: a crash in ONNX Runtime, or too little memory \
                 for it (the function's memory size can be raised)"
            ));
        }
        self.save();
    }

    /// Writes the journal. Without it a second start fetches again: no reason to fail now.
    fn save(&self) {
        if let Err(error) = self.try_save() {
            warn!("a second start here will fetch the model again: {error}");
        }
    }

    fn try_save(&self) -> Result<(), CacheError> {
        let directory = self.path.parent().unwrap_or(&self.path);
        let file = temporary(directory)?;
        serde_json::to_writer(&file, &self.entries)
            .map_err(|error| failed("cannot write", &self.path, error.into()))?;
        file.persist(&self.path)
            .map_err(|error| failed("cannot rename to", &self.path, error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::ids::ETag;

    struct Bench {
        directory: tempfile::TempDir,
        model: ModelName,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
                model: ModelName::parse("wine").unwrap(),
            }
        }

        /// The journal as a new process finds it.
        fn start(&self) -> Journal {
            let cache = Cache::open(self.directory.path()).unwrap();
            cache.journal(&self.model, "s3://b/wine.onnx")
        }
    }

    fn record(version: &str) -> Record {
        let model = FileRecord {
            path: FilePath::parse("wine.onnx").unwrap(),
            identity: Identity {
                etag: ETag(format!("\"{version}\"")),
                version_id: None,
            },
            size: 9,
            digest: Digest::of(Sha256::new().chain_update(version)),
        };
        Record {
            model,
            others: Vec::new(),
        }
    }

    fn load(journal: &mut Journal, record: &Record) {
        journal.fetched(record.clone(), None);
        journal.load_begins(&record.digest());
        journal.load_ended();
        journal.loaded(record);
    }

    #[test]
    fn a_version_that_killed_the_process_gives_way_to_the_good_one() {
        let bench = Bench::new();
        let (good, bad) = (record("1"), record("2"));
        let mut first = bench.start();
        load(&mut first, &good);
        first.fetched(bad.clone(), None);
        first.load_begins(&bad.digest());
        drop(first);
        let mut second = bench.start();
        assert_eq!(
            second.newest(),
            Some(&bad),
            "the source is asked for what differs from it"
        );
        assert_eq!(second.usable(), Some(&good));
        assert!(second.refusal().unwrap().contains("died while it loaded"));
        // It stays refused, also when the same bytes are put there again; other bytes are not.
        let mut again = bad;
        again.model.identity = record("3").model.identity;
        second.fetched(again, None);
        assert_eq!(bench.start().usable(), Some(&good));
        second.fetched(record("4"), None);
        assert_eq!(bench.start().usable(), Some(&record("4")));
    }

    #[test]
    fn a_version_with_nothing_behind_it_is_tried_three_times() {
        let bench = Bench::new();
        let only = record("1");
        bench.start().fetched(only.clone(), None);
        for _ in 0..MOST_DEATHS {
            let journal = bench.start();
            assert_eq!(journal.usable(), Some(&only));
            journal.load_begins(&only.digest());
        }
        let journal = bench.start();
        assert_eq!(journal.usable(), None);
        assert!(journal.refusal().unwrap().contains("died 3 times"));
    }

    #[test]
    fn a_load_that_succeeds_clears_what_came_before() {
        let bench = Bench::new();
        let only = record("1");
        bench.start().fetched(only.clone(), None);
        bench.start().load_begins(&only.digest());
        let mut second = bench.start();
        load(&mut second, &only);
        for _ in 0..MOST_DEATHS - 1 {
            bench.start().load_begins(&only.digest());
        }
        assert_eq!(bench.start().usable(), Some(&only));
    }

    #[test]
    fn an_end_in_good_order_is_no_death() {
        let bench = Bench::new();
        let mut first = bench.start();
        load(&mut first, &record("1"));
        first.fetched(record("2"), None);
        first.load_begins(&record("2").digest());
        Cache::open(bench.directory.path()).unwrap().forgive_loads();
        assert_eq!(bench.start().usable(), Some(&record("2")));
    }

    #[test]
    fn what_is_known_of_another_place_is_of_no_use() {
        let bench = Bench::new();
        load(&mut bench.start(), &record("1"));
        let cache = Cache::open(bench.directory.path()).unwrap();
        assert_eq!(
            cache.journal(&bench.model, "s3://b/other.onnx").newest(),
            None
        );
        fs::write(cache.journal_path(&bench.model), b"{\"torn").unwrap();
        assert_eq!(bench.start().newest(), None);
    }
}
