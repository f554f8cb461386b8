//! What a check does next: pure, so that every order of events can be tried.
//!
//! A [`Check`] is told what happened and says what to do, until it ends. It decides by the [`History`], and changes it,
//! which is how what was learnt outlives the process. Whoever performs the [`Step`]s has the files, the source and the
//! engine.
//!
//! It promises that no version answers that was not let in by a load that succeeded; that a version that answers is
//! replaced by another one only, or by itself again; and that a source which can be asked and holds something that can
//! be let in ends up answering, whatever failed before. Three orders lie behind that:
//!
//! 1. What the source wants, first choice first: [`Target::Choice`].
//! 2. When nothing answers and none of these can be let in: what was let in here last, then what the source has for
//!    this case: [`Target::StandIn`].
//! 3. A load for which the version that answered had to go ends with that one again when it fails.
//!
//! A rollback ([`Check::roll_back`]) loads the previous version, or what the source has in its place, and replays
//! failed inputs on it. The version that was active is rejected only after a load that says so.

use crate::cache::{History, ManifestMetadata, ModelRecord, RejectionCause};
use crate::ids::{Digest, Identity};
use crate::tensor::Signature;

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Ask the source whether it holds what is known, or, without that, what it holds; meanwhile see whether the files
    /// of this version are here.
    Ask {
        known: bool,
        beside: Option<ModelRecord>,
    },
    /// Bring in the files of a version.
    Gather(Target),
    /// See whether the files of this version are here.
    Find(ModelRecord),
    /// Load it, hold it against its terms, and let it answer. `replay`: for a rollback, so that failed inputs decide
    /// first.
    Load { record: ModelRecord, replay: bool },
    /// Give the active version, which has the same content, the name of this record; first hold it against this record's
    /// terms, where it was not let in on these.
    Rename(ModelRecord),
    /// Nothing more.
    End(End),
}

/// Which of the source's versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// What should answer: the first choice, or a later one where those before are refused.
    Choice(usize),
    /// What is there to fall back to.
    StandIn(usize),
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// What answers is what should.
    Current,
    /// Another version answers.
    Loaded,
    /// What answered still does, or again; or still nothing does.
    Failed,
}

/// Something that happened. Which can happen after which step stands with the steps' names.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// [`Step::Ask`]: it is what is known.
    Same { found: bool },
    /// [`Step::Ask`]: it may be something else.
    Changed,
    /// [`Step::Ask`]: no answer.
    Unreachable { found: bool },
    /// [`Step::Gather`]: this version is here, or known to be refused. `more`: there is a target after this one.
    Gathered {
        record: ModelRecord,
        published: Option<ManifestMetadata>,
        more: bool,
    },
    /// [`Step::Gather`]: it cannot be had now.
    NotGathered { more: bool },
    /// [`Step::Find`]: it is here.
    Found,
    /// [`Step::Find`]: it is not.
    Lost,
    /// [`Step::Load`]: it answers. `rollback`: the reason for which the version that is rolled back is rejected.
    Loaded {
        signature: Signature,
        rollback: Option<String>,
    },
    /// [`Step::Load`] with `replay`: the evidence does not hold, and the version is dropped. `vacated`: what answered
    /// before had to go for it.
    NotConfirmed { vacated: bool },
    /// [`Step::Rename`]: the active version has the name.
    Renamed { signature: Signature },
    /// [`Step::Load`], [`Step::Rename`]: it must not answer. `vacated`: what answered before had to go for it.
    Refused {
        cause: RejectionCause,
        reason: String,
        vacated: bool,
    },
    /// [`Step::Load`]: it failed for a reason outside of the version, such as memory that cannot be allocated. The version
    /// may be loaded later, and others now.
    Deferred { vacated: bool },
    /// [`Step::Load`], [`Step::Rename`]: it could not even be tried.
    NotLoaded { vacated: bool },
}

/// One check under way.
#[derive(Debug)]
pub(super) struct Check {
    /// The version that answers.
    answering: Option<Digest>,
    /// The version that is to be rolled back.
    failing: Option<Failing>,
    /// Whether the source was asked for what it holds, known or not.
    asked_anew: bool,
    stage: Stage,
    /// What could not be loaded in this check.
    tried: Vec<Digest>,
    /// The version whose load has to wait.
    deferred: Option<Digest>,
    /// The manifest that was read in it.
    manifest: Option<Identity>,
    /// Whether something could not be had that may be had later.
    unfinished: bool,
    /// Whether the source showed what it wants.
    has_seen: bool,
    /// Why the first choice does not answer.
    passed_over: Option<String>,
    /// The version that answered had to go, and comes back.
    restoring: Option<Restoring>,
}

