//! Tests of the account with a simulated process and environment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::sys::MemoryProbe;

const MB: usize = 1024 * 1024;

/// A simulated environment: its free memory, and the memory of the process.
#[derive(Clone, Default)]
struct FakeEnvironment {
    free: Arc<AtomicU64>,
    own: Arc<AtomicU64>,
}

impl FakeEnvironment {
    fn new(free: usize, own: usize) -> Self {
        let environment = Self::default();
        environment.set(free, own);
        environment
    }

    fn set(&self, free: usize, own: usize) {
        self.free.store(free as u64, Ordering::Relaxed);
        self.own.store(own as u64, Ordering::Relaxed);
    }

    fn account(&self) -> Arc<Account> {
        Arc::new(Account::new(None, Some(512), Box::new(self.clone())))
    }
}

impl MemoryProbe for FakeEnvironment {
    fn free(&self) -> Option<u64> {
        Some(self.free.load(Ordering::Relaxed))
    }

    fn own(&self) -> Option<u64> {
        Some(self.own.load(Ordering::Relaxed))
    }
}

fn fixed(bytes: usize) -> Arc<Account> {
    let nothing = FakeEnvironment::default();
    Arc::new(Account::new(Some(bytes), None, Box::new(nothing)))
}

fn over(stopped: Stopped) -> OverBudget {
    match stopped {
        Stopped::OverBudget(over) => over,
        Stopped::Cancelled => panic!("the request was cancelled"),
    }
}

#[test]
fn charges_share_one_account_and_give_their_memory_back() {
    let account = fixed(10 * MB);
    let mut first = Charge::new(&account);
    first.grow(6 * MB).unwrap();
    let mut second = Charge::new(&account);
    let rejected = over(second.grow(5 * MB).unwrap_err());
    assert!(matches!(rejected.over, Over::Now { .. }), "{rejected}");
    assert_eq!(second.used(), 0, "a rejected growth changes nothing");
    second.grow(3 * MB).unwrap();
    first.shrink(5 * MB);
    first.settle();
    second.grow(5 * MB).unwrap();
    drop((first, second));
    assert_eq!(account.held(), 0);
    // Charges hold their memory in steps.
    let peak = account.take_peak();
    assert!((9 * MB..=10 * MB).contains(&peak), "{peak}");
    assert_eq!(account.take_peak(), 0);
}

#[test]
fn memory_that_a_request_has_freed_is_no_growth_by_the_next_run() {
    let environment = FakeEnvironment::new(400 * MB, 100 * MB);
    let account = environment.account();
    account.forget_growth();
    let mut charge = Charge::new(&account);
    charge.grow(20 * MB).unwrap();
    environment.set(380 * MB, 120 * MB);
    assert_eq!(account.growth(), 0);
    // The allocator keeps the memory.
    drop(charge);
    assert_eq!(account.growth(), 0);
    environment.set(370 * MB, 130 * MB);
    assert_eq!(account.growth(), 10 * MB as u64);
}

#[test]
fn the_error_of_a_request_that_never_fits_names_the_numbers_and_the_setting() {
    let mut charge = Charge::new(&fixed(10 * MB));
    charge.grow(4 * MB).unwrap();
    let rejected = over(charge.grow(7 * MB).unwrap_err());
    assert_eq!(
        rejected.to_string(),
        "cannot accept the request: it needs at least 11.0 MB of memory; all requests together may use 10.0 MB, \
         as set by MODEL_REQUEST_MEMORY_MB"
    );
    let mut charge = Charge::new(&FakeEnvironment::new(100 * MB, 30 * MB).account());
    let rejected = over(charge.grow(200 * MB).unwrap_err()).to_string();
    for words in [
        "200.0 MB",
        "may use 85.8 MB",
        "memory size of 512 MB",
        "MODEL_REQUEST_MEMORY_MB",
    ] {
        assert!(rejected.contains(words), "{rejected}");
    }
}

#[test]
fn allocated_memory_of_requests_is_not_counted_twice() {
    let environment = FakeEnvironment::new(100 * MB, 30 * MB);
    let account = environment.account();
    let mut first = Charge::new(&account);
    first.grow(50 * MB).unwrap();
    // The request allocates its memory.
    environment.set(50 * MB, 80 * MB);
    let mut second = Charge::new(&account);
    second.grow(30 * MB).unwrap();
    let rejected = over(second.grow(10 * MB).unwrap_err());
    assert!(matches!(rejected.over, Over::Now { .. }), "{rejected}");
    // The function allocates as much.
    environment.set(10 * MB, 80 * MB);
    second.shrink(30 * MB);
    second.settle();
    assert!(account.left_for_load().unwrap() <= 10 * MB as u64);
    let mut third = Charge::new(&account);
    third.grow(20 * MB).unwrap_err();
}

