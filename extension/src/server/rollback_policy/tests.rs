//! Versions that fail, callers that make any version fail, and both. The test acts as the reloader.

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::engine::OutOfMemory;
use crate::protocol::Decoded;
use crate::rollback::{FailedInput, Replayed};
use crate::tensor::{Tensor, Value};

/// Request, by its result on each version. The number identifies the input.
#[derive(Clone, Copy, Debug, PartialEq)]
enum TestRequest {
    /// Succeeds on both versions.
    Good,
    /// Fails on the active version only.
    Breaks(u32),
    /// Fails on both versions.
    Bad(u32),
    /// Fails on both versions, with an input that is too large for the sample.
    Large,
}
use TestRequest::{Bad, Breaks, Good, Large};

/// Model whose version 2 has just become active, and its reloader.
struct PolicyBench {
    policy: RollbackPolicy,
    now: Timestamp,
    version: u64,
    /// Memory does not hold both versions.
    in_place: bool,
    failure: FailureKind,
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

/// Returns the result of an input on the previous version.
fn replayed(input: &FailedInput) -> Replayed {
    if input.inputs == decoded(1, second(input), 2).inputs {
        Replayed::Succeeded
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

impl PolicyBench {
    fn new() -> Self {
        let mut bench = Self {
            policy: RollbackPolicy::default(),
            now: Timestamp(1_000_000),
            version: 1,
            in_place: false,
            failure: FailureKind::Internal,
            loads: 0,
            is_rolled_back: false,
        };
        for _ in 0..30 {
            bench.handle(Good);
        }
        bench.version = 2;
        bench
    }

    fn passes(&mut self, time: Duration) {
        self.now = Timestamp(self.now.0 + u64::try_from(time.as_millis()).unwrap());
    }

    fn handle(&mut self, request: TestRequest) {
        let (digest, loaded_at) = (digest(self.version), Timestamp(self.version));
        let request = match request {
            Good => return self.policy.run_succeeded(&digest, loaded_at),
            Breaks(number) => decoded(1, number, 2),
            Bad(number) => decoded(2, number, 2),
            Large => decoded(2, 0, 200_000),
        };
        let Some(key) = self.policy.fingerprint_key(&digest, loaded_at) else {
            return;
        };
        let input = FingerprintedInput::new(request, &key);
        let (failure, now) = (self.failure, self.now);
        if let Some(evidence) = self
            .policy
            .run_failed(&digest, loaded_at, failure, input, now)
        {
            let (sender, receiver) = oneshot::channel();
            self.policy.requested(receiver, now);
            let _ = sender.send(self.reload(&evidence));
        }
    }

    fn reload(&mut self, evidence: &Evidence) -> RollbackOutcome {
        if !evidence.suffices(self.in_place) {
            return RollbackOutcome::InsufficientEvidence;
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

    fn handle_all(&mut self, requests: impl IntoIterator<Item = TestRequest>) {
        for request in requests {
            self.handle(request);
        }
    }
}

#[test]
fn a_version_that_always_fails_is_rolled_back_at_its_sixth_run_whatever_the_failure() {
    for failure in [FailureKind::Internal, FailureKind::Node] {
        for same in [true, false] {
            let mut bench = PolicyBench::new();
            bench.failure = failure;
            for number in 0..6 {
                assert!(!bench.is_rolled_back, "{number}");
                bench.handle(Breaks(if same { 0 } else { number }));
            }
            assert!(bench.is_rolled_back);
            assert_eq!(bench.loads, 1);
        }
    }
}

#[test]
fn requests_that_fail_on_both_versions_never_roll_back_however_many_come() {
    for failure in [FailureKind::Internal, FailureKind::Node] {
        let mut bench = PolicyBench::new();
        bench.failure = failure;
        bench.handle_all([Good; 4]);
        for number in 0..100_000 {
            bench.passes(Duration::from_millis(10));
            bench.handle(Bad(number));
        }
        assert!(!bench.is_rolled_back);
        // 17 minutes: loads become rare.
        assert!((2..=9).contains(&bench.loads), "{}", bench.loads);
    }
}

#[test]
fn the_same_bad_request_causes_one_load() {
    let mut bench = PolicyBench::new();
    for _ in 0..10_000 {
        bench.passes(Duration::from_secs(1));
        bench.handle(Bad(7));
    }
    assert!(!bench.is_rolled_back);
    assert_eq!(bench.loads, 1);
}

#[test]
fn a_stricter_version_stays() {
    // Three requests, and then a caller that exploits them.
    let mut bench = PolicyBench::new();
    bench.handle_all([Good; 4]);
    bench.handle_all((0..3).map(Breaks));
    bench.handle_all((0..10_000).map(Bad));
    assert!(!bench.is_rolled_back);
    // Every second request is one that only the new version rejects.
    let mut bench = PolicyBench::new();
    for number in 0..200 {
        bench.handle(if number % 2 == 0 {
            Good
        } else {
            Breaks(number)
        });
    }
    assert!(!bench.is_rolled_back);
    assert_eq!(bench.loads, 0, "half is not a majority");
}

#[test]
fn bad_requests_do_not_prevent_a_rollback() {
    for bad_before in [3, 6, 50, 1_000] {
        let mut bench = PolicyBench::new();
        bench.handle_all((0..bad_before).map(Bad));
        assert!(!bench.is_rolled_back);
        bench.passes(MAX_REQUEST_INTERVAL);
        for number in 0..10_000 {
            bench.passes(Duration::from_secs(1));
            bench.handle(Breaks(number));
        }
        assert!(bench.is_rolled_back, "{bad_before}");
    }
    // Nor while they arrive all the time.
    let mut bench = PolicyBench::new();
    for number in 0..20_000 {
        bench.passes(Duration::from_secs(1));
        bench.handle_all([Bad(number), Breaks(number), Bad(number + 100_000)]);
    }
    assert!(bench.is_rolled_back);
}

#[test]
fn inputs_that_are_too_large_for_the_sample_cause_no_rollback() {
    let mut bench = PolicyBench::new();
    for _ in 0..300 {
        bench.passes(Duration::from_secs(60));
        bench.handle(Large);
    }
    assert!(!bench.is_rolled_back);
    assert_eq!(bench.loads, 0);
    bench.handle_all([Breaks(1)]);
    assert!(!bench.is_rolled_back);
}

#[test]
fn without_memory_for_both_versions_a_clear_majority_of_500s_is_required() {
    let mut bench = PolicyBench::new();
    bench.in_place = true;
    bench.failure = FailureKind::Node;
    bench.handle_all((0..1_000).map(Breaks));
    assert_eq!(bench.loads, 0);
    bench.failure = FailureKind::Internal;
    bench.handle_all((0..29).map(Breaks));
    assert!(!bench.is_rolled_back);
    bench.handle(Breaks(29));
    assert!(bench.is_rolled_back, "the thirtieth");
    // Also with inputs that cannot be replayed.
    let mut bench = PolicyBench::new();
    bench.in_place = true;
    bench.handle_all([Good; 10]);
    bench.handle_all([Large; 30]);
    assert!(!bench.is_rolled_back);
    bench.handle(Large);
    assert!(bench.is_rolled_back);
}

#[test]
fn in_place_requests_that_fail_on_both_versions_never_roll_back() {
    let mut bench = PolicyBench::new();
    bench.in_place = true;
    for number in 0..10_000 {
        bench.passes(Duration::from_millis(100));
        bench.handle(Bad(number));
    }
    assert!(!bench.is_rolled_back);
    // 17 minutes, and requests wait during each load.
    assert!(bench.loads <= 9, "{}", bench.loads);
}

#[test]
fn a_trial_ends_after_enough_successful_runs() {
    let mut bench = PolicyBench::new();
    bench.handle_all([Good; 100]);
    bench.handle_all((0..10_000).map(Breaks));
    assert_eq!(bench.loads, 0);
    assert!(
        bench
            .policy
            .fingerprint_key(&digest(2), Timestamp(2))
            .is_none()
    );
}

#[test]
fn an_undelivered_request_is_repeated_and_a_pending_one_is_not() {
    let mut policy = RollbackPolicy::default();
    let (version, now) = (digest(1), Timestamp(0));
    let fails = |policy: &mut RollbackPolicy| {
        let key = policy.fingerprint_key(&version, now).unwrap();
        let input = FingerprintedInput::new(decoded(1, 1, 2), &key);
        policy.run_failed(&version, now, FailureKind::Internal, input, now)
    };
    for _ in 0..5 {
        assert!(fails(&mut policy).is_none());
    }
    assert!(fails(&mut policy).is_some());
    assert_eq!(fails(&mut policy).unwrap().inputs.len(), 3);
    let (sender, receiver) = oneshot::channel();
    policy.requested(receiver, now);
    let fails_again = |policy: &mut RollbackPolicy| (0..1_000).any(|_| fails(policy).is_some());
    assert!(!fails_again(&mut policy), "a request is pending");
    // No other version exists.
    let outcome = RollbackOutcome::Unavailable { may_retry: false };
    sender.send(outcome).unwrap();
    assert!(!fails_again(&mut policy), "no rollback is possible");
}

#[test]
fn failures_during_the_load_of_the_previous_version_are_recognized_too() {
    let mut policy = RollbackPolicy::default();
    let (version, now) = (digest(1), Timestamp(0));
    let key = policy.fingerprint_key(&version, now).unwrap();
    let fails = |policy: &mut RollbackPolicy, number, now| {
        let input = FingerprintedInput::new(decoded(2, number, 2), &key);
        policy.run_failed(&version, Timestamp(0), FailureKind::Internal, input, now)
    };
    let evidence = (0..6).find_map(|_| fails(&mut policy, 7, now)).unwrap();
    let (sender, receiver) = oneshot::channel();
    policy.requested(receiver, now);
    for _ in 0..1_000 {
        fails(&mut policy, 7, now);
    }
    let replayed = evidence.inputs.iter().map(|input| replayed(input));
    let outcome = RollbackOutcome::Kept(replayed.collect());
    sender.send(outcome).unwrap();
    let later = Timestamp(1_000_000_000);
    for number in 100..103 {
        assert!(fails(&mut policy, number, later).is_none(), "too few");
    }
}

#[test]
fn a_request_without_an_outcome_is_repeated_later() {
    let mut bench = PolicyBench::new();
    let (version, loaded_at, now) = (digest(2), Timestamp(2), bench.now);
    let key = bench.policy.fingerprint_key(&version, loaded_at).unwrap();
    for _ in 0..6 {
        let input = FingerprintedInput::new(decoded(1, 1, 2), &key);
        let failed =
            bench
                .policy
                .run_failed(&version, loaded_at, FailureKind::Internal, input, now);
        if failed.is_some() {
            // The sender is dropped without an outcome.
            bench.policy.requested(oneshot::channel().1, now);
        }
    }
    bench.handle_all((0..100).map(Breaks));
    assert!(!bench.is_rolled_back, "too early");
    bench.passes(MIN_REQUEST_INTERVAL);
    bench.handle(Breaks(0));
    assert!(bench.is_rolled_back);
}

#[test]
fn a_version_that_becomes_active_again_is_on_trial_again_and_late_runs_do_not_count() {
    let mut bench = PolicyBench::new();
    bench.handle_all((0..6).map(Breaks));
    assert!(bench.is_rolled_back);
    // Version 1 is loaded again, and requests on version 2 end.
    let again = Timestamp(3);
    bench.policy.run_succeeded(&digest(1), again);
    assert!(
        bench
            .policy
            .fingerprint_key(&digest(2), Timestamp(2))
            .is_none()
    );
    assert!(bench.policy.fingerprint_key(&digest(1), again).is_some());
}

#[test]
fn a_trial_survives_a_reload_of_its_version() {
    let mut bench = PolicyBench::new();
    bench.handle_all((0..6).map(|_| Bad(7)));
    assert_eq!(bench.loads, 1);
    // Unloaded for the previous version, and loaded again.
    let key = bench
        .policy
        .fingerprint_key(&digest(2), Timestamp(9))
        .unwrap();
    for _ in 0..1_000 {
        let input = FingerprintedInput::new(decoded(2, 7, 2), &key);
        let failed = bench.policy.run_failed(
            &digest(2),
            Timestamp(9),
            FailureKind::Internal,
            input,
            bench.now,
        );
        assert!(failed.is_none());
    }
}

#[test]
fn failures_for_lack_of_memory_or_by_the_caller_do_not_count() {
    let text = |text: &str| text.to_owned();
    for (error, failure) in [
        (
            EngineError::Run(text("a node gave up")),
            Some(FailureKind::Internal),
        ),
        (
            EngineError::Node(text("index out of bounds")),
            Some(FailureKind::Node),
        ),
        (
            EngineError::Panicked(text("at 0x1")),
            Some(FailureKind::Internal),
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
        assert_eq!(FailureKind::of(&error), failure, "{error:?}");
    }
}

fn request(kinds: &'static [fn(u32) -> TestRequest]) -> impl Strategy<Value = TestRequest> {
    (prop::sample::select(kinds), 0..50_u32).prop_map(|(kind, number)| kind(number))
}

fn requests(
    kinds: &'static [fn(u32) -> TestRequest],
) -> impl Strategy<Value = Vec<(TestRequest, u64)>> {
    prop::collection::vec((request(kinds), 0..20_000_u64), 0..500)
}

proptest! {
    /// Requests that fail on both versions, mixed with good requests, never cause a rollback.
    #[test]
    fn requests_that_fail_on_both_versions_never_roll_back(
        requests in requests(&[|_| Good, Bad, |_| Large, Bad]),
        in_place in any::<bool>(),
        is_internal in any::<bool>(),
    ) {
        let mut bench = PolicyBench::new();
        // In place, inputs that cannot be replayed count as 500s.
        bench.in_place = in_place;
        bench.failure = if is_internal { FailureKind::Internal } else { FailureKind::Node };
        for (request, pause) in requests {
            if in_place && request == Large {
                continue;
            }
            bench.passes(Duration::from_millis(pause));
            bench.handle(request);
        }
        prop_assert!(!bench.is_rolled_back);
    }

    /// A version that fails on all inputs that the previous version accepts is rolled back, whatever else arrives.
    #[test]
    fn a_version_that_fails_on_all_former_inputs_is_always_rolled_back(
        requests in requests(&[Bad, |_| Large, Breaks, Breaks]),
        is_internal in any::<bool>(),
    ) {
        let mut bench = PolicyBench::new();
        bench.failure = if is_internal { FailureKind::Internal } else { FailureKind::Node };
        for (request, pause) in requests {
            bench.passes(Duration::from_millis(pause));
            bench.handle(request);
        }
        // Later requests decide.
        for number in 0..10_000 {
            bench.passes(Duration::from_secs(60));
            bench.handle(Breaks(number));
        }
        prop_assert!(bench.is_rolled_back);
    }

    /// A version is not rolled back while fewer failures count than runs succeed.
    #[test]
    fn a_version_that_succeeds_on_most_former_inputs_is_never_rolled_back(
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..100),
    ) {
        let mut bench = PolicyBench::new();
        bench.handle_all([Good; 6]);
        for (number, index) in (0..).zip(order) {
            bench.handle(if index.index(3) == 0 { Breaks(number) } else { Good });
            bench.handle(Good);
        }
        prop_assert!(!bench.is_rolled_back);
        prop_assert_eq!(bench.loads, 0);
    }
}
