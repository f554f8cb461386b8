//! Checks in a world where anything can happen between two steps, and in which every version has a nature of its own.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::cache::FileRecord;
use crate::ids::{ETag, FilePath, VersionName};

/// Versions there are.
const VERSIONS: u8 = 6;
/// A version with the content of another one.
const TWIN: u8 = 5;
const ITS_TWIN: u8 = 4;
/// More steps than any check takes.
const MANY: usize = 60;

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

/// What a version does when it is loaded.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Nature {
    Good,
    /// It does not load.
    Bad,
    /// It does not keep its terms.
    Wrong,
    /// It kills the process.
    Deadly,
}

/// What the source holds: under this number, a manifest's choices and what stands in for them; or, without manifests,
/// one choice and the versions before it.
#[derive(Clone, Debug)]
struct Release {
    number: u8,
    choices: Vec<u8>,
    stand_ins: Vec<u8>,
}

/// What happens beside the steps.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Luck {
    Good,
    /// The source cannot be asked, a transfer fails, no thread can be had.
    Bad,
    /// The version that answers has to go for a load.
    NoMemory,
    /// A load fails for a reason outside of the version, which may have had the version that answers go for it.
    Fails(bool),
    /// The cache has lost everything.
    Lost,
    /// The source holds something else from here on.
    Bump(usize),
    /// The process is killed.
    Kill,
}

