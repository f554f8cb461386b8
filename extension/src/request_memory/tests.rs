//! The account, with a process and an environment of the test's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::sys::MemoryProbe;

const MB: usize = 1024 * 1024;

/// An environment that has so much left, and a process that has taken so much of it.
#[derive(Clone, Default)]
struct Environment {
    free: Arc<AtomicU64>,
    own: Arc<AtomicU64>,
}

impl Environment {
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

impl MemoryProbe for Environment {
    fn free(&self) -> Option<u64> {
        Some(self.free.load(Ordering::Relaxed))
    }

    fn own(&self) -> Option<u64> {
        Some(self.own.load(Ordering::Relaxed))
    }
}

fn fixed(bytes: usize) -> Arc<Account> {
    let nothing = Environment::default();
    Arc::new(Account::new(Some(bytes), None, Box::new(nothing)))
}

fn over(stopped: Stopped) -> OverBudget {
    match stopped {
        Stopped::OverBudget(over) => over,
        Stopped::Cancelled => panic!("it was cancelled"),
    }
}

#[test]
fn charges_share_one_account_and_give_back_what_they_took() {
    let account = fixed(10 * MB);
    let mut first = Charge::new(&account);
    first.grow(6 * MB).unwrap();
    let mut second = Charge::new(&account);
    let refused = over(second.grow(5 * MB).unwrap_err());
    assert!(matches!(refused.over, Over::Now { .. }), "{refused}");
    assert_eq!(second.used(), 0, "a refused growth changes nothing");
    second.grow(3 * MB).unwrap();
    first.shrink(5 * MB);
    first.settle();
    second.grow(5 * MB).unwrap();
    drop((first, second));
    assert_eq!(account.held(), 0);
}

#[test]
fn a_request_that_never_fits_is_told_so_with_the_numbers_and_what_changes_them() {
    let mut charge = Charge::new(&fixed(10 * MB));
    charge.grow(4 * MB).unwrap();
    let refused = over(charge.grow(7 * MB).unwrap_err());
    assert_eq!(
        refused.to_string(),
        "cannot take the request: it needs at least 11.0 MB of memory; all requests may take 10.0 MB together; \
         MODEL_REQUEST_MEMORY_MB sets it"
    );
    let mut charge = Charge::new(&Environment::new(100 * MB, 30 * MB).account());
    let refused = over(charge.grow(200 * MB).unwrap_err()).to_string();
    for words in [
        "200.0 MB",
        "85.8 MB together",
        "memory size of 512 MB",
        "MODEL_REQUEST_MEMORY_MB",
    ] {
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn what_requests_have_filled_is_not_counted_twice() {
    let environment = Environment::new(100 * MB, 30 * MB);
    let account = environment.account();
    let mut first = Charge::new(&account);
    first.grow(50 * MB).unwrap();
    // It fills its memory.
    environment.set(50 * MB, 80 * MB);
    let mut second = Charge::new(&account);
    second.grow(30 * MB).unwrap();
    let refused = over(second.grow(10 * MB).unwrap_err());
    assert!(matches!(refused.over, Over::Now { .. }), "{refused}");
    // The function takes as much.
    environment.set(10 * MB, 80 * MB);
    second.shrink(30 * MB);
    second.settle();
    assert!(account.left_for_load().unwrap() <= 10 * MB as u64);
    let mut third = Charge::new(&account);
    third.grow(20 * MB).unwrap_err();
}

#[test]
fn a_load_leaves_less_for_requests_and_requests_leave_less_for_a_load() {
    let environment = Environment::new(200 * MB, 30 * MB);
    let account = environment.account();
    assert_eq!(account.left_for_load(), Some(200 * MB as u64));
    let mut request = Charge::new(&account);
    request.grow(50 * MB).unwrap();
    assert_eq!(account.most_for_load(), Some(200 * MB as u64));
    let left = account.left_for_load().unwrap();
    assert!(left <= 150 * MB as u64, "{left}");
    // It fills its memory.
    environment.set(150 * MB, 80 * MB);
    assert!(account.left_for_load().unwrap() >= left);
    assert_eq!(account.most_for_load(), Some(200 * MB as u64));

    let load = account.load(120 * MB as u64);
    let refused = over(Charge::new(&account).grow(40 * MB).unwrap_err());
    assert!(matches!(refused.over, Over::Now { .. }), "{refused}");
    // The load ends, and what it took stays.
    environment.set(30 * MB, 200 * MB);
    drop(load);
    let mut other = Charge::new(&account);
    let refused = over(other.grow(130 * MB).unwrap_err());
    assert!(matches!(refused.over, Over::Always { .. }), "{refused}");
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
    assert!(waited.is_err(), "it did not wait");
    drop(first);
    wait.await.unwrap();
    assert_eq!(account.held(), 10 * MB, "all that there ever is");
    let mut third = Charge::new(&account);
    let refused = over(third.wait_for(11 * MB, 11 * MB).await.unwrap_err());
    assert!(matches!(refused.over, Over::Always { .. }), "{refused}");
}

#[test]
fn small_charges_ask_nobody() {
    let account = fixed(0);
    let mut charges: Vec<Charge> = (0..256).map(|_| Charge::new(&account)).collect();
    for charge in &mut charges {
        charge.grow(FREE).unwrap();
    }
    assert_eq!(account.held(), 0);
    charges[0].grow(1).unwrap_err();
}

/// MB of a body that a function of `size_mb` takes, if it is read as so many bytes of tensors for each byte. The sidecar, the
/// function and a small model take 65 MB of it.
async fn accepted(size_mb: usize, tensors: f64, is_binary: bool) -> usize {
    const TAKEN: usize = 65 * MB;
    const MAX_BODY: usize = 64;
    let mut most = 0;
    for mb in 1..=MAX_BODY {
        let environment = Environment::new(size_mb * MB - TAKEN, 30 * MB);
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
async fn functions_of_each_size_take_bodies_of_these_sizes() {
    // Numbers of one digit, of nine digits, and tensors in binary.
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
        // Lambda itself takes 6 MB.
        assert!(found.iter().all(|mb| *mb >= 6));
    }
}

#[test]
fn ordinary_requests_are_taken_however_little_is_left() {
    for left in [0, 1, 4, 8, 16] {
        let account = Environment::new(left * MB, 30 * MB).account();
        Charge::new(&account).grow(512 * 1024).unwrap();
    }
    assert_eq!(requests_share(16 * MB as u64), 11 * MB);
}
