use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Work of a kind; only work of the same kind can be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FakeWork {
    kind: char,
    rows: Option<usize>,
    /// Time until which the work waits for others.
    until: Option<Instant>,
}

impl QueuedWork for FakeWork {
    fn rows(&self) -> Option<usize> {
        self.rows
    }

    fn can_join(&self, other: &Self) -> bool {
        self.kind == other.kind
    }

    fn batch_until(&self) -> Instant {
        self.until
            .unwrap_or_else(|| Instant::now() + 1_000 * SECOND)
    }
}

fn one(kind: char) -> FakeWork {
    FakeWork {
        kind,
        rows: Some(1),
        until: None,
    }
}

fn queue(runs: usize, places: usize, batching: Option<(usize, Duration)>) -> Queue<FakeWork> {
    Queue::new(ExecutorLimits {
        runs,
        queue: places,
        batch: batching.map(|(rows, delay)| Batching { rows, delay }),
    })
}

fn run(queue: &mut Queue<FakeWork>, now: Instant) -> Option<Batch<FakeWork>> {
    match queue.next(now) {
        NextStep::Run(batch) => Some(batch),
        _ => None,
    }
}

fn kinds(batch: &Batch<FakeWork>) -> String {
    batch.members.iter().map(|one| one.work.kind).collect()
}

#[test]
fn batches_run_in_order_up_to_the_concurrency() {
    let (mut queue, now) = (queue(2, 10, None), Instant::now());
    for kind in ['a', 'b', 'c'] {
        queue.enqueue(one(kind), now).unwrap();
    }
    let first = run(&mut queue, now).unwrap();
    let second = run(&mut queue, now).unwrap();
    assert_eq!(
        (kinds(&first).as_str(), kinds(&second).as_str()),
        ("a", "b")
    );
    assert!(run(&mut queue, now).is_none());
    queue.finish(second.leader());
    assert_eq!(kinds(&run(&mut queue, now).unwrap()), "c");
    assert!(!first.cancel.is_cancelled());
}

#[test]
fn the_peak_is_the_most_requests_without_a_run_slot() {
    let (mut queue, now) = (queue(2, 10, None), Instant::now());
    queue.enqueue(one('a'), now).unwrap();
    queue.enqueue(one('a'), now).unwrap();
    assert_eq!(queue.take_peak(), None);
    let first = run(&mut queue, now).unwrap();
    for _ in 0..3 {
        queue.enqueue(one('a'), now).unwrap();
    }
    queue.finish(first.leader());
    run(&mut queue, now).unwrap();
    assert_eq!(queue.take_peak(), Some(3));
    assert_eq!(queue.take_peak(), Some(2), "two still wait");
    let third = run(&mut queue, now).unwrap();
    queue.finish(third.leader());
    assert_eq!(queue.take_peak(), Some(2));
}

