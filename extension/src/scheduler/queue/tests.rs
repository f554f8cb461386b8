use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Work of a kind, of which only the same kind may be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fake {
    kind: char,
    rows: Option<usize>,
    /// When it does not want to wait for others any more.
    until: Option<Instant>,
}

impl Work for Fake {
    fn rows(&self) -> Option<usize> {
        self.rows
    }

    fn joins(&self, other: &Self) -> bool {
        self.kind == other.kind
    }

    fn patient_until(&self) -> Instant {
        self.until
            .unwrap_or_else(|| Instant::now() + 1_000 * SECOND)
    }
}

fn one(kind: char) -> Fake {
    Fake {
        kind,
        rows: Some(1),
        until: None,
    }
}

fn queue(runs: usize, places: usize, batch: Option<(usize, Duration)>) -> Queue<Fake> {
    Queue::new(Limits {
        runs,
        queue: places,
        batch: batch.map(|(rows, delay)| Batching { rows, delay }),
    })
}

fn run(queue: &mut Queue<Fake>, now: Instant) -> Option<Turn<Fake>> {
    match queue.next(now) {
        Next::Run(turn) => Some(turn),
        _ => None,
    }
}

fn kinds(turn: &Turn<Fake>) -> String {
    turn.members.iter().map(|one| one.work.kind).collect()
}

#[test]
fn turns_are_given_in_order_and_no_more_than_there_are() {
    let (mut queue, now) = (queue(2, 10, None), Instant::now());
    for kind in ['a', 'b', 'c'] {
        queue.enter(one(kind), now).unwrap();
    }
    let first = run(&mut queue, now).unwrap();
    let second = run(&mut queue, now).unwrap();
    assert_eq!(
        (kinds(&first).as_str(), kinds(&second).as_str()),
        ("a", "b")
    );
    assert!(run(&mut queue, now).is_none());
    queue.ended(second.lead());
    assert_eq!(kinds(&run(&mut queue, now).unwrap()), "c");
    assert!(!first.cancel.is_cancelled());
}

