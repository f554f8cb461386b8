//! What RIE and the lab do differently, each with the reason. `differences.md` is the same as a
//! table to read, and a test holds one against the other.
//!
//! A difference is texts of the two traces: where the lab's has the one, RIE's has the other in
//! its place. [`Difference::apply`] makes RIE's of the lab's; with all of them applied nothing may
//! differ, and each of them must have been there.

mod all;

pub(crate) use all::ALL;

/// A difference between the platforms.
pub(crate) struct Difference {
    /// The cases in which it is seen.
    pub(crate) cases: Cases,
    /// Whose trace shows it, an actor's or the caller's; anybody's, when nobody is named.
    pub(crate) who: Option<&'static str>,
    /// What RIE's trace has and the lab's has: one pair for each place.
    pub(crate) texts: &'static [(&'static str, &'static str)],
    /// In words: what RIE does.
    pub(crate) rie: &'static str,
    /// In words: what the lab does.
    pub(crate) lab: &'static str,
    /// Why: what Lambda does, and how that is known.
    pub(crate) why: &'static str,
}

/// Some of the cases.
pub(crate) enum Cases {
    /// All in which the lab's text is found.
    Any,
    /// All but these.
    But(&'static [&'static str]),
    /// These.
    Only(&'static [&'static str]),
}

impl Cases {
    fn include(&self, case: &str) -> bool {
        match self {
            Self::Any => true,
            Self::But(cases) => !cases.contains(&case),
            Self::Only(cases) => cases.contains(&case),
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Any => "everywhere".to_owned(),
            Self::But(cases) => format!("everywhere but in: {}", cases.join("; ")),
            Self::Only(cases) => cases.join("; "),
        }
    }
}

impl Difference {
    /// The lab's trace with RIE's texts in the place of its own; `None` where it has none of them,
    /// or not for this case or actor.
    pub(crate) fn apply(&self, case: &str, who: &str, trace: &str) -> Option<String> {
        if !self.cases.include(case) || self.who.is_some_and(|named| named != who) {
            return None;
        }
        let mut changed = trace.to_owned();
        for (rie, lab) in self.texts {
            changed = changed.replace(lab, rie);
        }
        (changed != trace).then_some(changed)
    }

    /// Returns `true` where the difference may be seen in this case.
    pub(crate) fn is_about(&self, case: &str) -> bool {
        self.cases.include(case)
    }

    /// Its row in the table.
    pub(crate) fn row(&self) -> String {
        let Self { rie, lab, why, .. } = self;
        format!("| {} | {rie} | {lab} | {why} |\n", self.cases.in_words())
    }
}

/// The head of the table.
const HEAD: &str = "| where | RIE | the lab | why |\n|---|---|---|---|\n";

/// The differences as a table in Markdown.
pub(crate) fn table() -> String {
    HEAD.to_owned() + &ALL.iter().map(Difference::row).collect::<String>()
}
