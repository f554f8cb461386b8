//! `make soak-freeze`: a thousand freezes and thaws under traffic with each kind of clock, and the
//! growth of resources.
//!
//! Growth is the median of the last tenth of the cycles less that of the second tenth, and for
//! descriptors the minimum. By the second tenth every pool, buffer and histogram has been in full
//! use. The environments run in parallel.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use lab::lambda::Clock;
use tokio::sync::watch;

use crate::figures::{Figures, Goal, percentile, sparkline};
use lab::soak::cycles::{CycleTotals, Cycles};
use lab::soak::usage::Usage;

/// The two processes, and the maximum growth of their memory, in MB. The memory that the sidecar's
/// allocator retains varies by this much as models are loaded and dropped. The handler repeats the
/// same work, and its limit detects a leak of 100 bytes per request.
const PROCESSES: [(&str, f64); 2] = [("sidecar", 1.0), ("handler", 0.15)];
/// Maximum growth of threads: the runtime keeps blocking threads for the highest concurrency so
/// far. One leaked thread per hundred cycles exceeds it.
const MAX_THREADS: f64 = 2.0;
const CLOCKS: [(Clock, &str); 3] = [
    (Clock::Real, "the machine's clock"),
    (Clock::Jumps, "a clock that jumps"),
    (Clock::StandsStill, "a clock that stands still"),
];

pub(crate) async fn run(cycles: usize) -> Result<ExitCode> {
    println!(
        "Freezes and thaws under traffic, {cycles} by each kind of clock; development builds, on this machine."
    );
    let begun = Instant::now();
    let done = watch::Sender::new(0);
    let all = CLOCKS.map(|(clock, _)| {
        let done = done.clone();
        tokio::spawn(async move {
            let mut running = Cycles::start(clock).await?;
            for number in 0..cycles {
                running.cycle(number).await?;
                done.send_modify(|done| *done += 1);
            }
            running.end().await
        })
    });
    let progress = tokio::spawn(progress(done.subscribe(), CLOCKS.len() * cycles));
    let mut figures = Figures::of("freeze");
    for ((_, name), running) in CLOCKS.into_iter().zip(all) {
        let totals = running.await??;
        println!("\n{name}");
        print(&totals);
        judge(&mut figures, name, &totals);
    }
    progress.abort();
    println!("\ntotal duration {:.0} s", begun.elapsed().as_secs_f64());
    figures.end()
}

/// Shows the progress on a terminal.
async fn progress(mut done: watch::Receiver<usize>, all: usize) {
    while stdout().is_terminal() && done.changed().await.is_ok() {
        print!("\r{}/{all} ", *done.borrow_and_update());
        let _ = stdout().flush();
    }
}

fn print(totals: &CycleTotals) {
    let tally = &totals.tally;
    println!(
        "  {} requests, {} freezes during a request, {} new versions",
        tally.requests, tally.in_requests, tally.bumps
    );
    let [s3, cloudwatch] = totals.answered;
    let [to_s3, to_cloudwatch] = totals.connections;
    println!(
        "  {s3} requests to S3 over {to_s3} connections, {cloudwatch} to CloudWatch over {to_cloudwatch}"
    );
    for problem in tally.failures.iter().take(3) {
        println!("  {problem}");
    }
    for (place, (process, _)) in PROCESSES.into_iter().enumerate() {
        let memory = series(totals, place, megabytes);
        println!("  {process}, MB resident      {}", sparkline(&memory));
        let descriptors = series(totals, place, |usage| usage.descriptors.into());
        println!("  {process}, open descriptors {}", sparkline(&descriptors));
        let threads = series(totals, place, |usage| usage.threads.into());
        println!("  {process}, threads          {}", sparkline(&threads));
    }
}

fn judge(figures: &mut Figures, clock: &str, totals: &CycleTotals) {
    let tally = &totals.tally;
    let mut count = |name: &str, value: f64, unit, goal| {
        figures.add_with_goal(format!("{clock}: {name}"), value, unit, goal);
    };
    let failures = crate::figures::count(&tally.failures);
    count("failed or wrong responses", failures, "", Goal::AtMost(0.0));
    // At least one per forty cycles.
    let bumps = crate::figures::count(&tally.usages) / 40.0;
    count(
        "new versions",
        tally.bumps.into(),
        "",
        Goal::AtLeast(bumps.floor()),
    );
    let lost = f64::from(tally.requests) - totals.counted;
    count(
        "inferences missing in CloudWatch",
        lost.max(0.0),
        "",
        Goal::AtMost(0.0),
    );
    for (place, (process, most_growth)) in PROCESSES.into_iter().enumerate() {
        let mut grows = |what: &str, unit, most, percent, of: fn(&Usage) -> f64| {
            let [early, late] = early_and_late(&series(totals, place, of), percent);
            let name = format!("{process}'s {what} grow by");
            count(&name, late - early, unit, Goal::AtMost(most));
        };
        grows("resident MB", "MB", most_growth, 50.0, megabytes);
        // Single connections vary by chance, so minima are compared.
        grows("descriptors", "", 0.0, 0.0, |usage| {
            usage.descriptors.into()
        });
        grows("threads", "", MAX_THREADS, 50.0, |usage| {
            usage.threads.into()
        });
    }
}

fn megabytes(usage: &Usage) -> f64 {
    f64::from(usage.resident) / 1024.0
}

fn series(totals: &CycleTotals, place: usize, of: fn(&Usage) -> f64) -> Vec<f64> {
    let usages = totals.tally.usages.iter();
    usages.map(|both| of(&both[place])).collect()
}

/// A percentile of the second tenth, and of the last.
fn early_and_late(values: &[f64], percent: f64) -> [f64; 2] {
    let tenth = values.len() / 10;
    let early = values.get(tenth..2 * tenth).unwrap_or_default();
    let late = values.get(values.len() - tenth..).unwrap_or_default();
    [early, late].map(|stretch| percentile(stretch, percent))
}
