//! What is known of a model's versions in this execution environment, and how their loads went.
//!
//! A load can take the whole process with it: by a crash inside ONNX Runtime, or because memory ran out. So a mark
//! is set before every load and taken away after it, also when the process ends in good order in between. A start
//! that finds a mark knows that its predecessor died in that load. A version with a good one behind it is refused
//! then, and the good one answers; one with nothing behind it is tried [`MOST_DEATHS`] times, since the process may
//! have been killed for another reason, such as an Init over its 10 seconds. A death in the warm-up that follows the
//! load is told apart by the mark, and is no reason to refuse: the version is loaded again, and not warmed up.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{Cache, CacheError, FileRecord, Record, failed, temporary};
use crate::ids::{Digest, FilePath, Identity, ModelName};
use crate::manifest::GoldenTensor;

/// How often a process may die in the load of a version that there is no other for.
const MOST_DEATHS: u32 = 3;
/// The longest example that is kept for the starts that do not read the manifest again, in bytes of its data: the
/// journal is written several times in a load. A version whose example is longer is warmed up only where the manifest
/// was read in the same process.
const LONGEST_EXAMPLE: usize = 64 << 10;
/// What a mark begins with when the load has ended and the warm-up runs.
const WARM_UP: &str = "warm-up ";

/// The journal of one model, which lies in the cache's directory.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    mark: PathBuf,
    entries: Entries,
}

/// What a manifest says of a version beside its files.
#[derive(Clone, Debug)]
pub struct Published {
    /// Which manifest it was.
    pub manifest: Identity,
    /// The inputs of the version's first golden example, where there is one.
    pub example: Option<Vec<GoldenTensor>>,
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
    /// What to warm it up with.
    #[serde(default, skip_serializing_if = "is_not_kept")]
    example: Option<Vec<GoldenTensor>>,
}

impl Entry {
    fn new(record: Record, example: Option<Vec<GoldenTensor>>) -> Self {
        Self {
            record,
            deaths: 0,
            refused: None,
            example,
        }
    }
}

#[expect(clippy::ref_option, reason = "serde gives a reference to the field")]
fn is_not_kept(example: &Option<Vec<GoldenTensor>>) -> bool {
    example.as_ref().is_none_or(|inputs| {
        let length: usize = inputs.iter().map(|input| input.data.len()).sum();
        length > LONGEST_EXAMPLE
    })
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

    /// Notes that the source holds this, as a manifest has it or without one, and that it is whole and here. Bytes that
    /// were refused stay refused under a new identity.
    pub fn fetched(&mut self, record: Record, published: Option<Published>) {
        let (manifest, example) = match published {
            Some(Published { manifest, example }) => (Some(manifest), example),
            None => (None, None),
        };
        let entries = &mut self.entries;
        entries.manifest = manifest;
        entries.arrived().clear();
        let known = entries.candidate.take();
        match &mut entries.good {
            Some(good) if good.record == record => good.example = example,
            _ => {
                entries.candidate = Some(match known {
                    Some(entry) if entry.record.digest() == record.digest() => Entry {
                        record,
                        example,
                        ..entry
                    },
                    _ => Entry::new(record, example),
                });
            }
        }
        self.save();
    }

    /// Notes that this is here and may answer while the newest version cannot be loaded.
    pub fn stands_in(&mut self, record: Record, published: Option<Published>) {
        let example = published.and_then(|published| published.example);
        self.entries.good = Some(Entry::new(record, example));
        self.save();
    }

    /// What the version of this digest is to be warmed up with, as far as it is known.
    #[must_use]
    pub fn example(&self, digest: &Digest) -> Option<&[GoldenTensor]> {
        let entries = [&self.entries.candidate, &self.entries.good];
        let mut entries = entries.into_iter().flatten();
        let entry = entries.find(|entry| entry.record.digest() == *digest)?;
        entry.example.as_deref()
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

    /// Makes the mark that of a warm-up, once the load itself has ended; to be called where that is seen. A mark that
    /// was [forgiven](Cache::forgive_loads) meanwhile is not set again.
    pub fn warm_up_begins(&self, digest: &Digest) -> impl FnOnce() + Send + use<> {
        let (mark, text) = (self.mark.clone(), format!("{WARM_UP}{digest}"));
        move || {
            let mark = fs::OpenOptions::new().write(true).truncate(true).open(mark);
            // Without it a death counts as one in the load.
            let _ = mark.and_then(|mut mark| mark.write_all(text.as_bytes()));
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
        let Ok(mark) = fs::read_to_string(&self.mark) else {
            return;
        };
        self.load_ended();
        let (digest, in_warm_up) = match mark.strip_prefix(WARM_UP) {
            Some(digest) => (digest, true),
            None => (mark.as_str(), false),
        };
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
        if in_warm_up {
            let version = entry.record.version();
            warn!(%version, "the process died in the warm-up: this version does without from now on");
            entry.example = None;
            self.save();
            return;
        }
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
    fn a_death_in_a_warm_up_costs_the_example_alone() {
        let bench = Bench::new();
        let only = record("1");
        let tensor =
            r#"{"name": "x", "shape": [2], "datatype": "BYTES", "data": [ "a", "\u00e9" ]}"#;
        let example: Vec<GoldenTensor> = vec![serde_json::from_str(tensor).unwrap()];
        let published = Published {
            manifest: record("m").model.identity,
            example: Some(example.clone()),
        };
        bench.start().fetched(only.clone(), Some(published));
        let begin = |journal: &Journal| {
            journal.load_begins(&only.digest());
            journal.warm_up_begins(&only.digest())
        };
        // Forgiven before the warm-up begins.
        let journal = bench.start();
        let warm_up_begins = begin(&journal);
        Cache::open(bench.directory.path()).unwrap().forgive_loads();
        warm_up_begins();
        let journal = bench.start();
        assert_eq!(journal.example(&only.digest()), Some(&example[..]));
        begin(&journal)();
        for journal in [bench.start(), bench.start()] {
            assert_eq!(journal.usable(), Some(&only));
            assert_eq!(journal.example(&only.digest()), None);
        }
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