#[test]
fn a_full_queue_rejects_work_until_a_place_is_free() {
    let (mut queue, now) = (queue(1, 2, None), Instant::now());
    let tickets: Vec<Ticket> = (0..3)
        .map(|_| queue.enqueue(one('a'), now).unwrap())
        .collect();
    // One of the three has a run slot, taken or not.
    assert_eq!(queue.enqueue(one('a'), now), Err(QueueFull));
    let batch = run(&mut queue, now).unwrap();
    assert_eq!(queue.enqueue(one('a'), now), Err(QueueFull));
    queue.cancel(tickets[1]);
    queue.enqueue(one('b'), now).unwrap();
    assert_eq!(queue.enqueue(one('a'), now), Err(QueueFull));
    queue.finish(batch.leader());
    queue.enqueue(one('c'), now).unwrap();
    let order = std::iter::from_fn(|| {
        let batch = run(&mut queue, now)?;
        queue.finish(batch.leader());
        Some(kinds(&batch))
    });
    assert_eq!(order.collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn without_a_queue_only_running_work_is_accepted() {
    let (mut queue, now) = (queue(1, 0, None), Instant::now());
    queue.enqueue(one('a'), now).unwrap();
    assert_eq!(queue.enqueue(one('b'), now), Err(QueueFull));
}

#[test]
fn an_abandoned_run_is_cancelled_and_releases_its_slot_up_to_the_limit() {
    let (mut queue, now) = (queue(1, 10, None), Instant::now());
    let tickets: Vec<Ticket> = ['a', 'b', 'c']
        .map(|kind| queue.enqueue(one(kind), now).unwrap())
        .to_vec();
    let first = run(&mut queue, now).unwrap();
    queue.cancel(tickets[0]);
    assert!(first.cancel.is_cancelled());
    let second = run(&mut queue, now).unwrap();
    assert_eq!(kinds(&second), "b");
    queue.cancel(tickets[1]);
    assert!(second.cancel.is_cancelled());
    assert!(run(&mut queue, now).is_none(), "two have not ended yet");
    queue.finish(second.leader());
    assert_eq!(kinds(&run(&mut queue, now).unwrap()), "c");
}

#[test]
fn work_of_one_kind_is_batched_in_order_up_to_the_maximum_rows() {
    let (mut queue, now) = (queue(9, 20, Some((3, Duration::ZERO))), Instant::now());
    for kind in "abacaba".chars() {
        queue.enqueue(one(kind), now).unwrap();
    }
    let groups = std::iter::from_fn(|| run(&mut queue, now).map(|batch| kinds(&batch)));
    assert_eq!(groups.collect::<Vec<_>>(), ["aaa", "bb", "c", "a"]);

    let rows = |rows| FakeWork {
        kind: 'a',
        rows: Some(rows),
        until: None,
    };
    for work in [rows(2), rows(2), rows(1), rows(5), rows(1)] {
        queue.enqueue(work, now).unwrap();
    }
    let sizes = std::iter::from_fn(|| {
        let batch = run(&mut queue, now)?;
        let rows = batch.members.iter().map(|one| one.work.rows.unwrap());
        Some(rows.collect::<Vec<_>>())
    });
    // No work overtakes earlier work of its kind, and work that exceeds the maximum runs alone.
    assert_eq!(
        sizes.collect::<Vec<_>>(),
        [vec![2], vec![2, 1], vec![5], vec![1]]
    );
}

#[test]
fn work_waits_for_a_batch_until_the_delay_ends_or_the_batch_is_full() {
    let (mut queue, now) = (queue(2, 20, Some((2, SECOND))), Instant::now());
    queue.enqueue(one('a'), now).unwrap();
    let later = now + SECOND / 2;
    queue.enqueue(one('b'), later).unwrap();
    let next = queue.next(later);
    assert!(matches!(next, NextStep::WaitUntil(time) if time == now + SECOND));
    queue.enqueue(one('b'), later).unwrap();
    assert_eq!(kinds(&run(&mut queue, later).unwrap()), "bb");
    assert_eq!(kinds(&run(&mut queue, now + SECOND).unwrap()), "a");
}

#[test]
fn work_with_an_early_deadline_runs_with_the_batch_so_far() {
    let (mut queue, now) = (queue(2, 20, Some((8, SECOND))), Instant::now());
    queue.enqueue(one('a'), now).unwrap();
    let until = Some(now + SECOND / 4);
    let hurried = FakeWork { until, ..one('a') };
    queue.enqueue(hurried, now).unwrap();
    let next = queue.next(now);
    assert!(matches!(next, NextStep::WaitUntil(time) if Some(time) == until));
    assert_eq!(kinds(&run(&mut queue, now + SECOND / 4).unwrap()), "aa");
}

#[test]
fn work_that_cannot_be_joined_does_not_wait() {
    let (mut queue, now) = (queue(2, 20, Some((8, SECOND))), Instant::now());
    queue.enqueue(one('a'), now).unwrap();
    let alone = FakeWork {
        kind: 'b',
        rows: None,
        until: None,
    };
    queue.enqueue(alone, now).unwrap();
    assert_eq!(kinds(&run(&mut queue, now).unwrap()), "b");
    assert!(run(&mut queue, now).is_none());
}

#[test]
fn a_batch_runs_while_one_member_waits_for_it() {
    let (mut queue, now) = (queue(1, 20, Some((8, Duration::ZERO))), Instant::now());
    let tickets = ['a'; 3].map(|kind| queue.enqueue(one(kind), now).unwrap());
    let batch = run(&mut queue, now).unwrap();
    queue.cancel(tickets[0]);
    queue.cancel(tickets[2]);
    assert!(!batch.cancel.is_cancelled());
    queue.cancel(tickets[1]);
    assert!(batch.cancel.is_cancelled());
}

#[test]
fn members_of_a_failed_batch_run_next_individually() {
    let (mut queue, now) = (queue(1, 20, Some((8, SECOND))), Instant::now());
    let full = |rows| FakeWork {
        kind: 'a',
        rows: Some(rows),
        until: None,
    };
    let tickets = [2, 2, 4].map(|rows| queue.enqueue(full(rows), now).unwrap());
    let batch = run(&mut queue, now).unwrap();
    assert_eq!(batch.members.len(), 3);
    queue.enqueue(one('b'), now).unwrap();
    queue.cancel(tickets[1]);
    queue.retry_individually(batch);
    for rows in [2, 4] {
        let batch = run(&mut queue, now).unwrap();
        assert_eq!(batch.members.len(), 1);
        assert_eq!(batch.members[0].work.rows, Some(rows));
        queue.finish(batch.leader());
    }
    assert!(
        run(&mut queue, now).is_none(),
        "the other work may still be joined"
    );
}

#[derive(Clone, Debug)]
enum QueueOperation {
    Enter(FakeWork),
    Leave(usize),
    NextStep,
    Time(u64),
    End(usize),
    Retry(usize),
}

fn operation() -> impl Strategy<Value = QueueOperation> {
    let rows = prop_oneof![Just(None), (1..5_usize).prop_map(Some)];
    let work = (prop_oneof![Just('a'), Just('b')], rows);
    prop_oneof![
        4 => work.prop_map(|(kind, rows)| QueueOperation::Enter(FakeWork { kind, rows, until: None })),
        1 => any::<usize>().prop_map(QueueOperation::Leave),
        4 => Just(QueueOperation::NextStep),
        1 => (0..300_u64).prop_map(QueueOperation::Time),
        2 => any::<usize>().prop_map(QueueOperation::End),
        1 => any::<usize>().prop_map(QueueOperation::Retry),
    ]
}

proptest! {
    /// Invariant: all work runs exactly once or is removed, within all limits, and the queue is empty in the end.
    #[test]
    fn all_work_runs_or_is_removed(
        operations in proptest::collection::vec(operation(), 0..200),
        runs in 1..4_usize,
        places in 0..6_usize,
        rows in 2..6_usize,
    ) {
        let mut now = Instant::now();
        let mut queue = queue(runs, places, Some((rows, Duration::from_millis(100))));
        let mut inside: Vec<Ticket> = Vec::new();
        let mut batches: Vec<Batch<FakeWork>> = Vec::new();
        let mut all = operations;
        // Enough steps for all work to end.
        all.extend(std::iter::repeat_n([QueueOperation::Time(100), QueueOperation::NextStep, QueueOperation::End(0)], 400).flatten());
        for operation in all {
            match operation {
                QueueOperation::Enter(work) => match queue.enqueue(work, now) {
                    Ok(ticket) => inside.push(ticket),
                    Err(QueueFull) => prop_assert!(inside.len() >= places),
                },
                QueueOperation::Leave(which) if !inside.is_empty() => {
                    let ticket = inside.swap_remove(which % inside.len());
                    queue.cancel(ticket);
                }
                QueueOperation::NextStep => match queue.next(now) {
                    NextStep::Run(batch) => {
                        let members = &batch.members;
                        let total: usize = members.iter().filter_map(QueuedRequest::rows).sum();
                        prop_assert!(members.len() == 1 || total <= rows);
                        prop_assert!(members.windows(2).all(|two| two[0].can_join(&two[1])));
                        for member in members {
                            prop_assert!(inside.contains(&member.ticket));
                            let elsewhere = batches.iter().flat_map(|batch| &batch.members);
                            let ticket = member.ticket;
                            prop_assert!(elsewhere.into_iter().all(|other| other.ticket != ticket));
                        }
                        batches.push(batch);
                        prop_assert!(batches.len() <= 2 * runs);
                        let wanted = batches.iter().filter(|batch| !batch.cancel.is_cancelled());
                        prop_assert!(wanted.count() <= runs);
                    }
                    NextStep::WaitUntil(time) => prop_assert!(time > now),
                    NextStep::Idle => prop_assert!(!queue.has_runnable()),
                },
                QueueOperation::Time(ms) => now += Duration::from_millis(ms),
                QueueOperation::End(which) if !batches.is_empty() => {
                    let batch = batches.swap_remove(which % batches.len());
                    queue.finish(batch.leader());
                    inside.retain(|one| batch.members.iter().all(|member| member.ticket != *one));
                }
                QueueOperation::Retry(which) if !batches.is_empty() => {
                    let batch = batches.swap_remove(which % batches.len());
                    queue.retry_individually(batch);
                }
                _ => {}
            }
        }
        prop_assert!(inside.is_empty() && batches.is_empty());
        prop_assert!(matches!(queue.next(now), NextStep::Idle));
    }
}
