//! Names of new tensors.

use std::collections::HashSet;

/// Returns a name for a part of `whole` that is not taken, and takes it.
pub(super) fn free_name(whole: &str, part: &str, taken: &mut HashSet<String>) -> String {
    // Names stay within the length that a weight's name may have.
    let base = if whole.len() > 200 { "weight" } else { whole };
    let numbered = (1..).map(|number| format!("{base}_{part}_{number}"));
    let mut names = std::iter::once(format!("{base}_{part}")).chain(numbered);
    let free = names.find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(free.clone());
    free
}
