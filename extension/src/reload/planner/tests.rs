//! Checks in a simulated world, with random events between two steps and versions of different natures.

mod scenarios;
mod strategies;

use std::collections::BTreeMap;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::cache::{FileRecord, RejectionCause};
use crate::ids::{ETag, FilePath, VersionName};
use crate::tensor::Signature;
use strategies::{operations, worlds};

/// Number of versions.
const VERSIONS: u8 = 6;
/// Version with the content of another one.
const TWIN: u8 = 5;
const ITS_TWIN: u8 = 4;
/// More steps than any check takes.
const MAX_STEPS: usize = 60;

fn record(version: u8) -> ModelRecord {
    let model = FileRecord {
        path: FilePath::parse("m.onnx").unwrap(),
        identity: identity(version),
        size: 1,
        digest: digest(&format!("content {}", content(version))),
    };
    let name = VersionName::parse(&version.to_string()).ok();
    ModelRecord::new(model, Vec::new(), name)
}

fn content(version: u8) -> u8 {
    if version == TWIN { ITS_TWIN } else { version }
}

fn identity(number: u8) -> Identity {
    Identity {
        etag: ETag(number.to_string()),
        version_id: None,
    }
}

fn digest(text: &str) -> Digest {
    Digest::of(Sha256::new().chain_update(text))
}

fn version(record: &ModelRecord) -> u8 {
    record.model.identity.etag.0.parse().unwrap()
}

/// Behaviour of a version when it is loaded.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Nature {
    Good,
    /// It does not load.
    Bad,
    /// It does not meet its criteria.
    Wrong,
    /// It kills the process.
    Deadly,
}

/// Content of the source: under this number, a manifest's choices and fallbacks; or, without manifests, one choice and
/// the versions before it.
#[derive(Clone, Debug)]
struct Release {
    number: u8,
    choices: Vec<u8>,
    fallbacks: Vec<u8>,
}

/// Fault or change of the source during a step.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// The source does not respond, a transfer fails, no thread can be started.
    Unavailable,
    /// Changed content cannot be read, and fallbacks cannot be listed.
    UnreadableManifest,
    /// The active version has to leave memory for a load.
    InsufficientMemory,
    /// A load fails for a reason outside the version, for which the active version may have had to leave memory.
    FailedLoad(bool),
    /// The cache has lost everything.
    EmptyCache,
    /// The source holds another release from here on.
    NewRelease(usize),
    /// The process is killed.
    Kill,
}

/// Versions by their numbers.
#[derive(Debug)]
struct Numbers;

impl Payload for Numbers {
    type Change = ();
    type Source = ();
    type Candidate = u8;
    type Fallback = u8;
    type Model = u8;
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of a simulation"
)]
struct World {
    has_manifest: bool,
    natures: Vec<Nature>,
    releases: Vec<Release>,
    now: usize,
    /// Release at the time of the last version check.
    asked: usize,
    /// History, which outlives the process.
    history: History,
    cached: Vec<u8>,
    /// Content of versions that were rejected because of events, not because of their nature.
    rejected: Vec<u8>,
    /// Version in memory, and whether it had to leave memory for a load.
    active: Option<u8>,
    vacated: bool,
    /// Number of failed loads and validations of each version.
    failures: BTreeMap<u8, u32>,
    /// Versions that became active.
    accepted: Vec<u8>,
    /// Every version fails on the inputs on which the active one fails.
    shares_failures: bool,
    /// The next list of versions cannot be read.
    is_unreadable: bool,
}

impl World {
    fn new(has_manifest: bool, natures: Vec<Nature>, releases: Vec<Release>) -> Self {
        Self {
            has_manifest,
            natures,
            releases,
            now: 0,
            asked: 0,
            history: History::new("s3://b/m"),
            cached: Vec::new(),
            active: None,
            vacated: false,
            failures: BTreeMap::new(),
            rejected: Vec::new(),
            accepted: Vec::new(),
            shares_failures: false,
            is_unreadable: false,
        }
    }

    fn release(&self) -> &Release {
        &self.releases[self.now]
    }

    fn published(&self, version: u8) -> Option<ManifestMetadata> {
        self.has_manifest.then(|| ManifestMetadata {
            manifest: identity(self.releases[self.asked].number),
            example: None,
            baseline: Vec::new(),
            criteria: digest(&format!("criteria of {version}")),
        })
    }

    /// Returns the nature of a version: that of its content, or, under a manifest, that of its own criteria.
    fn nature(&self, version: u8) -> Nature {
        let own = self.natures[usize::from(version)];
        match self.natures[usize::from(content(version))] {
            Nature::Good if self.has_manifest && own == Nature::Wrong => Nature::Wrong,
            of_content => of_content,
        }
    }

    fn is_bad(&self, version: u8) -> bool {
        self.nature(version) != Nature::Good
    }