/// The version that is to be rolled back.
#[derive(Debug)]
struct Failing {
    digest: Digest,
    /// The source wants it rather than what it offers next.
    is_wanted: bool,
}

/// What comes after the version that had to go for another one has come back.
#[derive(Clone, Copy, Debug)]
enum Restoring {
    /// The next choice.
    Then(usize),
    /// Nothing.
    Alone,
}

#[derive(Clone, Debug, PartialEq)]
enum Stage {
    Asking(Option<ModelRecord>),
    Gathering(Target),
    Finding(ModelRecord),
    Loading { record: ModelRecord, after: After },
    Renaming { record: ModelRecord, after: After },
    Ended,
}

/// What comes after a version that could not be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Target(Target),
    /// No other choice: if nothing answers, what stands in.
    StandIn,
    /// It was the last good one: then what the source has to stand in.
    SourcesStandIn,
    /// Nothing.
    Nothing,
}

impl Check {
    /// A check beside the version that answers, if one does; without a load of the version whose load is `deferred`.
    pub(super) fn begin(
        history: &History,
        answering: Option<Digest>,
        deferred: Option<Digest>,
    ) -> (Self, Step) {
        let mut check = Self {
            answering,
            failing: None,
            asked_anew: false,
            stage: Stage::Ended,
            tried: deferred.iter().cloned().collect(),
            deferred,
            manifest: None,
            unfinished: false,
            has_seen: false,
            passed_over: None,
            restoring: None,
        };
        let step = check.ask(history, true);
        (check, step)
    }

    /// A rollback from the version of this digest. It stays active until another one has taken its place: some answers
    /// are better than none.
    pub(super) fn roll_back(
        history: &History,
        answering: Option<Digest>,
        digest: &Digest,
    ) -> (Self, Step) {
        let (mut check, _) = Self::begin(history, answering, None);
        if check.answering.as_ref() != Some(digest) {
            check.stage = Stage::Ended;
            return (check, Step::End(End::Current));
        }
        check.failing = Some(Failing {
            digest: digest.clone(),
            is_wanted: false,
        });
        check.tried.push(digest.clone());
        let step = match check.find(history) {
            Some(find) => find,
            None => check.ask(history, false),
        };
        (check, step)
    }

    /// What to do after this.
    pub(super) fn next(&mut self, history: &mut History, event: Event) -> Step {
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        match (stage, event) {
            (Stage::Asking(beside), Event::Same { found }) => {
                self.same(history, beside.filter(|_| found))
            }
            (Stage::Asking(_), Event::Changed) => self.gather(Target::Choice(0)),
            (Stage::Asking(beside), Event::Unreachable { found }) => {
                match beside.filter(|_| found) {
                    _ if self.is_answered() => self.end(history, End::Failed),
                    Some(here) => self.load(here, After::StandIn),
                    None => self.stand_in(history),
                }
            }
            (
                Stage::Gathering(target),
                Event::Gathered {
                    record,
                    published,
                    more,
                },
            ) => {
                let after = following(target, more);
                match target {
                    Target::Choice(_) => self.seen(history, record, published, after),
                    Target::StandIn(_) => self.may_stand_in(history, record, published, after),
                }
            }
            (Stage::Gathering(target), Event::NotGathered { more }) => {
                self.unfinished |= matches!(target, Target::Choice(_));
                self.go_on(history, following(target, more))
            }
            (Stage::Finding(record), Event::Found) => {
                self.load_fallback(record, After::SourcesStandIn)
            }
            (Stage::Finding(_), Event::Lost) if self.failing.is_some() && !self.asked_anew => {
                self.ask(history, false)
            }
            (Stage::Finding(_), Event::Lost) => self.gather(Target::StandIn(0)),
            (
                Stage::Loading { record, .. },
                Event::Loaded {
                    signature,
                    rollback,
                },
            ) => {
                self.answering = Some(record.digest());
                // Where the source had another version to move to, nothing was shown.
                if let (Some(failing), Some(reason)) = (self.failing.take(), rollback) {
                    history.reject_content(&failing.digest, &reason);
                }
                history.accept(&record, signature);
                match self.restoring.take() {
                    None => self.end(history, End::Loaded),
                    Some(Restoring::Then(choice)) => self.gather(Target::Choice(choice)),
                    Some(Restoring::Alone) => self.end(history, End::Failed),
                }
            }
            (
                Stage::Loading { record, after, .. },
                Event::Refused {
                    cause,
                    reason,
                    vacated,
                },
            ) => {
                self.refused(history, &record, cause, reason);
                self.failed(history, after, vacated)
            }
            (Stage::Loading { record, after, .. }, Event::Deferred { vacated }) => {
                self.unfinished = true;
                self.tried.push(record.digest());
                if vacated || !self.is_answered() {
                    let after = if vacated { After::StandIn } else { after };
                    self.failed(history, after, vacated)
                } else {
                    self.end(history, End::Failed)
                }
            }
            (Stage::Loading { .. }, Event::NotConfirmed { vacated }) => {
                self.not_confirmed(history, vacated)
            }
            (Stage::Loading { record, .. }, Event::NotLoaded { vacated }) => {
                self.unfinished = true;
                self.tried.push(record.digest());
                if vacated {
                    self.failed(history, After::StandIn, true)
                } else {
                    self.end(history, End::Failed)
                }
            }
            (Stage::Renaming { record, after }, event) => {
                self.renamed(history, &record, after, event)
            }
            // Nothing that happens can follow from a step that was not taken.
            (_, _) => self.end(history, End::Failed),
        }
    }

