//! Versions that fail, callers that make any version fail, and both; the reloader is the test.

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::engine::OutOfMemory;
use crate::protocol::Decoded;
use crate::status::{FailedInput, Replayed};
use crate::tensor::{Tensor, Value};

/// A request, by what the versions make of it. The number tells it from others of its kind.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Request {
    /// Both versions answer it.
    Good,
    /// The previous version alone answers it.
    Breaks(u32),
    /// Both versions fail.
    Bad(u32),
    /// Both versions fail, and its input is too large to be kept.
    Large,
}
use Request::{Bad, Breaks, Good, Large};

/// A model whose version 2 has just become active, and its reloader.
struct Bench {
    trial: Trial,
    now: Timestamp,
    version: u64,
    /// Memory does not hold both versions.
    in_place: bool,
    failure: Failure,
    /// Loads of the previous version.
    loads: u32,
    is_rolled_back: bool,
}

fn digest(number: u64) -> Digest {
    Digest::of(Sha256::new().chain_update(number.to_le_bytes()))
}

fn decoded(first: i64, second: u32, length: usize) -> Decoded {
    let mut numbers = vec![0_i64; length];
    (numbers[0], numbers[1]) = (first, second.into());
    let x = Tensor::new(vec![length], numbers).unwrap();
    Decoded {
        inputs: vec![("x".to_owned(), Value::Tensor(x))],
        outputs: Vec::new(),
    }
}

/// What the previous version makes of an input.
fn replayed(input: &FailedInput) -> Replayed {
    if input.inputs == decoded(1, second(input), 2).inputs {
        Replayed::Answered
    } else {
        Replayed::Failed
    }
}

fn second(input: &FailedInput) -> u32 {
    let Value::Tensor(x) = &input.inputs[0].1 else {
        panic!("{input:?}")
    };
    let crate::tensor::Data::Int64(numbers) = x.data() else {
        panic!("{x:?}")
    };
    u32::try_from(numbers[1]).unwrap()
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self {
            trial: Trial::default(),
            now: Timestamp(1_000_000),
            version: 1,
            in_place: false,
            failure: Failure::Internal,
            loads: 0,
            is_rolled_back: false,
        };
        for _ in 0..30 {
            bench.comes(Good);
        }
        bench.version = 2;
        bench
    }

    fn passes(&mut self, time: Duration) {
        self.now = Timestamp(self.now.0 + u64::try_from(time.as_millis()).unwrap());
    }

    fn comes(&mut self, request: Request) {
        let (digest, loaded_at) = (digest(self.version), Timestamp(self.version));
        let request = match request {
            Good => return self.trial.succeeded(&digest, loaded_at),
            Breaks(number) => decoded(1, number, 2),
            Bad(number) => decoded(2, number, 2),
            Large => decoded(2, 0, 200_000),
        };
        let Some(random) = self.trial.wants(&digest, loaded_at) else {
            return;
        };
        let input = Input::new(request, &random);
        let (failure, now) = (self.failure, self.now);
        if let Some(evidence) = self.trial.failed(&digest, loaded_at, failure, input, now) {
            let (sender, receiver) = oneshot::channel();
            self.trial.requested(receiver, now);
            let _ = sender.send(self.reload(&evidence));
        }
    }

    fn reload(&mut self, evidence: &Evidence) -> RollbackOutcome {
        if !evidence.suffices(self.in_place) {
            return RollbackOutcome::NotEnough;
        }
        self.loads += 1;
        let replayed: Vec<_> = evidence
            .inputs
            .iter()
            .map(|input| replayed(input))
            .collect();
        if !evidence.confirms(&replayed, self.in_place) {
            return RollbackOutcome::Kept(replayed);
        }
        self.is_rolled_back = true;
        self.version = 1;
        RollbackOutcome::Replaced
    }

    fn all_come(&mut self, requests: impl IntoIterator<Item = Request>) {
        for request in requests {
            self.comes(request);
        }
    }
}

