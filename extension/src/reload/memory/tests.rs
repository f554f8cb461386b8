//! The decision, for what was measured and for whatever else can be.

use proptest::prelude::*;

use super::*;

fn read(mb: u64) -> Weights {
    Weights::of_bytes(mb * MB)
}

fn beside(mb: u64, at_load: AtLoad) -> Weights {
    Weights {
        read: 10_000,
        beside: mb * MB,
        at_load,
    }
}

fn need(new: Weights, old: Option<(Weights, u64)>) -> Need {
    let seen = |(weights, mb): (Weights, u64)| Seen {
        weights,
        took: Some(mb * MB),
    };
    Need {
        new,
        old: old.map(seen),
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
        ("MiniLM, weights beside", beside(85, Optimise), 41, 44),
        ("ResNet-50, weights beside", beside(97, Optimise), 175, 187),
        ("100 MB, packed", beside(96, AsItIs), 96, 105),
        ("250 MB, packed", beside(238, AsItIs), 238, 256),
        ("250 MB, mapped", beside(238, Map), 0, 1),
        ("a forest", read(30), 288, 366),
    ] {
        // The version before was of the same kind, as it is in a reload.
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
fn what_the_old_one_took_counts_where_it_is_more_than_its_size_says() {
    let (alone, grown) = (need(read(60), None), need(read(60), Some((read(30), 288))));
    assert!(grown.estimate() > 2 * alone.estimate());
    let modest = need(read(60), Some((read(30), 31)));
    assert_eq!(modest.estimate(), alone.estimate());
    // A model of 1 KB with a page or two around it says nothing of one of 60 MB.
    let tiny = need(read(60), Some((read(0), 4)));
    assert_eq!(tiny.estimate(), alone.estimate());
}

#[test]
fn the_reason_has_both_numbers() {
    let (how, why) = choose(Reload::Auto, &need(read(100), None), Some(200 * MB));
    assert_eq!(how, How::InPlace);
    assert_eq!(
        why,
        "it may take 366 MB beside the one that answers, and 200 MB are free"
    );
    let (how, why) = choose(Reload::Auto, &need(read(100), None), None);
    assert_eq!(
        (how, &*why),
        (How::Beside, "how much memory is free is not known")
    );
}

#[test]
fn a_file_that_would_be_needed_again_is_given_up_only_where_that_was_asked_for() {
    let need = need(read(100), None);
    for (mode, free, may) in [
        (Reload::Auto, 100, false),
        (Reload::Auto, 1_000, true),
        (Reload::Overlap, 100, true),
        (Reload::Replace, 100, true),
    ] {
        assert_eq!(
            may_give_up(mode, &need, Some(free * MB)),
            may,
            "{mode:?} {free}"
        );
    }
}

#[test]
fn a_load_that_others_went_on_beside_is_not_measured() {
    let loads = Loads::default();
    let alone = loads.measure(Some(100));
    assert_eq!(alone.took(Some(130)), Some(30));
    assert_eq!(alone.took(Some(90)), Some(0), "less than before");
    assert_eq!(alone.took(None), None);
    drop(alone);
    let first = loads.measure(Some(100));
    let second = loads.measure(Some(110));
    assert_eq!(
        (first.took(Some(130)), second.took(Some(130))),
        (None, None)
    );
    drop(second);
    assert_eq!(first.took(Some(130)), None, "one was there meanwhile");
    drop(first);
    assert_eq!(loads.measure(Some(100)).took(Some(101)), Some(1));
}

/// Memory of which so many bytes are free, and so many taken by the process.
#[derive(Default)]
struct Machine {
    free: Option<u64>,
    own: u64,
}

impl Measured for Machine {
    fn free(&self) -> Option<u64> {
        self.free
    }

    fn own(&self) -> Option<u64> {
        Some(self.own)
    }
}

/// The turn, if it is given at once.
async fn at_once<'a>(loads: &'a Loads, company: Company, machine: &Machine) -> Option<Turn<'a>> {
    let turn = loads.turn(company, machine);
    tokio::select! {
        biased;
        turn = turn => Some(turn),
        () = std::future::ready(()) => None,
    }
}

