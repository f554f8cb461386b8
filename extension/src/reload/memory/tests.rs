//! The memory policy, for measured models and for arbitrary sizes.

use proptest::prelude::*;

use super::concurrent_loads::LoadPermit;
use super::*;

fn read(mb: u64) -> ModelBytes {
    ModelBytes::of_bytes(mb * MB)
}

fn mapped(mb: u64, at_load: AtLoad) -> ModelBytes {
    ModelBytes {
        read: 10_000,
        mapped: mb * MB,
        at_load,
    }
}

fn need(new: ModelBytes, active: Option<(ModelBytes, u64)>) -> MemoryNeed {
    let cost = |(files, mb): (ModelBytes, u64)| LoadCost {
        files,
        grown: Some(mb * MB),
    };
    MemoryNeed {
        new,
        active: active.map(cost),
    }
}

#[test]
fn every_model_that_was_measured_is_within_its_estimate() {
    use AtLoad::{AsItIs, Map, Optimise};
    for (name, weights, took, peak) in [
        ("wine", read(0), 0, 0),
        ("magika", read(3), 16, 18),
        ("12 MB", read(12), 24, 28),
        ("100 MB", read(96), 145, 237),
        ("250 MB", read(238), 375, 463),
        ("100 MB as .ort", read(96), 136, 265),
        ("MiniLM", read(85), 122, 134),
        ("ResNet-50", read(98), 292, 318),
        ("MiniLM, external weights", mapped(85, Optimise), 41, 44),
        (
            "ResNet-50, external weights",
            mapped(97, Optimise),
            175,
            187,
        ),
        ("100 MB, packed", mapped(96, AsItIs), 96, 105),
        ("250 MB, packed", mapped(238, AsItIs), 238, 256),
        ("250 MB, mapped", mapped(238, Map), 0, 1),
        ("a forest", read(30), 288, 366),
    ] {
        // The previous version is of the same kind, as in a reload.
        let estimate = need(weights, Some((weights, took))).estimate() / MB;
        assert!(
            estimate >= peak,
            "{name}: {estimate} MB, and {peak} are taken"
        );
        assert!(
            estimate <= 6 * peak + 16,
            "{name}: {estimate} MB for {peak}"
        );
    }
}

#[test]
fn memory_of_the_active_version_counts_where_it_exceeds_its_estimate() {
    let (alone, grown) = (need(read(60), None), need(read(60), Some((read(30), 288))));
    assert!(grown.estimate() > 2 * alone.estimate());
    let modest = need(read(60), Some((read(30), 31)));
    assert_eq!(modest.estimate(), alone.estimate());
    // The memory of a model of 1 KB does not predict that of a model of 60 MB.
    let tiny = need(read(60), Some((read(0), 4)));
    assert_eq!(tiny.estimate(), alone.estimate());
}

#[test]
fn the_reason_names_both_sizes() {
    let (placed, why) = placement(Reload::Auto, &need(read(100), None), Some(200 * MB));
    assert_eq!(placed, Placement::InPlace);
    assert_eq!(why, "the load may take 366 MB, and 200 MB are free");
    let (placed, why) = placement(Reload::Auto, &need(read(100), None), None);
    assert_eq!(
        (placed, &*why),
        (Placement::Alongside, "the amount of free memory is unknown")
    );
}

#[test]
fn the_file_to_return_to_is_evicted_only_with_replace() {
    let need = need(read(100), None);
    for (mode, free, may) in [
        (Reload::Auto, 100, false),
        (Reload::Auto, 1_000, true),
        (Reload::Overlap, 100, true),
        (Reload::Replace, 100, true),
    ] {
        assert_eq!(
            may_evict_active(mode, &need, Some(free * MB)),
            may,
            "{mode:?} {free}"
        );
    }
}

#[test]
fn a_load_in_parallel_with_others_is_not_measured() {
    let loads = Loads::default();
    let alone = loads.measure(Some(100));
    assert_eq!(alone.grown(Some(130)), Some(30));
    assert_eq!(alone.grown(Some(90)), Some(0), "less than before");
    assert_eq!(alone.grown(None), None);
    drop(alone);
    let first = loads.measure(Some(100));
    let second = loads.measure(Some(110));
    assert_eq!(
        (first.grown(Some(130)), second.grown(Some(130))),
        (None, None)
    );
    drop(second);
    assert_eq!(first.grown(Some(130)), None, "another load ran in parallel");
    drop(first);
    assert_eq!(loads.measure(Some(100)).grown(Some(101)), Some(1));
}

/// Figures of free memory and of the memory of the process.
#[derive(Default)]
struct FakeMachine {
    free: Option<u64>,
    own: u64,
}

impl MemoryUse for FakeMachine {
    fn free(&self) -> Option<u64> {
        self.free
    }

    fn own(&self) -> Option<u64> {
        Some(self.own)
    }
}