#[test]
fn a_version_that_always_fails_is_rolled_back_at_its_sixth_run_whatever_the_failure() {
    for failure in [Failure::Internal, Failure::Refused] {
        for same in [true, false] {
            let mut bench = Bench::new();
            bench.failure = failure;
            for number in 0..6 {
                assert!(!bench.is_rolled_back, "{number}");
                bench.comes(Breaks(if same { 0 } else { number }));
            }
            assert!(bench.is_rolled_back);
            assert_eq!(bench.loads, 1);
        }
    }
}

#[test]
fn requests_that_fail_on_both_versions_never_roll_back_however_many_come() {
    for failure in [Failure::Internal, Failure::Refused] {
        let mut bench = Bench::new();
        bench.failure = failure;
        bench.all_come([Good; 4]);
        for number in 0..100_000 {
            bench.passes(Duration::from_millis(10));
            bench.comes(Bad(number));
        }
        assert!(!bench.is_rolled_back);
        // 17 minutes: loads become rare.
        assert!((2..=9).contains(&bench.loads), "{}", bench.loads);
    }
}

#[test]
fn the_same_bad_request_causes_one_load() {
    let mut bench = Bench::new();
    for _ in 0..10_000 {
        bench.passes(Duration::from_secs(1));
        bench.comes(Bad(7));
    }
    assert!(!bench.is_rolled_back);
    assert_eq!(bench.loads, 1);
}

#[test]
fn a_stricter_version_stays() {
    // Three requests, and then a caller who makes the most of them.
    let mut bench = Bench::new();
    bench.all_come([Good; 4]);
    bench.all_come((0..3).map(Breaks));
    bench.all_come((0..10_000).map(Bad));
    assert!(!bench.is_rolled_back);
    // Requests of before that it refuses now and then.
    let mut bench = Bench::new();
    for number in 0..200 {
        bench.comes(if number % 2 == 0 {
            Good
        } else {
            Breaks(number)
        });
    }
    assert!(!bench.is_rolled_back);
    assert_eq!(bench.loads, 0, "half is no majority");
}

#[test]
fn bad_requests_do_not_keep_a_version_that_always_fails() {
    for bad_before in [3, 6, 50, 1_000] {
        let mut bench = Bench::new();
        bench.all_come((0..bad_before).map(Bad));
        assert!(!bench.is_rolled_back);
        bench.passes(MAX_PAUSE);
        for number in 0..10_000 {
            bench.passes(Duration::from_secs(1));
            bench.comes(Breaks(number));
        }
        assert!(bench.is_rolled_back, "{bad_before}");
    }
    // Nor while they come all the time.
    let mut bench = Bench::new();
    for number in 0..20_000 {
        bench.passes(Duration::from_secs(1));
        bench.all_come([Bad(number), Breaks(number), Bad(number + 100_000)]);
    }
    assert!(bench.is_rolled_back);
}

#[test]
fn inputs_that_cannot_be_kept_roll_nothing_back_where_they_could_be_compared() {
    let mut bench = Bench::new();
    for _ in 0..300 {
        bench.passes(Duration::from_secs(60));
        bench.comes(Large);
    }
    assert!(!bench.is_rolled_back);
    assert_eq!(bench.loads, 0);
    bench.all_come([Breaks(1)]);
    assert!(!bench.is_rolled_back);
}

#[test]
fn where_memory_does_not_hold_both_versions_only_500s_count_by_a_clear_majority() {
    let mut bench = Bench::new();
    bench.in_place = true;
    bench.failure = Failure::Refused;
    bench.all_come((0..1_000).map(Breaks));
    assert_eq!(bench.loads, 0);
    bench.failure = Failure::Internal;
    bench.all_come((0..29).map(Breaks));
    assert!(!bench.is_rolled_back);
    bench.comes(Breaks(29));
    assert!(bench.is_rolled_back, "the thirtieth");
    // With inputs that cannot be compared as well.
    let mut bench = Bench::new();
    bench.in_place = true;
    bench.all_come([Good; 10]);
    bench.all_come([Large; 30]);
    assert!(!bench.is_rolled_back);
    bench.comes(Large);
    assert!(bench.is_rolled_back);
}

