//! Known differences between RIE and the lab, with their reasons.
//!
//! `differences.md` has the same table for readers, and a test compares the two.
//!
//! A difference is a list of replacements: [`Difference::apply`] turns the lab's trace into that of RIE. With all
//! differences applied the traces must be equal, and each difference must have been applied.

mod all;

pub(crate) use all::ALL;

/// A difference between the platforms.
pub(crate) struct Difference {
    /// Cases with this difference.
    pub(crate) cases: Cases,
    /// Actor whose trace differs, or the caller; `None` for all.
    pub(crate) who: Option<&'static str>,
    /// Pairs of RIE's text and the lab's text.
    pub(crate) texts: &'static [(&'static str, &'static str)],
    /// Description of RIE's behaviour.
    pub(crate) rie: &'static str,
    /// Description of the lab's behaviour.
    pub(crate) lab: &'static str,
    /// Reason: the behaviour of Lambda, and its source.
    pub(crate) why: &'static str,
}

/// Set of cases.
pub(crate) enum Cases {
    /// All cases with the lab's text.
    Any,
    /// All cases except for these.
    But(&'static [&'static str]),
    /// These cases.
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
    /// Replaces the lab's texts in a trace by those of RIE; returns `None` if the difference does not apply.
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

    /// Returns `true` if this case may have the difference.
    pub(crate) fn is_about(&self, case: &str) -> bool {
        self.cases.include(case)
    }

    /// Row of the difference in the table.
    pub(crate) fn row(&self) -> String {
        let Self { rie, lab, why, .. } = self;
        format!("| {} | {rie} | {lab} | {why} |\n", self.cases.in_words())
    }
}

/// Header of the table.
const HEAD: &str = "| where | RIE | the lab | why |\n|---|---|---|---|\n";

/// Markdown table of the differences.
pub(crate) fn table() -> String {
    HEAD.to_owned() + &ALL.iter().map(Difference::row).collect::<String>()
}