#[test]
fn who_finds_no_place_is_refused_and_whoever_leaves_makes_one() {
    let (mut queue, now) = (queue(1, 2, None), Instant::now());
    let tickets: Vec<Ticket> = (0..3)
        .map(|_| queue.enter(one('a'), now).unwrap())
        .collect();
    // One of the three has a turn, taken or not.
    assert_eq!(queue.enter(one('a'), now), Err(Full));
    let turn = run(&mut queue, now).unwrap();
    assert_eq!(queue.enter(one('a'), now), Err(Full));
    queue.leave(tickets[1]);
    queue.enter(one('b'), now).unwrap();
    assert_eq!(queue.enter(one('a'), now), Err(Full));
    queue.ended(turn.lead());
    queue.enter(one('c'), now).unwrap();
    let order = std::iter::from_fn(|| {
        let turn = run(&mut queue, now)?;
        queue.ended(turn.lead());
        Some(kinds(&turn))
    });
    assert_eq!(order.collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn without_places_only_those_who_have_a_turn_are_taken() {
    let (mut queue, now) = (queue(1, 0, None), Instant::now());
    queue.enter(one('a'), now).unwrap();
    assert_eq!(queue.enter(one('b'), now), Err(Full));
}

#[test]
fn a_run_that_nobody_wants_is_stopped_and_its_turn_is_the_next_ones_but_for_a_second_stray() {
    let (mut queue, now) = (queue(1, 10, None), Instant::now());
    let tickets: Vec<Ticket> = ['a', 'b', 'c']
        .map(|kind| queue.enter(one(kind), now).unwrap())
        .to_vec();
    let first = run(&mut queue, now).unwrap();
    queue.leave(tickets[0]);
    assert!(first.cancel.is_cancelled());
    let second = run(&mut queue, now).unwrap();
    assert_eq!(kinds(&second), "b");
    queue.leave(tickets[1]);
    assert!(second.cancel.is_cancelled());
    assert!(run(&mut queue, now).is_none(), "two have not ended yet");
    queue.ended(second.lead());
    assert_eq!(kinds(&run(&mut queue, now).unwrap()), "c");
}

#[test]
fn those_of_one_kind_go_together_in_their_order_up_to_the_most_rows() {
    let (mut queue, now) = (queue(9, 20, Some((3, Duration::ZERO))), Instant::now());
    for kind in "abacaba".chars() {
        queue.enter(one(kind), now).unwrap();
    }
    let groups = std::iter::from_fn(|| run(&mut queue, now).map(|turn| kinds(&turn)));
    assert_eq!(groups.collect::<Vec<_>>(), ["aaa", "bb", "c", "a"]);

    let rows = |rows| Fake {
        kind: 'a',
        rows: Some(rows),
        until: None,
    };
    for work in [rows(2), rows(2), rows(1), rows(5), rows(1)] {
        queue.enter(work, now).unwrap();
    }
    let sizes = std::iter::from_fn(|| {
        let turn = run(&mut queue, now)?;
        let rows = turn.members.iter().map(|one| one.work.rows.unwrap());
        Some(rows.collect::<Vec<_>>())
    });
    // None overtakes one of its own kind that found no room, and one that is too large has a run all the same.
    assert_eq!(
        sizes.collect::<Vec<_>>(),
        [vec![2], vec![2, 1], vec![5], vec![1]]
    );
}

#[test]
fn who_may_be_joined_waits_for_others_until_the_delay_is_over_or_the_run_is_full() {
    let (mut queue, now) = (queue(2, 20, Some((2, SECOND))), Instant::now());
    queue.enter(one('a'), now).unwrap();
    let later = now + SECOND / 2;
    queue.enter(one('b'), later).unwrap();
    let next = queue.next(later);
    assert!(matches!(next, Next::At(time) if time == now + SECOND));
    queue.enter(one('b'), later).unwrap();
    assert_eq!(kinds(&run(&mut queue, later).unwrap()), "bb");
    assert_eq!(kinds(&run(&mut queue, now + SECOND).unwrap()), "a");
}

#[test]
fn who_has_little_time_takes_those_along_who_are_there_when_half_of_it_is_over() {
    let (mut queue, now) = (queue(2, 20, Some((8, SECOND))), Instant::now());
    queue.enter(one('a'), now).unwrap();
    let until = Some(now + SECOND / 4);
    let hurried = Fake { until, ..one('a') };
    queue.enter(hurried, now).unwrap();
    let next = queue.next(now);
    assert!(matches!(next, Next::At(time) if Some(time) == until));
    assert_eq!(kinds(&run(&mut queue, now + SECOND / 4).unwrap()), "aa");
}

#[test]
fn who_may_not_be_joined_waits_for_nobody() {
    let (mut queue, now) = (queue(2, 20, Some((8, SECOND))), Instant::now());
    queue.enter(one('a'), now).unwrap();
    let alone = Fake {
        kind: 'b',
        rows: None,
        until: None,
    };
    queue.enter(alone, now).unwrap();
    assert_eq!(kinds(&run(&mut queue, now).unwrap()), "b");
    assert!(run(&mut queue, now).is_none());
}

#[test]
fn a_run_of_several_goes_on_while_one_of_them_wants_it() {
    let (mut queue, now) = (queue(1, 20, Some((8, Duration::ZERO))), Instant::now());
    let tickets = ['a'; 3].map(|kind| queue.enter(one(kind), now).unwrap());
    let turn = run(&mut queue, now).unwrap();
    queue.leave(tickets[0]);
    queue.leave(tickets[2]);
    assert!(!turn.cancel.is_cancelled());
    queue.leave(tickets[1]);
    assert!(turn.cancel.is_cancelled());
}

#[test]
fn when_a_run_of_several_failed_those_who_want_it_come_next_each_alone() {
    let (mut queue, now) = (queue(1, 20, Some((8, SECOND))), Instant::now());
    let full = |rows| Fake {
        kind: 'a',
        rows: Some(rows),
        until: None,
    };
    let tickets = [2, 2, 4].map(|rows| queue.enter(full(rows), now).unwrap());
    let turn = run(&mut queue, now).unwrap();
    assert_eq!(turn.members.len(), 3);
    queue.enter(one('b'), now).unwrap();
    queue.leave(tickets[1]);
    queue.retry(turn);
    for rows in [2, 4] {
        let turn = run(&mut queue, now).unwrap();
        assert_eq!(turn.members.len(), 1);
        assert_eq!(turn.members[0].work.rows, Some(rows));
        queue.ended(turn.lead());
    }
    assert!(
        run(&mut queue, now).is_none(),
        "the other one may be joined yet"
    );
}

#[derive(Clone, Debug)]
enum Act {
    Enter(Fake),
    Leave(usize),
    Next,
    Time(u64),
    End(usize),
    Retry(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let rows = prop_oneof![Just(None), (1..5_usize).prop_map(Some)];
    let work = (prop_oneof![Just('a'), Just('b')], rows);
    prop_oneof![
        4 => work.prop_map(|(kind, rows)| Act::Enter(Fake { kind, rows, until: None })),
        1 => any::<usize>().prop_map(Act::Leave),
        4 => Just(Act::Next),
        1 => (0..300_u64).prop_map(Act::Time),
        2 => any::<usize>().prop_map(Act::End),
        1 => any::<usize>().prop_map(Act::Retry),
    ]
}

proptest! {
    /// Whatever happens: whoever entered gets a run or leaves, nobody twice, within all limits; and in the end nobody is
    /// left.
    #[test]
    fn everybody_has_a_run_or_goes(
        acts in proptest::collection::vec(act(), 0..200),
        runs in 1..4_usize,
        places in 0..6_usize,
        rows in 2..6_usize,
    ) {
        let mut now = Instant::now();
        let mut queue = queue(runs, places, Some((rows, Duration::from_millis(100))));
        let mut inside: Vec<Ticket> = Vec::new();
        let mut turns: Vec<Turn<Fake>> = Vec::new();
        let mut all = acts;
        // Enough of everything for all to have an end.
        all.extend(std::iter::repeat_n([Act::Time(100), Act::Next, Act::End(0)], 400).flatten());
        for act in all {
            match act {
                Act::Enter(work) => match queue.enter(work, now) {
                    Ok(ticket) => inside.push(ticket),
                    Err(Full) => prop_assert!(inside.len() >= places),
                },
                Act::Leave(which) if !inside.is_empty() => {
                    let ticket = inside.swap_remove(which % inside.len());
                    queue.leave(ticket);
                }
                Act::Next => match queue.next(now) {
                    Next::Run(turn) => {
                        let members = &turn.members;
                        let total: usize = members.iter().filter_map(Waiting::rows).sum();
                        prop_assert!(members.len() == 1 || total <= rows);
                        prop_assert!(members.windows(2).all(|two| two[0].joins(&two[1])));
                        for member in members {
                            prop_assert!(inside.contains(&member.ticket));
                            let elsewhere = turns.iter().flat_map(|turn| &turn.members);
                            let ticket = member.ticket;
                            prop_assert!(elsewhere.into_iter().all(|other| other.ticket != ticket));
                        }
                        turns.push(turn);
                        prop_assert!(turns.len() <= 2 * runs);
                        let wanted = turns.iter().filter(|turn| !turn.cancel.is_cancelled());
                        prop_assert!(wanted.count() <= runs);
                    }
                    Next::At(time) => prop_assert!(time > now),
                    Next::Nothing => prop_assert!(!queue.has_work()),
                },
                Act::Time(ms) => now += Duration::from_millis(ms),
                Act::End(which) if !turns.is_empty() => {
                    let turn = turns.swap_remove(which % turns.len());
                    queue.ended(turn.lead());
                    inside.retain(|one| turn.members.iter().all(|member| member.ticket != *one));
                }
                Act::Retry(which) if !turns.is_empty() => {
                    let turn = turns.swap_remove(which % turns.len());
                    queue.retry(turn);
                }
                _ => {}
            }
        }
        prop_assert!(inside.is_empty() && turns.is_empty());
        prop_assert!(matches!(queue.next(now), Next::Nothing));
    }
}