#[test]
fn in_place_too_requests_that_fail_on_both_versions_never_roll_back() {
    let mut bench = Bench::new();
    bench.in_place = true;
    for number in 0..10_000 {
        bench.passes(Duration::from_millis(100));
        bench.comes(Bad(number));
    }
    assert!(!bench.is_rolled_back);
    // 17 minutes, in each of which requests would have to wait.
    assert!(bench.loads <= 9, "{}", bench.loads);
}

#[test]
fn a_version_that_has_proved_itself_is_on_trial_no_more() {
    let mut bench = Bench::new();
    bench.all_come([Good; 100]);
    bench.all_come((0..10_000).map(Breaks));
    assert_eq!(bench.loads, 0);
    assert!(bench.trial.wants(&digest(2), Timestamp(2)).is_none());
}

#[test]
fn a_request_that_was_not_heard_comes_again_and_none_while_one_is_pending() {
    let mut trial = Trial::default();
    let (version, now) = (digest(1), Timestamp(0));
    let fails = |trial: &mut Trial| {
        let random = trial.wants(&version, now).unwrap();
        let input = Input::new(decoded(1, 1, 2), &random);
        trial.failed(&version, now, Failure::Internal, input, now)
    };
    for _ in 0..5 {
        assert!(fails(&mut trial).is_none());
    }
    assert!(fails(&mut trial).is_some());
    assert_eq!(fails(&mut trial).unwrap().inputs.len(), 3);
    let (sender, receiver) = oneshot::channel();
    trial.requested(receiver, now);
    for _ in 0..1_000 {
        assert!(fails(&mut trial).is_none(), "it is pending");
    }
    // There is no other version.
    let outcome = RollbackOutcome::Unavailable { may_retry: false };
    sender.send(outcome).unwrap();
    for _ in 0..1_000 {
        assert!(fails(&mut trial).is_none(), "it is settled");
    }
}

#[test]
fn failures_that_came_while_the_previous_version_was_loaded_are_known_again_as_well() {
    let mut trial = Trial::default();
    let (version, now) = (digest(1), Timestamp(0));
    let random = trial.wants(&version, now).unwrap();
    let fails = |trial: &mut Trial, number, now| {
        let input = Input::new(decoded(2, number, 2), &random);
        trial.failed(&version, Timestamp(0), Failure::Internal, input, now)
    };
    let evidence = (0..6).find_map(|_| fails(&mut trial, 7, now)).unwrap();
    let (sender, receiver) = oneshot::channel();
    trial.requested(receiver, now);
    for _ in 0..1_000 {
        fails(&mut trial, 7, now);
    }
    let replayed = evidence.inputs.iter().map(|input| replayed(input));
    let outcome = RollbackOutcome::Kept(replayed.collect());
    sender.send(outcome).unwrap();
    let later = Timestamp(1_000_000_000);
    for number in 100..103 {
        assert!(fails(&mut trial, number, later).is_none(), "three are few");
    }
}

#[test]
fn a_request_without_an_outcome_is_made_again_later() {
    let mut bench = Bench::new();
    let lost = |bench: &mut Bench| {
        let (sender, receiver) = oneshot::channel();
        bench.trial.requested(receiver, bench.now);
        drop(sender);
    };
    let (version, loaded_at, now) = (digest(2), Timestamp(2), bench.now);
    let random = bench.trial.wants(&version, loaded_at).unwrap();
    for _ in 0..6 {
        let input = Input::new(decoded(1, 1, 2), &random);
        let failed = bench
            .trial
            .failed(&version, loaded_at, Failure::Internal, input, now);
        if failed.is_some() {
            lost(&mut bench);
        }
    }
    bench.all_come((0..100).map(Breaks));
    assert!(!bench.is_rolled_back, "not at once");
    bench.passes(PAUSE);
    bench.comes(Breaks(0));
    assert!(bench.is_rolled_back);
}

#[test]
fn a_version_that_returns_is_on_trial_anew_and_late_requests_say_nothing() {
    let mut bench = Bench::new();
    bench.all_come((0..6).map(Breaks));
    assert!(bench.is_rolled_back);
    // Version 1 is loaded again, and requests on version 2 end.
    let again = Timestamp(3);
    bench.trial.succeeded(&digest(1), again);
    assert!(bench.trial.wants(&digest(2), Timestamp(2)).is_none());
    assert!(bench.trial.wants(&digest(1), again).is_some());
}