/// Permit of a load, if it is granted immediately.
async fn at_once<'a>(
    loads: &'a Loads,
    exclusivity: Exclusivity,
    machine: &FakeMachine,
) -> Option<LoadPermit<'a>> {
    let permit = loads.acquire(exclusivity, machine);
    tokio::select! {
        biased;
        permit = permit => Some(permit),
        () = std::future::ready(()) => None,
    }
}

fn shared(mb: u64) -> Exclusivity {
    Exclusivity::Shared { estimate: mb * MB }
}

#[tokio::test]
async fn loads_go_on_in_parallel_while_their_estimates_fit_together() {
    let loads = Loads::default();
    let mut machine = FakeMachine {
        free: Some(100 * MB),
        own: 0,
    };
    // The first load is admitted regardless of free memory.
    let first = at_once(&loads, shared(60), &machine).await.unwrap();
    let second = at_once(&loads, shared(40), &machine).await.unwrap();
    assert!(at_once(&loads, shared(1), &machine).await.is_none());
    // Memory that the loads have already allocated does not count twice.
    (machine.free, machine.own) = (Some(20 * MB), 80 * MB);
    assert!(at_once(&loads, shared(1), &machine).await.is_none());
    (machine.free, machine.own) = (Some(21 * MB), 80 * MB);
    let third = at_once(&loads, shared(1), &machine).await.unwrap();
    // Memory that an ended load keeps still counts.
    drop(second);
    assert!(at_once(&loads, shared(1), &machine).await.is_none());
    drop((first, third));
    assert!(at_once(&loads, shared(90), &machine).await.is_some());
}

#[tokio::test]
async fn where_nothing_says_what_is_free_all_loads_go_on_in_parallel() {
    let loads = Loads::default();
    let machine = FakeMachine::default();
    let first = at_once(&loads, shared(u64::MAX / MB), &machine).await;
    let second = at_once(&loads, shared(u64::MAX / MB), &machine).await;
    assert!(first.is_some() && second.is_some());
}

#[tokio::test]
async fn a_load_without_exclusivity_waits_for_all_others_and_they_for_it() {
    let loads = Loads::default();
    let machine = FakeMachine::default();
    let parallel = at_once(&loads, shared(1), &machine).await.unwrap();
    assert!(
        at_once(&loads, Exclusivity::Exclusive, &machine)
            .await
            .is_none()
    );
    let waits = loads.acquire(Exclusivity::Exclusive, &machine);
    let ends = async {
        tokio::task::yield_now().await;
        drop(parallel);
    };
    let (alone, ()) = tokio::join!(waits, ends);
    assert!(at_once(&loads, shared(1), &machine).await.is_none());
    assert!(
        at_once(&loads, Exclusivity::Exclusive, &machine)
            .await
            .is_none()
    );
    drop(alone);
    assert!(at_once(&loads, shared(1), &machine).await.is_some());
}

fn files() -> impl Strategy<Value = ModelBytes> {
    let at_load = prop_oneof![
        Just(AtLoad::Optimise),
        Just(AtLoad::AsItIs),
        Just(AtLoad::Map)
    ];
    (any::<u64>(), any::<u64>(), at_load).prop_map(|(read, mapped, at_load)| ModelBytes {
        read,
        mapped,
        at_load,
    })
}

fn needs() -> impl Strategy<Value = MemoryNeed> {
    let cost = (files(), any::<Option<u64>>()).prop_map(|(files, grown)| LoadCost { files, grown });
    (files(), proptest::option::of(cost)).prop_map(|(new, active)| MemoryNeed { new, active })
}

proptest! {
    #[test]
    fn a_version_that_fits_is_loaded_alongside_and_any_other_in_place(need in needs(), free: u64) {
        let (placed, _) = placement(Reload::Auto, &need, Some(free));
        prop_assert_eq!(placed == Placement::InPlace, need.estimate() > free);
    }

    #[test]
    fn the_configured_mode_overrides_free_memory(need in needs(), free: Option<u64>) {
        prop_assert_eq!(placement(Reload::Overlap, &need, free).0, Placement::Alongside);
        prop_assert_eq!(placement(Reload::Replace, &need, free).0, Placement::InPlace);
    }

    #[test]
    fn a_larger_file_never_needs_less(need in needs(), more: u64) {
        let mut larger = need;
        larger.new.read = need.new.read.saturating_add(more);
        prop_assert!(larger.estimate() >= need.estimate());
    }

    #[test]
    fn a_larger_measured_cost_never_lowers_the_estimate(need in needs(), more: u64) {
        let mut grown = need;
        if let Some(active) = &mut grown.active {
            active.grown = active.grown.map(|grown| grown.saturating_add(more));
        }
        prop_assert!(grown.estimate() >= need.estimate());
        prop_assert!(need.estimate() >= MARGIN);
    }
}
