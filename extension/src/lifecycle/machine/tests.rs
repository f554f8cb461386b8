//! Single cases, and properties over any sequence of events, clocks and faults.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const INTERVALS: Intervals = Intervals {
    refresh: Duration::from_secs(60),
    flush: Duration::from_secs(30),
    tail: Duration::from_millis(500),
};
const SEED: u64 = 7;

fn name(index: usize) -> ModelName {
    ModelName::parse(&format!("model-{index}")).unwrap()
}

/// Returns a machine with one model, whose first check has ended.
fn machine() -> (Machine, Job) {
    let (mut machine, begin) = Machine::start([name(0)], INTERVALS, SEED, Timestamp(1_000_000));
    let [check] = &begin[..] else {
        panic!("{begin:?}")
    };
    machine.ended(check);
    (machine, check.clone())
}

fn far() -> Deadline {
    Deadline::at_unix_ms(u64::MAX)
}

fn invoke(machine: &mut Machine, ms: u64) -> Decision {
    machine.invoked(Timestamp(ms), |_| true)
}

/// Returns the time of the second check of [`machine`].
fn second_check() -> u64 {
    let (machine, _) = machine();
    let wait = machine
        .poll_schedule
        .wait(&name(0), machine.jobs[&check()].last);
    1_000_000 + u64::try_from(wait.as_millis()).unwrap()
}

fn check() -> Job {
    Job::Check(name(0))
}

#[test]
fn each_job_is_due_once_after_its_interval() {
    let (mut machine, check) = machine();
    let due = second_check();
    assert!((1_030_000..=1_060_000).contains(&due), "{due}");
    assert_eq!(invoke(&mut machine, 1_029_999), Decision::default());
    assert_eq!(invoke(&mut machine, 1_030_000).begin, [Job::Flush]);
    machine.ended(&Job::Flush);
    assert_eq!(invoke(&mut machine, due - 1), Decision::default());
    assert_eq!(
        invoke(&mut machine, due).begin,
        std::slice::from_ref(&check)
    );
    machine.ended(&check);
    assert_eq!(invoke(&mut machine, 1_060_000).begin, [Job::Flush]);
    machine.ended(&Job::Flush);
    assert_eq!(invoke(&mut machine, 1_060_001), Decision::default());
}

#[test]
fn a_check_of_a_command_counts() {
    let (mut machine, check) = machine();
    machine.checked(&name(0), Timestamp(second_check() - 1), 0);
    let soon = machine.due(Timestamp(second_check()), |_| true);
    assert_eq!(soon, [Job::Flush], "the check has just run");
    machine.checked(&name(0), Timestamp(1_000_000), 0);
    let later = machine.due(Timestamp(second_check() + 60_000), |_| true);
    assert_eq!(later, [check]);
}

#[test]
fn failures_delay_the_checks_of_loaded_models_until_a_success() {
    let (mut machine, check) = machine();
    let mut now = 1_000_000;
    for (failures, base) in (1..).zip([60_000, 120_000, 240_000, 480_000, 600_000, 600_000]) {
        machine.checked(&name(0), Timestamp(now), failures);
        let first = if failures == 1 {
            base / 2
        } else {
            base - base / 10
        };
        assert_eq!(machine.next_in(Timestamp(now + base)), Some(Duration::ZERO));
        let early = machine.due(Timestamp(now + first - 1), |_| true);
        assert!(!early.contains(&check), "{failures}: {early:?}");
        let missing = machine.clone().due(Timestamp(now + 1_000), |_| false);
        assert!(missing.contains(&check), "{failures}: {missing:?}");
        now += base;
        assert!(
            machine.due(Timestamp(now), |_| true).contains(&check),
            "{failures}"
        );
        machine.ended(&check);
        machine.ended(&Job::Flush);
    }
    machine.checked(&name(0), Timestamp(now), 0);
    assert!(
        machine
            .due(Timestamp(now + 60_000), |_| true)
            .contains(&check)
    );
}

#[test]
fn a_long_freeze_is_detected_and_makes_each_job_due_once() {
    let (mut machine, check) = machine();
    machine.next_called(Timestamp(1_000_010));
    let decision = invoke(&mut machine, 100_000_000);
    assert!(decision.thawed);
    assert_eq!(decision.begin, [check, Job::Flush]);
    machine.next_called(Timestamp(100_000_002));
    let decision = invoke(&mut machine, 100_000_003);
    assert!(!decision.thawed);
    assert_eq!(decision.begin, [], "both are still under way");
    let hold = machine.hold(Timestamp(100_000_003), far());
    assert_eq!(hold, INTERVALS.tail, "and get their time");
}