fn fitting(mb: u64) -> Company {
    Company::Fitting { estimate: mb * MB }
}

#[tokio::test]
async fn loads_go_on_in_parallel_while_their_estimates_fit_together() {
    let loads = Loads::default();
    let mut machine = Machine {
        free: Some(100 * MB),
        own: 0,
    };
    // The first one is admitted whatever is free.
    let first = at_once(&loads, fitting(60), &machine).await.unwrap();
    let second = at_once(&loads, fitting(40), &machine).await.unwrap();
    assert!(at_once(&loads, fitting(1), &machine).await.is_none());
    // What they have taken already does not count twice.
    (machine.free, machine.own) = (Some(20 * MB), 80 * MB);
    assert!(at_once(&loads, fitting(1), &machine).await.is_none());
    (machine.free, machine.own) = (Some(21 * MB), 80 * MB);
    let third = at_once(&loads, fitting(1), &machine).await.unwrap();
    // What a load that has ended keeps is still taken.
    drop(second);
    assert!(at_once(&loads, fitting(1), &machine).await.is_none());
    drop((first, third));
    assert!(at_once(&loads, fitting(90), &machine).await.is_some());
}

#[tokio::test]
async fn where_nothing_says_what_is_free_all_loads_go_on_in_parallel() {
    let loads = Loads::default();
    let machine = Machine::default();
    let first = at_once(&loads, fitting(u64::MAX / MB), &machine).await;
    let second = at_once(&loads, fitting(u64::MAX / MB), &machine).await;
    assert!(first.is_some() && second.is_some());
}

#[tokio::test]
async fn a_load_without_company_waits_for_all_others_and_they_for_it() {
    let loads = Loads::default();
    let machine = Machine::default();
    let parallel = at_once(&loads, fitting(1), &machine).await.unwrap();
    assert!(at_once(&loads, Company::None, &machine).await.is_none());
    let waits = loads.turn(Company::None, &machine);
    let ends = async {
        tokio::task::yield_now().await;
        drop(parallel);
    };
    let (alone, ()) = tokio::join!(waits, ends);
    assert!(at_once(&loads, fitting(1), &machine).await.is_none());
    assert!(at_once(&loads, Company::None, &machine).await.is_none());
    drop(alone);
    assert!(at_once(&loads, fitting(1), &machine).await.is_some());
}

fn weights() -> impl Strategy<Value = Weights> {
    let at_load = prop_oneof![
        Just(AtLoad::Optimise),
        Just(AtLoad::AsItIs),
        Just(AtLoad::Map)
    ];
    (any::<u64>(), any::<u64>(), at_load).prop_map(|(read, beside, at_load)| Weights {
        read,
        beside,
        at_load,
    })
}

fn needs() -> impl Strategy<Value = Need> {
    let seen = (weights(), any::<Option<u64>>()).prop_map(|(weights, took)| Seen { weights, took });
    (weights(), proptest::option::of(seen)).prop_map(|(new, old)| Need { new, old })
}

proptest! {
    #[test]
    fn what_does_not_fit_comes_in_place_and_what_fits_beside(need in needs(), free: u64) {
        let (how, _) = choose(Reload::Auto, &need, Some(free));
        prop_assert_eq!(how == How::InPlace, need.estimate() > free);
    }

    #[test]
    fn the_operators_word_counts_whatever_is_free(need in needs(), free: Option<u64>) {
        prop_assert_eq!(choose(Reload::Overlap, &need, free).0, How::Beside);
        prop_assert_eq!(choose(Reload::Replace, &need, free).0, How::InPlace);
    }

    #[test]
    fn a_larger_file_never_needs_less(need in needs(), more: u64) {
        let mut larger = need;
        larger.new.read = need.new.read.saturating_add(more);
        prop_assert!(larger.estimate() >= need.estimate());
    }

    #[test]
    fn who_took_more_never_makes_the_next_one_need_less(need in needs(), more: u64) {
        let mut grown = need;
        if let Some(old) = &mut grown.old {
            old.took = old.took.map(|took| took.saturating_add(more));
        }
        prop_assert!(grown.estimate() >= need.estimate());
        prop_assert!(need.estimate() >= MARGIN);
    }
}