    fn same(&mut self, history: &mut History, here: Option<ModelRecord>) -> Step {
        let Some(usable) = history.loadable_offline() else {
            return if self.is_answered() {
                self.end(history, End::Current)
            } else {
                self.stand_in(history)
            };
        };
        if self.answering.as_ref() == Some(&usable.digest()) {
            let usable = usable.clone();
            return self.rename(history, usable, After::StandIn);
        }
        if self.tried.contains(&usable.digest()) {
            return if self.is_answered() {
                self.end(history, End::Current)
            } else {
                self.stand_in(history)
            };
        }
        match here {
            Some(here) if here == *usable => self.load(here, After::StandIn),
            _ => self.ask(history, false),
        }
    }

    /// The source wants this version, which is here or known to be refused.
    fn seen(
        &mut self,
        history: &mut History,
        record: ModelRecord,
        published: Option<ManifestMetadata>,
        after: After,
    ) -> Step {
        let digest = record.digest();
        let terms = published.as_ref().map(|it| it.criteria.clone());
        self.manifest = published.as_ref().map(|it| it.manifest.clone());
        self.has_seen = true;
        history.set_candidate(record.clone(), published);
        if let Some(reason) = history.rejection_reason(&digest, terms.as_ref()) {
            self.passed_over.get_or_insert(reason.to_owned());
            return self.go_on(history, after);
        }
        if let Some(failing) = &mut self.failing {
            failing.is_wanted |= failing.digest == digest;
        }
        if self.tried.contains(&digest) {
            // It is still to be loaded, once its load has not to wait any more.
            self.unfinished |= self.deferred.as_ref() == Some(&digest);
            return self.go_on(history, after);
        }
        if self.answering.as_ref() == Some(&digest) {
            return self.rename(history, record, after);
        }
        match &self.failing {
            Some(failing) if failing.is_wanted => self.load_fallback(record, after),
            _ => self.load(record, after),
        }
    }

    /// The source wants this version, and its content is active.
    fn rename(&mut self, history: &mut History, record: ModelRecord, after: After) -> Step {
        if history.last_active() == Some(&record) {
            return self.end(history, End::Current);
        }
        self.stage = Stage::Renaming {
            record: record.clone(),
            after,
        };
        Step::Rename(record)
    }

    /// What comes after the attempt to rename the active version. One that fails stays active under its former name.
    fn renamed(
        &mut self,
        history: &mut History,
        record: &ModelRecord,
        after: After,
        event: Event,
    ) -> Step {
        match event {
            Event::Renamed { signature } => {
                history.accept(record, signature);
                self.end(history, End::Current)
            }
            Event::Refused { cause, reason, .. } => {
                self.refused(history, record, cause, reason);
                self.go_on(history, after)
            }
            _ => {
                self.unfinished = true;
                self.end(history, End::Failed)
            }
        }
    }

    /// The same content may still do on other terms, where it is not refused for itself.
    fn refused(
        &mut self,
        history: &mut History,
        record: &ModelRecord,
        cause: RejectionCause,
        reason: String,
    ) {
        history.reject(record, cause, &reason);
        self.passed_over.get_or_insert(reason);
        if cause == RejectionCause::Content {
            self.tried.push(record.digest());
        }
    }

    /// The source has this version to fall back to, which is here or known to be refused.
    fn may_stand_in(
        &mut self,
        history: &mut History,
        record: ModelRecord,
        published: Option<ManifestMetadata>,
        after: After,
    ) -> Step {
        let (digest, terms) = (record.digest(), published.as_ref().map(|it| &it.criteria));
        if history.rejection_reason(&digest, terms).is_some() || self.tried.contains(&digest) {
            return self.go_on(history, after);
        }
        history.set_fallback(record.clone(), published);
        // What the source wants was not seen to be impossible.
        if !self.has_seen {
            history.set_applied_manifest(None);
        }
        self.load_fallback(record, after)
    }

