//! Single sequences of events.

use super::*;

#[test]
fn the_next_candidate_is_active_where_the_first_kills_later_starts() {
    let release = Release {
        number: 0,
        choices: vec![1, 3],
        fallbacks: vec![2],
    };
    let mut world = World::new(true, vec![Nature::Good; 4], vec![release]);
    // The source does not respond at the first start, so that a version other than the choices is active.
    world.check(&mut [Fault::Unavailable].into_iter());
    assert_eq!(world.active, Some(2));
    world.settle();
    assert_eq!(world.active, Some(1));
    // Killed in the load; three times, since the version was active.
    for _ in 0..3 {
        world.end_process();
        assert_eq!(
            world.check(&mut [Fault::None, Fault::Kill].into_iter()),
            None
        );
    }
    world.settle();
    assert_eq!(world.active, Some(3));
}

#[test]
fn a_fallback_is_active_and_nothing_rejected_where_the_newest_version_cannot_be_loaded_now() {
    let release = Release {
        number: 0,
        choices: vec![1],
        fallbacks: vec![2],
    };
    for has_manifest in [false, true] {
        let mut world = World::new(has_manifest, vec![Nature::Good; 3], vec![release.clone()]);
        world.check(&mut [Fault::None, Fault::None, Fault::FailedLoad(false)].into_iter());
        assert_eq!(world.active, Some(2));
        assert_eq!(
            world.history.rejection_reason(&record(1).digest(), None),
            None
        );
        world.settle();
        assert_eq!(world.active, Some(1));
    }
}

#[test]
fn a_version_whose_load_is_deferred_is_not_loaded_and_another_one_is() {
    let newest = |version| Release {
        number: version,
        choices: vec![version],
        fallbacks: vec![],
    };
    for has_manifest in [false, true] {
        let releases = vec![newest(1), newest(2)];
        let mut world = World::new(has_manifest, vec![Nature::Good; 3], releases);
        world.check(&mut [Fault::None, Fault::None, Fault::FailedLoad(false)].into_iter());
        assert_eq!(world.active, None);
        let deferred = Some(record(1).digest());
        for (now, end, active) in [(0, End::Failed, None), (1, End::Loaded, Some(2))] {
            world.now = now;
            let (planner, step) = Planner::check(&world.history, None, deferred.clone());
            let ended = world.run(planner, step, &mut std::iter::repeat(Fault::None));
            assert_eq!((ended, world.active), (Some(end), active));
        }
        // With an active version the check does not fail.
        world.now = 0;
        let active = Some(record(2).digest());
        let (planner, step) = Planner::check(&world.history, active, deferred);
        let ended = world.run(planner, step, &mut std::iter::repeat(Fault::None));
        assert_ne!(ended, Some(End::Loaded));
        assert_eq!(world.active, Some(2));
        world.settle();
        assert_eq!(world.active, Some(1));
    }
}

#[test]
fn a_version_is_rolled_back_also_where_it_had_to_leave_memory() {
    let release = Release {
        number: 0,
        choices: vec![1, 5],
        fallbacks: vec![3],
    };
    let mut natures = vec![Nature::Good; 6];
    natures[1] = Nature::Bad;
    let mut world = World::new(true, natures, vec![release]);
    // The first choice cannot be downloaded, and then not be loaded.
    world.check(&mut [Fault::None, Fault::Unavailable].into_iter());
    world.check(&mut [Fault::None, Fault::None, Fault::Unavailable].into_iter());
    assert_eq!(world.active, Some(5));
    // It is loaded in place of the version to roll back, and is bad.
    world.roll_back(&mut [Fault::None, Fault::None, Fault::InsufficientMemory].into_iter());
    assert_eq!(world.active, Some(3));
    assert!(
        world
            .history
            .rejection_reason(&record(5).digest(), None)
            .is_some()
    );
    world.settle();
    assert_eq!(world.active, Some(3));
}

#[test]
fn the_same_content_is_renamed_unless_it_fails_its_new_criteria() {
    let release = |number, version| Release {
        number,
        choices: vec![version],
        fallbacks: vec![],
    };
    let releases = || vec![release(0, ITS_TWIN), release(1, TWIN)];
    let mut world = World::new(true, vec![Nature::Good; 6], releases());
    world.settle();
    world.now = 1;
    world.settle();
    assert_eq!(world.active, Some(TWIN));
    assert_eq!(world.history.last_active(), Some(&record(TWIN)));

    let mut natures = vec![Nature::Good; 6];
    natures[usize::from(TWIN)] = Nature::Wrong;
    let mut world = World::new(true, natures, releases());
    world.settle();
    world.now = 1;
    world.settle();
    assert_eq!(world.active, Some(ITS_TWIN));
    assert_eq!(world.history.rejection(), Some("it is wrong"));
    assert_eq!(world.history.last_active(), Some(&record(ITS_TWIN)));
    assert_eq!(world.failures[&TWIN], 1);
}

#[test]
fn content_that_was_not_rolled_back_is_renamed_by_the_next_check() {
    let release = |number, choice, fallbacks| Release {
        number,
        choices: vec![choice],
        fallbacks,
    };
    let releases = vec![release(0, 1, vec![TWIN]), release(1, ITS_TWIN, vec![])];
    let mut world = World::new(true, vec![Nature::Good; 6], releases);
    world.settle();
    world.roll_back(&mut std::iter::empty());
    assert_eq!(world.active, Some(TWIN));
    world.roll_back(&mut [Fault::NewRelease(1)].into_iter());
    assert_eq!(world.active, Some(TWIN));
    world.settle();
    assert_eq!(world.active, Some(ITS_TWIN));
}

#[test]
fn an_unconfirmed_rollback_changes_nothing_also_where_the_active_version_had_to_leave_memory() {
    for fault in [Fault::None, Fault::InsufficientMemory] {
        let release = |number, version| Release {
            number,
            choices: vec![version],
            fallbacks: vec![],
        };
        let releases = vec![release(0, 1), release(1, 2)];
        let mut world = World::new(false, vec![Nature::Good; 3], releases);
        world.settle();
        world.now = 1;
        world.settle();
        assert_eq!(world.active, Some(2));
        let history = world.history.clone();
        world.shares_failures = true;
        // It is found, and loaded.
        world.roll_back(&mut [Fault::None, fault].into_iter());
        assert_eq!(world.active, Some(2), "{fault:?}");
        assert_eq!(world.history, history, "{fault:?}");
        world.shares_failures = false;
        world.roll_back(&mut [Fault::None, fault].into_iter());
        assert_eq!(world.active, Some(1), "{fault:?}");
    }
}
