//! The lab's platform against AWS's own emulator (RIE), which has the core of the real one inside.
//!
//! Every case of `cases` is played on both. A case's actors are processes that follow a script and
//! write down each call that they make and each answer that they get; what is compared is what
//! they and the caller saw, with ids and points of time made equal (`normal`). So a difference is
//! one that a function or an extension could notice.
//!
//! Each difference is either none or a row of the table below. The test fails for one that is not
//! in it, and for a row that is no longer so.
//!
#![doc = include_str!("differences.md")]

mod acts;
mod cases;
mod differences;
mod normal;
mod scene;
mod script;

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use differences::Difference;
use futures_util::StreamExt as _;
use scene::{Case, Stage, Traces};

/// How many cases are played at once: most of a case's time is waiting.
const AT_ONCE: usize = 4;
/// How long a case may take on a platform: more than any of its waits.
const LONGEST: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn rie_and_the_lab_agree_but_for_what_the_table_says() {
    // A part of a name plays the cases that have it, while one works on them.
    let only = std::env::var("AGREEMENT_ONLY").unwrap_or_default();
    let cases: Vec<_> = cases::all();
    let is_root = nix::unistd::Uid::effective().is_root();
    let cases: Vec<_> = cases
        .iter()
        .filter(|case| case.name.contains(&only))
        .filter(|case| {
            let why_not = case.needs_root().filter(|_| !is_root);
            if let Some(reason) = why_not {
                // Past the harness, which shows a passed test's output to nobody.
                let _ = writeln!(
                    std::io::stderr(),
                    "skipped without root: {}: {reason}",
                    case.name
                );
            }
            why_not.is_none()
        })
        .collect();
    let played = futures_util::stream::iter(cases.iter().copied()).map(play);
    let played: Vec<_> = played.buffer_unordered(AT_ONCE).collect().await;

    let mut seen = vec![false; differences::ALL.len()];
    let mut problems = String::new();
    for (case, outcome) in played {
        match outcome {
            Ok((rie, lab)) => compare(case, &rie, &lab, &mut seen, &mut problems),
            Err(problem) => {
                let _ = writeln!(problems, "==== {case}: {problem:#}");
            }
        }
    }
    if only.is_empty() {
        let rows = differences::ALL.iter().zip(&seen);
        // A row of cases that were skipped says nothing.
        let is_due = |row: &Difference| cases.iter().any(|case| row.is_about(case.name));
        for (row, _) in rows.filter(|(row, seen)| !**seen && is_due(row)) {
            let row = row.row();
            let _ = writeln!(problems, "==== no longer so: {row}");
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

async fn play(case: &Case) -> (&'static str, anyhow::Result<(Traces, Traces)>) {
    let both = async {
        let (rie, lab) = (Stage::set(case)?, Stage::set(case)?);
        let rie = tokio::time::timeout(LONGEST, rie.on_rie()).await;
        let lab = tokio::time::timeout(LONGEST, lab.on_the_lab()).await;
        anyhow::Ok((rie.context("RIE hangs")??, lab.context("the lab hangs")??))
    };
    (case.name, both.await)
}

/// Applies the differences to the lab's traces, and writes down what differs then.
fn compare(case: &str, rie: &Traces, lab: &Traces, seen: &mut [bool], problems: &mut String) {
    for (who, rie) in rie {
        let mut lab = lab[who].clone();
        for (difference, seen) in differences::ALL.iter().zip(&mut *seen) {
            if let Some(changed) = difference.apply(case, who, &lab) {
                lab = changed;
                *seen = true;
            }
        }
        if lab != *rie {
            let _ = writeln!(problems, "==== {case}, as {who} sees it");
            let (rie, lab) = without_what_is_common(rie, &lab);
            let _ = writeln!(problems, "---- RIE\n{rie}\n---- the lab\n{lab}");
        }
    }
}

/// The lines between those with which both begin and those with which both end.
fn without_what_is_common(one: &str, other: &str) -> (String, String) {
    let (one, other): (Vec<_>, Vec<_>) = (one.lines().collect(), other.lines().collect());
    let same = |(a, b): &(&&str, &&str)| a == b;
    let before = one.iter().zip(&other).take_while(same).count();
    let (one, other) = (&one[before..], &other[before..]);
    let pairs = one.iter().rev().zip(other.iter().rev());
    let after = pairs.take_while(same).count();
    let middle = |lines: &[&str]| lines[..lines.len() - after].join("\n");
    (middle(one), middle(other))
}

#[test]
fn the_table_to_read_is_the_one_that_the_test_goes_by() {
    let read = include_str!("differences.md");
    let table = differences::table();
    assert_eq!(read, table, "differences.md should be:\n{table}");
}