struct World {
    has_manifest: bool,
    natures: Vec<Nature>,
    releases: Vec<Release>,
    now: usize,
    /// What it held when the check that is under way asked.
    asked: usize,
    /// What outlives the process.
    history: History,
    cached: Vec<u8>,
    /// The content of versions that were refused for what happened to them.
    unlucky: Vec<u8>,
    /// What the process has in memory, and whether it had to go for a load.
    answering: Option<u8>,
    vacated: bool,
    /// How often each version was loaded and found wanting.
    failures: BTreeMap<u8, u32>,
    /// Loads that came to an end.
    let_in: Vec<u8>,
    /// Every version fails on the inputs on which the active one fails.
    shares_failures: bool,
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
            answering: None,
            vacated: false,
            failures: BTreeMap::new(),
            unlucky: Vec::new(),
            let_in: Vec::new(),
            shares_failures: false,
        }
    }

    fn release(&self) -> &Release {
        &self.releases[self.now]
    }

    fn published(&self, version: u8) -> Option<ManifestMetadata> {
        self.has_manifest.then(|| ManifestMetadata {
            manifest: identity(self.releases[self.asked].number),
            example: None,
            criteria: digest(&format!("terms of {version}")),
        })
    }

    /// What a version does: what its content does, or, under a manifest, does not keep its own terms.
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

    fn is_unlucky(&self, version: u8) -> bool {
        self.unlucky.contains(&content(version))
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

    /// The process ends, in the middle of whatever it does.
    fn end_process(&mut self) {
        self.answering = None;
        self.vacated = false;
    }

    /// One check; `None` when the process died in it.
    fn check(&mut self, luck: &mut dyn Iterator<Item = Luck>) -> Option<End> {
        let answering = self.answering.map(|version| record(version).digest());
        let (check, step) = Check::begin(&self.history, answering, None);
        self.walk(check, step, luck)
    }

    /// The version that answers fails its callers.
    fn roll_back(&mut self, luck: &mut dyn Iterator<Item = Luck>) -> Option<End> {
        let answering = self.answering?;
        let digest = record(answering).digest();
        let (check, step) = Check::roll_back(&self.history, Some(digest.clone()), &digest);
        let end = self.walk(check, step, luck);
        if self.history.rejection_reason(&digest, None).is_some() {
            self.unlucky.push(content(answering));
        }
        end
    }

    fn walk(
        &mut self,
        mut check: Check,
        mut step: Step,
        luck: &mut dyn Iterator<Item = Luck>,
    ) -> Option<End> {
        for _ in 0..MANY {
            let mut luck = luck.next().unwrap_or(Luck::Good);
            match luck {
                Luck::Bump(release) => {
                    self.now = release % self.releases.len();
                    luck = Luck::Good;
                }
                Luck::Lost => self.cached.clear(),
                _ => {}
            }
            if luck == Luck::Kill {
                if let Step::Load { record, .. } = &step {
                    let (loading, digest) = (record, record.digest());
                    self.history.record_interrupted_load(&digest);
                    // With no other version it is tried again.
                    if self.history.rejection_reason(&digest, None).is_some() {
                        self.unlucky.push(content(version(loading)));
                    }
                }
                self.end_process();
                return None;
            }
            let had = self.answering;
            let event = match &step {
                Step::End(end) => {
                    self.vacated = false;
                    return Some(*end);
                }
                Step::Ask { known, beside } => {
                    let found = beside
                        .as_ref()
                        .is_some_and(|it| self.is_cached(version(it)));
                    match luck {
                        Luck::Bad => Event::Unreachable { found },
                        _ if self.same(*known) => Event::Same { found },
                        _ => {
                            self.asked = self.now;
                            Event::Changed
                        }
                    }
                }
                Step::Gather(target) => self.gather(*target, luck),
                Step::Find(wanted) if self.is_cached(version(wanted)) => Event::Found,
                Step::Find(_) => Event::Lost,
                Step::Load { record, replay } => self.load(version(record), *replay, luck)?,
                Step::Rename(wanted) => self.rename(wanted, luck),
            };
            assert!(
                had.is_none() || self.answering.is_some() || self.vacated,
                "something answered, and nothing does after {event:?}"
            );
            step = check.next(&mut self.history, event);
        }
        panic!("the check goes on and on, now with {step:?}");
    }

    fn gather(&mut self, target: Target, luck: Luck) -> Event {
        let (which, versions) = match target {
            Target::Choice(which) => (which, self.releases[self.asked].choices.clone()),
            Target::StandIn(which) => (which, self.release().stand_ins.clone()),
        };
        let more = which + 1 < versions.len();
        let Some(&wanted) = versions.get(which) else {
            return Event::NotGathered { more: false };
        };
        if luck == Luck::Bad {
            return Event::NotGathered { more };
        }
        self.cached.push(content(wanted));
        Event::Gathered {
            record: record(wanted),
            published: self.published(wanted),
            more,
        }
    }

    /// `None` when the process died.
    fn load(&mut self, wanted: u8, replay: bool, luck: Luck) -> Option<Event> {
        assert!(
            self.is_cached(wanted) || luck == Luck::Lost,
            "its files are not here"
        );
        let active = self.answering.map(content);
        assert_ne!(active, Some(content(wanted)), "its content is active");
        let has_to_go = matches!(luck, Luck::NoMemory | Luck::Fails(true));
        let vacated = has_to_go && self.answering.is_some();
        if vacated {
            (self.answering, self.vacated) = (None, true);
        }
        if luck == Luck::Bad {
            return Some(Event::NotLoaded { vacated });
        }
        if matches!(luck, Luck::Fails(_)) {
            return Some(Event::Deferred { vacated });
        }
        let refused = |cause| Event::Refused {
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
                    !self.is_unlucky(wanted),
                    "it was refused for what happened to it"
                );
                self.answering = Some(wanted);
                self.let_in.push(wanted);
                Event::Loaded {
                    signature: Signature::default(),
                    rollback: replay.then(|| "its runs fail".to_owned()),
                }
            }
            Nature::Bad => refused(RejectionCause::Content),
            Nature::Wrong => refused(RejectionCause::Criteria),
            Nature::Deadly => {
                self.history
                    .record_interrupted_load(&record(wanted).digest());
                self.end_process();
                return None;
            }
        })
    }

    fn rename(&mut self, record: &ModelRecord, luck: Luck) -> Event {
        let wanted = version(record);
        assert_eq!(self.answering.map(content), Some(content(wanted)));
        if luck == Luck::Bad {
            return Event::NotLoaded { vacated: false };
        }
        if !self.history.was_accepted(record) && self.is_bad(wanted) {
            *self.failures.entry(wanted).or_default() += 1;
            return Event::Refused {
                cause: RejectionCause::Criteria,
                reason: "it is wrong".to_owned(),
                vacated: false,
            };
        }
        self.answering = Some(wanted);
        self.let_in.push(wanted);
        Event::Renamed {
            signature: Signature::default(),
        }
    }

    /// What should answer once nothing fails any more.
    fn wanted(&self) -> Option<u8> {
        let will_do = |version: &&u8| !self.is_bad(**version) && !self.is_unlucky(**version);
        self.release().choices.iter().find(will_do).copied()
    }

    /// Checks until one finds that all is as it should be.
    fn settle(&mut self) {
        for _ in 0..40 {
            let good = &mut std::iter::repeat(Luck::Good);
            if matches!(self.check(good), Some(End::Current)) {
                return;
            }
            let answers = self
                .answering
                .is_some_and(|version| !self.is_unlucky(version));
            if !answers && self.nothing_will_do() {
                return;
            }
        }
        panic!("checks come to no end: {:?}", self.history);
    }

    fn nothing_will_do(&self) -> bool {
        let release = self.release();
        let mut all = release.choices.iter().chain(&release.stand_ins);
        all.all(|version| self.is_bad(*version) || self.is_unlucky(*version))
    }
}

