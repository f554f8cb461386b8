//! Strategies of random worlds and courses of events.

use super::*;

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
        let release = |((choices, fallbacks), number)| Release {
            number,
            choices,
            fallbacks,
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

pub(super) fn worlds() -> impl Strategy<Value = World> {
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

pub(super) fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        10 => Just(Fault::None),
        2 => Just(Fault::Unavailable),
        1 => Just(Fault::UnreadableManifest),
        1 => Just(Fault::InsufficientMemory),
        1 => any::<bool>().prop_map(Fault::FailedLoad),
        1 => Just(Fault::EmptyCache),
        2 => (0..4usize).prop_map(Fault::NewRelease),
        1 => Just(Fault::Kill),
    ]
}

/// Sequence of checks and rollbacks, each with events during it.
pub(super) fn operations() -> impl Strategy<Value = Vec<(bool, Vec<Fault>)>> {
    let faults = proptest::collection::vec(fault(), 0..8);
    proptest::collection::vec((proptest::bool::weighted(0.1), faults), 1..10)
}
