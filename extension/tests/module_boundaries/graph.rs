//! Graph of source files: an edge leads from a file to each file whose items it names.
//!
//! An import that a parent passes on counts as the file that defines the item. A file's use of its ancestors and of its
//! descendants does not count, nor do inline test modules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::source::{ModulePath, Source};

/// Maximum number of imports that are followed to the definition of an item.
const MAX_REEXPORTS: usize = 8;

/// Files with the files that they use.
#[derive(Debug)]
pub(super) struct FileGraph(BTreeMap<String, BTreeSet<String>>);

impl FileGraph {
    /// Builds the graph of these files, by their paths relative to `src`.
    pub(super) fn new(sources: &BTreeMap<String, Source>) -> Self {
        let modules: BTreeMap<&ModulePath, &String> = sources
            .iter()
            .map(|(file, source)| (&source.module, file))
            .collect();
        let edges = sources.iter().map(|(file, source)| {
            let product = source.paths.iter().filter(|path| !path.is_test);
            let used = product.filter_map(|path| definition(sources, &modules, &path.segments));
            let counted =
                used.filter(|target| !is_family(&source.module, &sources[*target].module));
            (file.clone(), counted.cloned().collect())
        });
        Self(edges.collect())
    }

    /// Groups of files that use each other, directly or through others of the group.
    pub(super) fn cycles(&self) -> BTreeSet<BTreeSet<String>> {
        let reach: BTreeMap<&String, BTreeSet<&String>> = self
            .0
            .keys()
            .map(|file| (file, self.reachable(file)))
            .collect();
        let group = |file: &String| -> BTreeSet<String> {
            let mutual = reach[file]
                .iter()
                .filter(|other| reach[**other].contains(file));
            mutual.map(|other| (*other).clone()).collect()
        };
        let groups = self.0.keys().map(group);
        groups.filter(|group| !group.is_empty()).collect()
    }

    /// Describes a shortest cycle in a group that [`Self::cycles`] returned.
    pub(super) fn describe(&self, group: &BTreeSet<String>) -> String {
        let loops = group.iter().filter_map(|file| self.shortest_loop(file));
        let shortest = loops.min_by_key(Vec::len).unwrap_or_default();
        shortest.join(" → ")
    }

    fn used(&self, file: &String) -> impl Iterator<Item = &String> {
        self.0.get(file).into_iter().flatten()
    }

    fn reachable(&self, from: &String) -> BTreeSet<&String> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&String> = self.used(from).collect();
        while let Some(file) = open.pop() {
            if reached.insert(file) {
                open.extend(self.used(file));
            }
        }
        reached
    }

    fn shortest_loop(&self, from: &String) -> Option<Vec<String>> {
        let mut seen = BTreeSet::new();
        let mut open = VecDeque::from([vec![from.clone()]]);
        while let Some(path) = open.pop_front() {
            for next in self.used(path.last()?) {
                let mut longer = path.clone();
                longer.push(next.clone());
                if next == from {
                    return Some(longer);
                }
                if seen.insert(next) {
                    open.push_back(longer);
                }
            }
        }
        None
    }
}

/// File that defines what `path` names.
fn definition<'a>(
    sources: &BTreeMap<String, Source>,
    modules: &BTreeMap<&ModulePath, &'a String>,
    path: &[String],
) -> Option<&'a String> {
    let mut path = path.to_vec();
    let mut file = None;
    for _ in 0..MAX_REEXPORTS {
        let depth = (1..=path.len())
            .rev()
            .find(|&depth| modules.contains_key(&path[..depth].to_vec()))?;
        let holder = modules[&path[..depth].to_vec()];
        file = Some(holder);
        let Some(name) = path.get(depth) else { break };
        let Some(target) = sources[holder].imports.get(name) else {
            break;
        };
        path = target.iter().chain(&path[depth + 1..]).cloned().collect();
    }
    file
}

/// Returns `true` if one of the modules is the other or holds it.
fn is_family(one: &ModulePath, other: &ModulePath) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

#[test]
fn cycles_through_siblings_and_reexports_are_found_and_parents_do_not_count() {
    let files = [
        // A parent and its child use each other.
        ("a.rs", "mod x; mod y; mod z; pub use y::Y; use x::X;"),
        // Through the parent's import, `x` uses `y`.
        ("a/x.rs", "use super::Y; use super::Parent;"),
        ("a/y.rs", "use crate::a::z::Z;"),
        ("a/z.rs", "fn f() { super::x::g() }"),
        // Both know each other in tests alone.
        ("b.rs", "#[cfg(test)] mod tests { use crate::c::C; }"),
        ("c.rs", "use crate::b::B; use crate::a::X;"),
    ];
    let sources: BTreeMap<String, Source> = files
        .into_iter()
        .map(|(file, text)| (file.to_owned(), Source::read(file, text)))
        .collect();
    let graph = FileGraph::new(&sources);
    let cycles: Vec<_> = graph.cycles().into_iter().collect();
    assert_eq!(cycles.len(), 1, "{cycles:?}");
    let group: Vec<&str> = cycles[0].iter().map(String::as_str).collect();
    assert_eq!(group, ["a/x.rs", "a/y.rs", "a/z.rs"]);
    let cycle = "a/x.rs → a/y.rs → a/z.rs → a/x.rs";
    assert_eq!(graph.describe(&cycles[0]), cycle);
    let uses_of_c: Vec<_> = graph.0["c.rs"].iter().map(String::as_str).collect();
    assert_eq!(uses_of_c, ["a/x.rs", "b.rs"]);
}