fn natures() -> impl Strategy<Value = Vec<Nature>> {
    let nature = prop_oneof![
        4 => Just(Nature::Good),
        2 => Just(Nature::Bad),
        1 => Just(Nature::Wrong),
        1 => Just(Nature::Deadly),
    ];
    proptest::collection::vec(nature, usize::from(VERSIONS))
}

fn releases(has_manifest: bool) -> impl Strategy<Value = Vec<Release>> {
    let choices = if has_manifest { 1..=2 } else { 1..=1 };
    let versions = |count| proptest::sample::subsequence((0..VERSIONS).collect::<Vec<_>>(), count);
    let release = (versions(choices), versions(0..=3)).prop_shuffle_both();
    proptest::collection::vec(release, 1..5).prop_map(|releases| {
        let numbered = releases.into_iter().zip(0..);
        let release = |((choices, stand_ins), number)| Release {
            number,
            choices,
            stand_ins,
        };
        numbered.map(release).collect()
    })
}

/// Both lists in any order.
trait Shuffled: Strategy<Value = (Vec<u8>, Vec<u8>)> + Sized {
    fn prop_shuffle_both(self) -> BoxedStrategy<(Vec<u8>, Vec<u8>)>
    where
        Self: 'static,
    {
        let shuffled = |(one, other)| (Just(one).prop_shuffle(), Just(other).prop_shuffle());
        self.prop_flat_map(shuffled).boxed()
    }
}

impl<S: Strategy<Value = (Vec<u8>, Vec<u8>)>> Shuffled for S {}

fn worlds() -> impl Strategy<Value = World> {
    any::<bool>()
        .prop_flat_map(|has_manifest| (Just(has_manifest), natures(), releases(has_manifest)))
        .prop_map(|(has_manifest, natures, releases)| World::new(has_manifest, natures, releases))
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("has_manifest", &self.has_manifest)
            .field("natures", &self.natures)
            .field("releases", &self.releases)
            .finish_non_exhaustive()
    }
}

fn luck() -> impl Strategy<Value = Luck> {
    prop_oneof![
        10 => Just(Luck::Good),
        2 => Just(Luck::Bad),
        1 => Just(Luck::NoMemory),
        1 => any::<bool>().prop_map(Luck::Fails),
        1 => Just(Luck::Lost),
        2 => (0..4usize).prop_map(Luck::Bump),
        1 => Just(Luck::Kill),
    ]
}