#[test]
fn a_restore_makes_a_check_due_that_has_not_run_since() {
    let restored = Timestamp(1_000_500);
    let (mut machine, check) = machine();
    machine.next_called(Timestamp(1_000_010));
    machine.restored(restored, SEED + 1, |_| false);
    let decision = invoke(&mut machine, 1_000_600);
    assert!(
        !decision.thawed,
        "the restore is not a freeze before the invocation"
    );
    assert_eq!(decision.begin, std::slice::from_ref(&check));
    assert_eq!(machine.poll_schedule.seed, SEED + 1);

    for (is_running, begin) in [(false, &[][..]), (true, std::slice::from_ref(&check))] {
        let (mut machine, _) = self::machine();
        machine.checked(&name(0), restored, 0);
        machine.restored(restored, SEED, |_| is_running);
        assert_eq!(invoke(&mut machine, 1_000_600).begin, begin);
    }
}

#[test]
fn a_missing_model_is_due_every_second() {
    let (mut machine, check) = machine();
    let mut attempts = 0;
    for ms in (1_000_000..1_005_000).step_by(10) {
        let decision = machine.invoked(Timestamp(ms), |_| false);
        attempts += decision.begin.len();
        machine.ended(&check);
    }
    assert_eq!(attempts, 4);
}

#[test]
fn a_clock_that_is_set_back_delays_no_job() {
    let (mut machine, check) = machine();
    assert_eq!(invoke(&mut machine, 500).begin, [check.clone(), Job::Flush]);
    machine.ended(&check);
    machine.ended(&Job::Flush);
    assert_eq!(invoke(&mut machine, 501), Decision::default());
    let next = machine.next_in(Timestamp(501));
    assert_eq!(next, Some(Duration::from_millis(29_999)));
    // Nor does the result of an earlier check.
    machine.checked(&name(0), Timestamp(500), 0);
    assert_eq!(invoke(&mut machine, 502), Decision::default());
}

#[test]
fn next_is_held_back_up_to_the_margin_before_the_deadline() {
    let (mut machine, _) = machine();
    for (left, hold) in [(10_000, 500), (600, 400), (200, 0), (0, 0)] {
        let deadline = Deadline::at_unix_ms(2_000_000 + left);
        machine.invoked(Timestamp(2_000_000), |_| true);
        let held = machine.hold(Timestamp(2_000_000), deadline);
        assert_eq!(held, Duration::from_millis(hold), "{left} ms left");
    }
}

/// Event of a machine.
#[derive(Clone, Debug)]
enum ScriptStep {
    /// An invocation with `left` milliseconds until its deadline, while the `loaded` models are loaded.
    Invoke { left: u64, loaded: [bool; 2] },
    /// A call of `next`.
    Next,
    /// A tick of the timers outside Lambda.
    Tick,
    /// The end of the `n`th running job.
    End(usize),
    /// A check of model `n` by a command, with the number of failures in a row.
    Checked(usize, u32),
    /// An advance of the wall clock by milliseconds, with or without a freeze.
    Pass(u64),
    /// A setback of the wall clock by milliseconds.
    SetBack(u64),
}

fn step() -> impl Strategy<Value = ScriptStep> {
    let time = prop_oneof![
        0..50_u64,
        900..1_100_u64,
        0..120_000_u64,
        0..100_000_000_u64
    ];
    prop_oneof![
        4 => (prop_oneof![0..2_000_u64, Just(900_000)], any::<[bool; 2]>())
            .prop_map(|(left, loaded)| ScriptStep::Invoke { left, loaded }),
        3 => Just(ScriptStep::Next),
        1 => Just(ScriptStep::Tick),
        3 => (0..3_usize).prop_map(ScriptStep::End),
        1 => (0..2_usize, 0..8_u32).prop_map(|(model, failures)| ScriptStep::Checked(model, failures)),
        4 => time.prop_map(ScriptStep::Pass),
        1 => (0..10_000_u64).prop_map(ScriptStep::SetBack),
    ]
}

fn intervals() -> impl Strategy<Value = Intervals> {
    let interval =
        || prop_oneof![Just(0), 1..5_000_u64, Just(60_000)].prop_map(Duration::from_millis);
    (interval(), interval(), interval()).prop_map(|(refresh, flush, tail)| Intervals {
        refresh,
        flush,
        tail,
    })
}