    /// The evidence for the rollback does not hold. An active version that had to go comes back.
    fn not_confirmed(&mut self, history: &mut History, vacated: bool) -> Step {
        let failing = self.failing.take();
        // What the source was seen to want was not tried, and may have a new name.
        self.unfinished |= self.has_seen;
        if !vacated && self.answering.is_some() {
            return self.end(history, End::Current);
        }
        if let Some(Failing { digest, .. }) = failing {
            self.tried.retain(|tried| *tried != digest);
        }
        self.answering = None;
        self.restoring = Some(Restoring::Alone);
        self.stand_in(history)
    }

    /// A load came to nothing.
    fn failed(&mut self, history: &mut History, after: After, vacated: bool) -> Step {
        if !vacated || self.restoring.is_some() {
            return self.go_on(history, after);
        }
        self.answering = None;
        self.restoring = Some(match after {
            After::Target(Target::Choice(choice)) => Restoring::Then(choice),
            _ => Restoring::Alone,
        });
        self.stand_in(history)
    }

    /// After a version that cannot be let in.
    fn go_on(&mut self, history: &mut History, after: After) -> Step {
        match after {
            After::Target(target) => self.gather(target),
            After::SourcesStandIn => self.gather(Target::StandIn(0)),
            After::StandIn if !self.is_answered() => self.stand_in(history),
            After::StandIn | After::Nothing => match self.restoring.take() {
                Some(Restoring::Then(choice)) => self.gather(Target::Choice(choice)),
                _ => self.end(history, End::Failed),
            },
        }
    }

    /// Whether a version answers that is not to be replaced at any price.
    fn is_answered(&self) -> bool {
        self.answering.is_some() && self.failing.is_none()
    }

    fn ask(&mut self, history: &History, known: bool) -> Step {
        self.asked_anew |= !known;
        let usable = history.loadable_offline().filter(|_| known);
        let beside = usable.map(|usable| (usable, usable.digest()));
        let beside = beside.filter(|(_, digest)| {
            self.answering.as_ref() != Some(digest) && !self.tried.contains(digest)
        });
        let beside = beside.map(|(usable, _)| usable);
        let beside = beside.cloned();
        self.stage = Stage::Asking(beside.clone());
        Step::Ask { known, beside }
    }

    fn gather(&mut self, target: Target) -> Step {
        self.stage = Stage::Gathering(target);
        Step::Gather(target)
    }

    fn load(&mut self, record: ModelRecord, after: After) -> Step {
        self.stage = Stage::Loading {
            record: record.clone(),
            after,
        };
        Step::Load {
            record,
            replay: false,
        }
    }

    /// Loads what is not the source's first choice; for a rollback, failed inputs decide whether it becomes active.
    fn load_fallback(&mut self, record: ModelRecord, after: After) -> Step {
        let replay = self.failing.is_some();
        self.load(record.clone(), after);
        Step::Load { record, replay }
    }

    /// What was let in here last, or what the source has for this.
    fn stand_in(&mut self, history: &History) -> Step {
        match self.find(history) {
            Some(find) => find,
            None => self.gather(Target::StandIn(0)),
        }
    }

    fn find(&mut self, history: &History) -> Option<Step> {
        let mut known = history
            .loadable_offline()
            .into_iter()
            .chain(history.last_active())
            .chain(history.previous_active());
        let record = known.find(|record| !self.tried.contains(&record.digest()))?;
        self.stage = Stage::Finding(record.clone());
        Some(Step::Find(record.clone()))
    }

    fn end(&mut self, history: &mut History, end: End) -> Step {
        if let Some(manifest) = self.manifest.take() {
            history.set_applied_manifest(Some(manifest));
        }
        // One that was to be rolled back and stays may have a new name.
        if self.unfinished || self.failing.is_some() {
            history.set_applied_manifest(None);
        }
        if self.has_seen {
            history.set_fallback_reason(self.passed_over.take());
        }
        self.stage = Stage::Ended;
        Step::End(end)
    }
}

/// What comes after a target that cannot be let in.
fn following(target: Target, more: bool) -> After {
    match target {
        Target::Choice(choice) if more => After::Target(Target::Choice(choice + 1)),
        Target::Choice(_) => After::StandIn,
        Target::StandIn(which) if more => After::Target(Target::StandIn(which + 1)),
        Target::StandIn(_) => After::Nothing,
    }
}

#[cfg(test)]
mod tests;