    fn is_rejected(&self, version: u8) -> bool {
        self.rejected.contains(&content(version))
    }

    fn is_cached(&self, version: u8) -> bool {
        self.cached.contains(&content(version))
    }

    fn same(&self, known: bool) -> bool {
        let number = identity(self.release().number);
        let choice = record(self.release().choices[0]);
        known
            && if self.has_manifest {
                self.history.applied_manifest() == Some(&number)
            } else {
                self.history.newest() == Some(&choice)
            }
    }

    /// Ends the process at an arbitrary time.
    fn end_process(&mut self) {
        self.active = None;
        self.vacated = false;
        self.is_unreadable = false;
    }

    /// Performs a check; `None` if the process died in it.
    fn check(&mut self, faults: &mut dyn Iterator<Item = Fault>) -> Option<End> {
        let active = self.active.map(|version| record(version).digest());
        let (planner, step) = Planner::check(&self.history, active, None);
        self.run(planner, step, faults)
    }

    /// Rolls back the active version.
    fn roll_back(&mut self, faults: &mut dyn Iterator<Item = Fault>) -> Option<End> {
        let active = self.active?;
        let digest = record(active).digest();
        let (planner, step) = Planner::roll_back(&self.history, Some(digest.clone()), &digest);
        let end = self.run(planner, step, faults);
        if self.history.rejection_reason(&digest, None).is_some() {
            self.rejected.push(content(active));
        }
        end
    }

    fn run(
        &mut self,
        mut planner: Planner<Numbers>,
        mut step: Step<Numbers>,
        faults: &mut dyn Iterator<Item = Fault>,
    ) -> Option<End> {
        for _ in 0..MAX_STEPS {
            // Resolving and listing consume no event.
            let is_list = matches!(step, Step::Resolve { .. } | Step::ListFallbacks { .. });
            let drawn = if is_list { None } else { faults.next() };
            let mut fault = drawn.unwrap_or(Fault::None);
            match fault {
                Fault::NewRelease(release) => {
                    self.now = release % self.releases.len();
                    fault = Fault::None;
                }
                Fault::UnreadableManifest => {
                    self.is_unreadable = true;
                    fault = Fault::None;
                }
                Fault::EmptyCache => self.cached.clear(),
                _ => {}
            }
            if fault == Fault::Kill {
                if let Step::Load { record, .. } = &step {
                    let (loading, digest) = (record, record.digest());
                    self.history.record_interrupted_load(&digest);
                    // Without another version it is tried again.
                    if self.history.rejection_reason(&digest, None).is_some() {
                        self.rejected.push(content(version(loading)));
                    }
                }
                self.end_process();
                return None;
            }
            let had = self.active;
            let event = match &step {
                Step::End(end) => {
                    self.vacated = false;
                    self.is_unreadable = false;
                    return Some(*end);
                }
                Step::CheckSource { known, in_cache } => {
                    let found = in_cache.as_ref().map(version);
                    let found = found.filter(|version| self.is_cached(*version));
                    match fault {
                        Fault::Unavailable => Event::Unreachable { found },
                        _ if self.same(*known) => Event::Unchanged { source: (), found },
                        _ => {
                            self.asked = self.now;
                            Event::Changed {
                                change: (),
                                source: (),
                                found,
                            }
                        }
                    }
                }
                Step::Resolve { .. } if std::mem::take(&mut self.is_unreadable) => {
                    Event::NotResolved { labels: None }
                }
                Step::Resolve { .. } => Event::Resolved {
                    candidates: self.releases[self.asked].choices.clone(),
                    source: (),
                    labels: None,
                },
                Step::ListFallbacks { .. } if std::mem::take(&mut self.is_unreadable) => {
                    Event::NoFallback { labels: None }
                }
                Step::ListFallbacks { .. } => Event::FallbacksListed {
                    fallbacks: self.release().fallbacks.clone(),
                    labels: None,
                },
                Step::Download(Offer::Candidate(wanted) | Offer::Fallback(wanted)) => {
                    self.download(*wanted, fault)
                }
                Step::FindInCache(wanted) if self.is_cached(version(wanted)) => {
                    Event::Found(version(wanted))
                }
                Step::FindInCache(_) => Event::NotFound,
                Step::Load {
                    record,
                    model,
                    replay,
                } => {
                    assert_eq!(content(*model), content(version(record)), "other files");
                    self.load(version(record), *replay, fault)?
                }
                Step::Rename { record, .. } => self.rename(record, fault),
            };
            assert!(
                had.is_none() || self.active.is_some() || self.vacated,
                "a version was active, and none is after {event:?}"
            );
            step = planner.next(&mut self.history, event);
        }
        panic!("the check does not end, now with {step:?}");
    }

    fn download(&mut self, wanted: u8, fault: Fault) -> Event<Numbers> {
        if fault == Fault::Unavailable {
            return Event::NotDownloaded;
        }
        self.cached.push(content(wanted));
        Event::Downloaded {
            record: record(wanted),
            model: Some(wanted),
            published: self.published(wanted),
        }
    }