/// Returns the documented minimum and maximum wait after a check.
fn bounds(refresh: Duration, is_first: bool, failures: u32) -> (Duration, Duration) {
    let second = Duration::from_secs(1);
    let longest = match failures {
        0 | 1 => refresh,
        _ => {
            let doubled = refresh.max(second) * 2_u32.pow(failures - 1);
            let most = (refresh.max(second) * 10).min(600 * second);
            refresh.max(doubled.min(most))
        }
    };
    let shortest = if is_first {
        longest / 2
    } else {
        longest * 9 / 10
    };
    let whole = |time: Duration| Duration::from_millis(u64::try_from(time.as_millis()).unwrap());
    (whole(shortest), whole(longest))
}

proptest! {
    /// Compares the machine with a simple model of the running jobs and their start times.
    #[test]
    fn the_rules_hold_over_any_sequence(
        intervals in intervals(),
        seed: u64,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut now = Timestamp(1_000_000_000);
        let (mut machine, begin) = Machine::start([name(0), name(1)], intervals, seed, now);
        prop_assert_eq!(begin.len(), 2);
        let mut running: BTreeSet<Job> = begin.into_iter().collect();
        let last = LastCheck { begun: now, is_first: true, failures: 0 };
        let all = running.iter().cloned().chain([Job::Flush]);
        let mut begun: BTreeMap<Job, LastCheck> = all.map(|job| (job, last)).collect();
        let mut next_since = None;
        for step in steps {
            let (decision, loaded) = match step {
                ScriptStep::Pass(ms) => { now.0 += ms; continue }
                ScriptStep::SetBack(ms) => { now.0 -= ms; continue }
                ScriptStep::Next => { machine.next_called(now); next_since = Some(now); continue }
                ScriptStep::End(index) => {
                    if let Some(job) = running.iter().nth(index).cloned() {
                        machine.ended(&job);
                        running.remove(&job);
                    }
                    continue
                }
                ScriptStep::Checked(model, failures) => {
                    machine.checked(&name(model), now, failures);
                    let last = begun.get_mut(&Job::Check(name(model))).unwrap();
                    *last = LastCheck { begun: last.begun.max(now), failures, ..*last };
                    continue
                }
                ScriptStep::Tick => {
                    let begin = machine.due(now, |_| true);
                    (Decision { begin, ..Decision::default() }, [true; 2])
                }
                ScriptStep::Invoke { left, loaded } => {
                    let deadline = Deadline::at_unix_ms(now.0 + left);
                    let decision = machine.invoked(now, |model| loaded[usize::from(*model == name(1))]);
                    let hold = machine.hold(now, deadline);
                    let frozen = next_since.take().is_some_and(|since: Timestamp| now < since || now.0 - since.0 >= 1_000);
                    prop_assert_eq!(decision.thawed, frozen);
                    prop_assert!(hold <= intervals.tail);
                    prop_assert!(hold <= Duration::from_millis(left.saturating_sub(200)));
                    let busy = !running.is_empty() || !decision.begin.is_empty();
                    prop_assert!(busy || hold.is_zero(), "nothing to wait for");
                    let has_time = !intervals.tail.is_zero() && left > 200;
                    prop_assert!(!busy || !has_time || !hold.is_zero(), "running jobs get time");
                    (decision, loaded)
                }
            };
            for (job, last) in &mut begun {
                let exactly = |time: Duration| (time, time);
                let (shortest, longest) = match job {
                    Job::Flush => exactly(intervals.flush),
                    Job::Check(model) if loaded[usize::from(*model == name(1))] =>
                        bounds(intervals.refresh, last.is_first, last.failures),
                    Job::Check(_) => exactly(intervals.refresh.min(Duration::from_secs(1))),
                };
                let passed = |time: Duration| now < last.begun || u128::from(now.0 - last.begun.0) >= time.as_millis();
                let is_begun = decision.begin.contains(job);
                prop_assert!(!is_begun || (passed(shortest) && !running.contains(job)), "{job:?} too early at {now:?}");
                prop_assert!(is_begun || !passed(longest) || running.contains(job), "{job:?} is late at {now:?}");
                if is_begun {
                    *last = LastCheck { begun: now, is_first: false, ..*last };
                }
            }
            running.extend(decision.begin);
            // A timer with this pause fires when a job is due.
            match machine.next_in(now) {
                None => prop_assert_eq!(running.len(), 3),
                Some(pause) => {
                    let mut later = machine.clone();
                    let at = |pause: Duration| Timestamp(now.0 + u64::try_from(pause.as_millis()).unwrap());
                    prop_assert!(!later.due(at(pause), |_| true).is_empty());
                }
            }
        }
    }
}