#[test]
fn what_was_learnt_of_a_version_outlives_its_absence_from_memory() {
    let mut bench = Bench::new();
    bench.all_come((0..6).map(|_| Bad(7)));
    assert_eq!(bench.loads, 1);
    // It had to go for the version before, and came back.
    let random = bench.trial.wants(&digest(2), Timestamp(9)).unwrap();
    for _ in 0..1_000 {
        let input = Input::new(decoded(2, 7, 2), &random);
        let failed = bench.trial.failed(
            &digest(2),
            Timestamp(9),
            Failure::Internal,
            input,
            bench.now,
        );
        assert!(failed.is_none());
    }
}

#[test]
fn runs_that_failed_for_memory_or_for_the_caller_say_nothing() {
    let text = |text: &str| text.to_owned();
    for (error, failure) in [
        (
            EngineError::Run(text("a node gave up")),
            Some(Failure::Internal),
        ),
        (
            EngineError::Node(text("index out of bounds")),
            Some(Failure::Refused),
        ),
        (
            EngineError::Panicked(text("at 0x1")),
            Some(Failure::Internal),
        ),
        (EngineError::Input(text("a dimension")), None),
        (EngineError::Cancelled, None),
        (EngineError::Thread(text("none")), None),
        (
            EngineError::Memory(OutOfMemory {
                requested: Some(8),
                limit: None,
            }),
            None,
        ),
    ] {
        assert_eq!(Failure::of(&error), failure, "{error:?}");
    }
}

fn request(kinds: &'static [fn(u32) -> Request]) -> impl Strategy<Value = Request> {
    (prop::sample::select(kinds), 0..50_u32).prop_map(|(kind, number)| kind(number))
}

fn requests(kinds: &'static [fn(u32) -> Request]) -> impl Strategy<Value = Vec<(Request, u64)>> {
    prop::collection::vec((request(kinds), 0..20_000_u64), 0..500)
}

proptest! {
    /// Whatever is sent that fails on both versions, with good requests between, the version stays.
    #[test]
    fn requests_that_fail_on_both_versions_never_roll_back(
        requests in requests(&[|_| Good, Bad, |_| Large, Bad]),
        in_place in any::<bool>(),
        is_internal in any::<bool>(),
    ) {
        let mut bench = Bench::new();
        // In place, inputs that cannot be compared are 500s like others.
        bench.in_place = in_place;
        bench.failure = if is_internal { Failure::Internal } else { Failure::Refused };
        for (request, pause) in requests {
            if in_place && request == Large {
                continue;
            }
            bench.passes(Duration::from_millis(pause));
            bench.comes(request);
        }
        prop_assert!(!bench.is_rolled_back);
    }

    /// A version that answers nothing of what the one before answered is rolled back, whatever comes between.
    #[test]
    fn a_version_that_fails_on_all_former_inputs_is_always_rolled_back(
        requests in requests(&[Bad, |_| Large, Breaks, Breaks]),
        is_internal in any::<bool>(),
    ) {
        let mut bench = Bench::new();
        bench.failure = if is_internal { Failure::Internal } else { Failure::Refused };
        for (request, pause) in requests {
            bench.passes(Duration::from_millis(pause));
            bench.comes(request);
        }
        // In the end there is always a caller.
        for number in 0..10_000 {
            bench.passes(Duration::from_secs(60));
            bench.comes(Breaks(number));
        }
        prop_assert!(bench.is_rolled_back);
    }

    /// A version is not rolled back for fewer failures that count than successes.
    #[test]
    fn a_version_that_answers_most_former_inputs_is_never_rolled_back(
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..100),
    ) {
        let mut bench = Bench::new();
        bench.all_come([Good; 6]);
        for (number, index) in (0..).zip(order) {
            bench.comes(if index.index(3) == 0 { Breaks(number) } else { Good });
            bench.comes(Good);
        }
        prop_assert!(!bench.is_rolled_back);
        prop_assert_eq!(bench.loads, 0);
    }
}