/// One thing after the other: a check, or the end of the version that answers, each with what happens meanwhile.
fn life() -> impl Strategy<Value = Vec<(bool, Vec<Luck>)>> {
    let luck = proptest::collection::vec(luck(), 0..8);
    proptest::collection::vec((proptest::bool::weighted(0.1), luck), 1..10)
}

#[test]
fn where_the_choice_that_answered_kills_a_later_start_the_next_choice_answers() {
    let release = Release {
        number: 0,
        choices: vec![1, 3],
        stand_ins: vec![2],
    };
    let mut world = World::new(true, vec![Nature::Good; 4], vec![release]);
    // The source is away at the first start but one, so that there is a version beside the choices.
    world.check(&mut [Luck::Bad].into_iter());
    assert_eq!(world.answering, Some(2));
    world.settle();
    assert_eq!(world.answering, Some(1));
    // Asked, and killed in the load; three times, since it was active.
    for _ in 0..3 {
        world.end_process();
        assert_eq!(world.check(&mut [Luck::Good, Luck::Kill].into_iter()), None);
    }
    world.settle();
    assert_eq!(world.answering, Some(3));
}

#[test]
fn where_the_newest_version_cannot_be_loaded_now_what_stands_in_answers_and_nothing_is_refused() {
    let release = Release {
        number: 0,
        choices: vec![1],
        stand_ins: vec![2],
    };
    for has_manifest in [false, true] {
        let mut world = World::new(has_manifest, vec![Nature::Good; 3], vec![release.clone()]);
        world.check(&mut [Luck::Good, Luck::Good, Luck::Fails(false)].into_iter());
        assert_eq!(world.answering, Some(2));
        assert_eq!(
            world.history.rejection_reason(&record(1).digest(), None),
            None
        );
        world.settle();
        assert_eq!(world.answering, Some(1));
    }
}

#[test]
fn a_version_whose_load_is_deferred_is_not_loaded_and_another_one_is() {
    let newest = |version| Release {
        number: version,
        choices: vec![version],
        stand_ins: vec![],
    };
    for has_manifest in [false, true] {
        let releases = vec![newest(1), newest(2)];
        let mut world = World::new(has_manifest, vec![Nature::Good; 3], releases);
        world.check(&mut [Luck::Good, Luck::Good, Luck::Fails(false)].into_iter());
        assert_eq!(world.answering, None);
        let deferred = Some(record(1).digest());
        for (now, end, answers) in [(0, End::Failed, None), (1, End::Loaded, Some(2))] {
            world.now = now;
            let (check, step) = Check::begin(&world.history, None, deferred.clone());
            let ended = world.walk(check, step, &mut std::iter::repeat(Luck::Good));
            assert_eq!((ended, world.answering), (Some(end), answers));
        }
        // With one that answers nothing fails.
        world.now = 0;
        let answering = Some(record(2).digest());
        let (check, step) = Check::begin(&world.history, answering, deferred);
        let ended = world.walk(check, step, &mut std::iter::repeat(Luck::Good));
        assert_ne!(ended, Some(End::Loaded));
        assert_eq!(world.answering, Some(2));
        world.settle();
        assert_eq!(world.answering, Some(1));
    }
}

#[test]
fn a_version_is_rolled_back_also_where_it_had_to_go_for_another() {
    let release = Release {
        number: 0,
        choices: vec![1, 5],
        stand_ins: vec![3],
    };
    let mut natures = vec![Nature::Good; 6];
    natures[1] = Nature::Bad;
    let mut world = World::new(true, natures, vec![release]);
    // The first choice cannot be had, and then not be loaded.
    world.check(&mut [Luck::Good, Luck::Bad].into_iter());
    world.check(&mut [Luck::Good, Luck::Good, Luck::Bad].into_iter());
    assert_eq!(world.answering, Some(5));
    // It is loaded in the place of the one that is rolled back, and is bad.
    world.roll_back(&mut [Luck::Good, Luck::Good, Luck::NoMemory].into_iter());
    assert_eq!(world.answering, Some(3));
    assert!(
        world
            .history
            .rejection_reason(&record(5).digest(), None)
            .is_some()
    );
    world.settle();
    assert_eq!(world.answering, Some(3));
}

