//! The lab's platform compared with AWS's emulator (RIE), which contains the core of the real platform.
//!
//! Every case runs on both. Its actors are processes that follow a script and record each call and response. The test
//! compares the traces of the actors and of the caller, after normalising ids and times (`normalize`). Every difference
//! is visible to a function or an extension.
//!
//! The table below lists the known differences. The test fails for a difference without a row, and for a row without a
//! difference.
//!
#![doc = include_str!("differences.md")]

mod case;
mod cases;
mod differences;
mod normalize;
mod steps;

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use case::{Case, Installation, Traces};
use differences::Difference;
use futures_util::StreamExt as _;

/// Number of concurrent cases; a case mostly waits.
const CONCURRENCY: usize = 4;
/// Maximum duration of a case on one platform, longer than any of its waits.
const MAX_DURATION: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn rie_and_the_lab_differ_only_as_listed() {
    // Restricts a manual run to the cases whose name contains the value.
    let only = std::env::var("AGREEMENT_ONLY").unwrap_or_default();
    let cases: Vec<_> = cases::all();
    let is_root = nix::unistd::Uid::effective().is_root();
    let cases: Vec<_> = cases
        .iter()
        .filter(|case| case.name.contains(&only))
        .filter(|case| {
            let why_not = case.needs_root().filter(|_| !is_root);
            if let Some(reason) = why_not {
                // Bypasses the test harness, which hides the output of a passed test.
                let _ = writeln!(
                    std::io::stderr(),
                    "skipped without root: {}: {reason}",
                    case.name
                );
            }
            why_not.is_none()
        })
        .collect();
    let outcomes = futures_util::stream::iter(cases.iter().copied()).map(run);
    let outcomes: Vec<_> = outcomes.buffer_unordered(CONCURRENCY).collect().await;

    let mut seen = vec![false; differences::ALL.len()];
    let mut problems = String::new();
    for (case, outcome) in outcomes {
        match outcome {
            Ok((rie, lab)) => compare(case, &rie, &lab, &mut seen, &mut problems),
            Err(problem) => {
                let _ = writeln!(problems, "==== {case}: {problem:#}");
            }
        }
    }
    if only.is_empty() {
        let rows = differences::ALL.iter().zip(&seen);
        // Rows of skipped cases are not checked.
        let is_due = |row: &Difference| cases.iter().any(|case| row.is_about(case.name));
        for (row, _) in rows.filter(|(row, seen)| !**seen && is_due(row)) {
            let row = row.row();
            let _ = writeln!(problems, "==== difference not seen: {row}");
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

async fn run(case: &Case) -> (&'static str, anyhow::Result<(Traces, Traces)>) {
    let both = async {
        let (rie, lab) = (Installation::install(case)?, Installation::install(case)?);
        let rie = tokio::time::timeout(MAX_DURATION, rie.on_rie()).await;
        let lab = tokio::time::timeout(MAX_DURATION, lab.on_the_lab()).await;
        anyhow::Ok((rie.context("RIE hangs")??, lab.context("the lab hangs")??))
    };
    (case.name, both.await)
}

/// Applies the known differences to the lab's traces, and records what still differs.
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
            let _ = writeln!(problems, "==== {case}, trace of {who}");
            let (rie, lab) = without_common_lines(rie, &lab);
            let _ = writeln!(problems, "---- RIE\n{rie}\n---- the lab\n{lab}");
        }
    }
}

/// Removes the common lines at the start and at the end.
fn without_common_lines(one: &str, other: &str) -> (String, String) {
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
fn differences_md_is_up_to_date() {
    let read = include_str!("differences.md");
    let table = differences::table();
    assert_eq!(read, table, "differences.md should be:\n{table}");
}