    /// `None` when the process died.
    fn load(&mut self, wanted: u8, replay: bool, fault: Fault) -> Option<Event<Numbers>> {
        assert!(
            self.is_cached(wanted) || fault == Fault::EmptyCache,
            "its files are not here"
        );
        let active = self.active.map(content);
        assert_ne!(active, Some(content(wanted)), "its content is active");
        let has_to_go = matches!(fault, Fault::InsufficientMemory | Fault::FailedLoad(true));
        let vacated = has_to_go && self.active.is_some();
        if vacated {
            (self.active, self.vacated) = (None, true);
        }
        if fault == Fault::Unavailable {
            return Some(Event::NotLoaded { vacated });
        }
        if matches!(fault, Fault::FailedLoad(_)) {
            return Some(Event::Deferred { vacated });
        }
        let rejected = |cause| Event::Rejected {
            cause,
            reason: "it is bad".to_owned(),
            vacated,
        };
        let nature = self.nature(wanted);
        if nature != Nature::Good {
            *self.failures.entry(wanted).or_default() += 1;
        }
        if nature == Nature::Good && replay && self.shares_failures {
            return Some(Event::NotConfirmed { vacated });
        }
        Some(match nature {
            Nature::Good => {
                assert!(
                    !self.is_rejected(wanted),
                    "it was rejected for what happened to it"
                );
                self.active = Some(wanted);
                self.accepted.push(wanted);
                Event::Loaded {
                    signature: Signature::default(),
                    rollback: replay.then(|| "its runs fail".to_owned()),
                }
            }
            Nature::Bad => rejected(RejectionCause::Content),
            Nature::Wrong => rejected(RejectionCause::Criteria),
            Nature::Deadly => {
                self.history
                    .record_interrupted_load(&record(wanted).digest());
                self.end_process();
                return None;
            }
        })
    }

    fn rename(&mut self, record: &ModelRecord, fault: Fault) -> Event<Numbers> {
        let wanted = version(record);
        assert_eq!(self.active.map(content), Some(content(wanted)));
        if fault == Fault::Unavailable {
            return Event::NotLoaded { vacated: false };
        }
        if !self.history.was_accepted(record) && self.is_bad(wanted) {
            *self.failures.entry(wanted).or_default() += 1;
            return Event::Rejected {
                cause: RejectionCause::Criteria,
                reason: "it is wrong".to_owned(),
                vacated: false,
            };
        }
        self.active = Some(wanted);
        self.accepted.push(wanted);
        Event::Renamed {
            signature: Signature::default(),
        }
    }

    /// Returns the version that should be active once nothing fails any more.
    fn wanted(&self) -> Option<u8> {
        let is_usable = |version: &&u8| !self.is_bad(**version) && !self.is_rejected(**version);
        self.release().choices.iter().find(is_usable).copied()
    }

    /// Performs checks until one finds the wanted version active.
    fn settle(&mut self) {
        for _ in 0..40 {
            let good = &mut std::iter::repeat(Fault::None);
            if matches!(self.check(good), Some(End::Current)) {
                return;
            }
            let is_served = self
                .active
                .is_some_and(|version| !self.is_rejected(version));
            if !is_served && self.nothing_is_usable() {
                return;
            }
        }
        panic!("checks do not settle: {:?}", self.history);
    }

    fn nothing_is_usable(&self) -> bool {
        let release = self.release();
        let mut all = release.choices.iter().chain(&release.fallbacks);
        all.all(|version| self.is_bad(*version) || self.is_rejected(*version))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_newest_good_version_is_active_in_the_end(mut world in worlds(), operations in operations(), shares_failures in any::<bool>()) {
        world.shares_failures = shares_failures;
        for (is_rollback, faults) in operations {
            let faults = &mut faults.into_iter();
            if is_rollback {
                world.roll_back(faults);
            } else {
                world.check(faults);
            }
        }
        world.settle();
        prop_assert!(world.accepted.iter().all(|version| !world.is_bad(*version)));
        match world.wanted() {
            Some(wanted) => prop_assert_eq!(world.active, Some(wanted)),
            None => prop_assert!(world.active.is_some() || world.nothing_is_usable()),
        }
    }

    #[test]
    fn a_bad_version_is_loaded_once_however_often_it_comes_back(mut world in worlds(), bumps in proptest::collection::vec(0..4usize, 1..20)) {
        for bump in bumps {
            world.now = bump % world.releases.len();
            world.settle();
        }
        for (version, times) in &world.failures {
            // A process may have died for another reason, as long as there is no other version.
            let most = if world.nature(*version) == Nature::Deadly { 3 } else { 1 };
            prop_assert!(*times <= most, "version {version} was loaded {times} times");
        }
    }
}