#[test]
fn the_same_content_is_renamed_and_on_terms_that_it_does_not_keep_it_stays_what_it_was() {
    let release = |number, version| Release {
        number,
        choices: vec![version],
        stand_ins: vec![],
    };
    let releases = || vec![release(0, ITS_TWIN), release(1, TWIN)];
    let mut world = World::new(true, vec![Nature::Good; 6], releases());
    world.settle();
    world.now = 1;
    world.settle();
    assert_eq!(world.answering, Some(TWIN));
    assert_eq!(world.history.last_active(), Some(&record(TWIN)));

    let mut natures = vec![Nature::Good; 6];
    natures[usize::from(TWIN)] = Nature::Wrong;
    let mut world = World::new(true, natures, releases());
    world.settle();
    world.now = 1;
    world.settle();
    assert_eq!(world.answering, Some(ITS_TWIN));
    assert_eq!(world.history.rejection(), Some("it is wrong"));
    assert_eq!(world.history.last_active(), Some(&record(ITS_TWIN)));
    assert_eq!(world.failures[&TWIN], 1);
}

#[test]
fn content_that_is_to_be_rolled_back_and_stays_is_renamed_by_the_next_check() {
    let release = |number, choice, stand_ins| Release {
        number,
        choices: vec![choice],
        stand_ins,
    };
    let releases = vec![release(0, 1, vec![TWIN]), release(1, ITS_TWIN, vec![])];
    let mut world = World::new(true, vec![Nature::Good; 6], releases);
    world.settle();
    world.roll_back(&mut std::iter::empty());
    assert_eq!(world.answering, Some(TWIN));
    world.roll_back(&mut [Luck::Bump(1)].into_iter());
    assert_eq!(world.answering, Some(TWIN));
    world.settle();
    assert_eq!(world.answering, Some(ITS_TWIN));
}

#[test]
fn a_rollback_that_is_not_confirmed_changes_nothing_also_where_the_active_version_had_to_go() {
    for luck in [Luck::Good, Luck::NoMemory] {
        let release = |number, version| Release {
            number,
            choices: vec![version],
            stand_ins: vec![],
        };
        let releases = vec![release(0, 1), release(1, 2)];
        let mut world = World::new(false, vec![Nature::Good; 3], releases);
        world.settle();
        world.now = 1;
        world.settle();
        assert_eq!(world.answering, Some(2));
        let history = world.history.clone();
        world.shares_failures = true;
        // It is found, and loaded.
        world.roll_back(&mut [Luck::Good, luck].into_iter());
        assert_eq!(world.answering, Some(2), "{luck:?}");
        assert_eq!(world.history, history, "{luck:?}");
        world.shares_failures = false;
        world.roll_back(&mut [Luck::Good, luck].into_iter());
        assert_eq!(world.answering, Some(1), "{luck:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_happens_the_newest_good_one_answers_in_the_end(mut world in worlds(), life in life(), shares_failures in any::<bool>()) {
        world.shares_failures = shares_failures;
        for (withdraw, luck) in life {
            let luck = &mut luck.into_iter();
            if withdraw {
                world.roll_back(luck);
            } else {
                world.check(luck);
            }
        }
        world.settle();
        prop_assert!(world.let_in.iter().all(|version| !world.is_bad(*version)));
        match world.wanted() {
            Some(wanted) => prop_assert_eq!(world.answering, Some(wanted)),
            None => prop_assert!(world.answering.is_some() || world.nothing_will_do()),
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