#[test]
fn loads_and_requests_reduce_each_others_memory() {
    let environment = FakeEnvironment::new(200 * MB, 30 * MB);
    let account = environment.account();
    assert_eq!(account.left_for_load(), Some(200 * MB as u64));
    let mut request = Charge::new(&account);
    request.grow(50 * MB).unwrap();
    assert_eq!(account.most_for_load(), Some(200 * MB as u64));
    let left = account.left_for_load().unwrap();
    assert!(left <= 150 * MB as u64, "{left}");
    // The request allocates its memory.
    environment.set(150 * MB, 80 * MB);
    assert!(account.left_for_load().unwrap() >= left);
    assert_eq!(account.most_for_load(), Some(200 * MB as u64));

    let load = account.load(120 * MB as u64);
    let rejected = over(Charge::new(&account).grow(40 * MB).unwrap_err());
    assert!(matches!(rejected.over, Over::Now { .. }), "{rejected}");
    // The load ends, and its memory remains allocated.
    environment.set(30 * MB, 200 * MB);
    drop(load);
    let mut other = Charge::new(&account);
    let rejected = over(other.grow(130 * MB).unwrap_err());
    assert!(matches!(rejected.over, Over::Always { .. }), "{rejected}");
    drop(request);
    environment.set(80 * MB, 150 * MB);
    Charge::new(&account).grow(60 * MB).unwrap();
}

#[test]
fn a_cancelled_charge_stops_its_work() {
    let cancelled = Arc::new(AtomicBool::new(false));
    let mut charge = Charge::new(&fixed(MB)).cancelled_by(Arc::clone(&cancelled));
    charge.grow(10).unwrap();
    cancelled.store(true, Ordering::Relaxed);
    assert_eq!(charge.check(), Err(Stopped::Cancelled));
    assert_eq!(charge.grow(1), Err(Stopped::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_fit_now_waits_for_another_to_end() {
    let account = fixed(10 * MB);
    let mut first = Charge::new(&account);
    first.wait_for(8 * MB, 8 * MB).await.unwrap();
    let mut second = Charge::new(&account);
    let wait = second.wait_for(4 * MB, 50 * MB);
    tokio::pin!(wait);
    let waited = tokio::time::timeout(Duration::from_secs(5), &mut wait).await;
    assert!(waited.is_err(), "the request did not wait");
    drop(first);
    wait.await.unwrap();
    assert_eq!(account.held(), 10 * MB, "the whole budget");
    let mut third = Charge::new(&account);
    let rejected = over(third.wait_for(11 * MB, 11 * MB).await.unwrap_err());
    assert!(matches!(rejected.over, Over::Always { .. }), "{rejected}");
}

#[test]
fn small_charges_do_not_use_the_account() {
    let account = fixed(0);
    let mut charges: Vec<Charge> = (0..256).map(|_| Charge::new(&account)).collect();
    for charge in &mut charges {
        charge.grow(FREE).unwrap();
    }
    assert_eq!(account.held(), 0);
    charges[0].grow(1).unwrap_err();
}

/// Returns the size in MB of the largest body that a function of `size_mb` accepts, if each byte becomes `tensors`
/// bytes of tensors. The sidecar, the function and a small model take 65 MB.
async fn accepted(size_mb: usize, tensors: f64, is_binary: bool) -> usize {
    const TAKEN: usize = 65 * MB;
    const MAX_BODY: usize = 64;
    let mut most = 0;
    for mb in 1..=MAX_BODY {
        let environment = FakeEnvironment::new(size_mb * MB - TAKEN, 30 * MB);
        let mut charge = Charge::new(&environment.account());
        let body = mb * MB;
        let expected = expected_bytes(body, is_binary.then_some(body), false);
        if charge.wait_for(body, expected).await.is_err() {
            break;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a few MB"
        )]
        let decoded = (body as f64 * tensors) as usize;
        if charge.grow(decoded).is_err() {
            break;
        }
        most = mb;
    }
    most
}

#[tokio::test]
async fn functions_of_each_size_accept_bodies_of_these_sizes() {
    // Numbers of one digit, of nine digits, and binary tensors.
    let table = [
        (128, [17, 36, 51]),
        (256, [57, 64, 64]),
        (512, [64, 64, 64]),
        (1_024, [64, 64, 64]),
        (1_769, [64, 64, 64]),
    ];
    for (size, expected) in table {
        let found = [
            accepted(size, 2.0, false).await,
            accepted(size, 0.4, false).await,
            accepted(size, 0.0, true).await,
        ];
        assert_eq!(found, expected, "{size} MB");
        // Lambda accepts payloads of up to 6 MB.
        assert!(found.iter().all(|mb| *mb >= 6));
    }
}

#[test]
fn ordinary_requests_are_accepted_with_little_memory() {
    for left in [0, 1, 4, 8, 16] {
        let account = FakeEnvironment::new(left * MB, 30 * MB).account();
        Charge::new(&account).grow(512 * 1024).unwrap();
    }
    assert_eq!(requests_share(16 * MB as u64), 11 * MB);
}
