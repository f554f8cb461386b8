//! `make soak-reload`: a thousand new versions under the load of four clients, and the effect of a
//! swap of 12 MB on latency.
//!
//! The sidecar runs without Lambda ([`swaps`]). First come small models, a third of them with an
//! injected fault: no request may be affected, and nothing may grow. Then come large models without
//! faults. The latencies of requests during a swap are compared with those between swaps in the
//! same run.

mod plot;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::figures::{Figures, Goal, count, milliseconds, percentile, sparkline};
use lab::soak::adder::Size;
use lab::soak::callers::{self, Ledger, Sample, backwards};
use lab::soak::swaps::{SwapTally, Swaps};

/// The destruction of the old version and the release of its memory count as part of the swap.
const AFTERMATH: Duration = Duration::from_millis(20);
/// Pause between a client's requests for the comparison of latencies. Without it, four clients
/// saturate both CPUs of a small machine, and the measured time is their own queueing.
const PAUSE: Duration = Duration::from_millis(5);

/// Maximum growth of threads: the runtime keeps blocking threads for the highest concurrency so
/// far.
const MAX_THREADS: f64 = 2.0;

pub(crate) async fn run(swaps: usize) -> Result<ExitCode> {
    let begun = Instant::now();
    let mut figures = Figures::of("reload");
    println!(
        "New versions under the load of {} clients; development builds, on this machine.",
        callers::CALLERS
    );

    println!("\n{swaps} versions of 100 KB, a third of them with an injected fault");
    let mut running = Swaps::start(Size::SMALL, 1, Duration::ZERO).await?;
    for _ in 0..swaps {
        running.swap_with_fault().await?;
    }
    let (small, ledger) = running.end().await?;
    print(&small, &ledger);
    judge(&mut figures, "small", &small, &ledger);

    let swaps = (swaps / 5).max(20);
    println!("\n{swaps} versions of 12 MB");
    let mut running = Swaps::start(Size::LARGE, 40, PAUSE).await?;
    for _ in 0..swaps {
        running.swap().await?;
    }
    let (large, ledger) = running.end().await?;
    print(&large, &ledger);
    judge(&mut figures, "large", &large, &ledger);
    let latencies = Latencies::of(&ledger.samples, &large.swaps);
    latencies.judge(&mut figures);

    plot::draw(&small, &large, &latencies)?;
    println!("\ntotal duration {:.0} s", begun.elapsed().as_secs_f64());
    figures.end()
}

/// Latencies in milliseconds.
struct Latencies {
    /// Latencies of requests that overlapped a swap.
    swapping: Vec<f64>,
    /// Latencies of the other requests.
    steady: Vec<f64>,
}

impl Latencies {
    fn of(samples: &[Sample], swaps: &[(Instant, Instant)]) -> Self {
        // Swaps are sequential, so the first relevant one is found by its end.
        let in_swap = |sample: &&Sample| {
            let first = swaps.partition_point(|(_, end)| *end + AFTERMATH < sample.asked);
            swaps
                .get(first)
                .is_some_and(|(begin, _)| *begin <= sample.answered)
        };
        let (swapping, steady): (Vec<_>, Vec<_>) = samples.iter().partition(in_swap);
        let all = |samples: Vec<&Sample>| {
            let latencies = samples.into_iter().map(Sample::latency);
            latencies.map(milliseconds).collect()
        };
        Self {
            swapping: all(swapping),
            steady: all(steady),
        }
    }

    fn judge(&self, figures: &mut Figures) {
        for (name, latencies) in [("steady", &self.steady), ("in swaps", &self.swapping)] {
            figures.add(format!("large, {name}: requests"), count(latencies), "");
            for percent in [50.0, 99.0] {
                let name = format!("large, {name}: p{percent}");
                figures.add(name, percentile(latencies, percent), "ms");
            }
        }
        let [steady, swapping] =
            [&self.steady, &self.swapping].map(|times| percentile(times, 99.0));
        figures.add_with_goal(
            "large: p99 in swaps over steady",
            swapping / steady.max(f64::MIN_POSITIVE),
            "times",
            Goal::AtMost(2.0),
        );
    }
}

fn print(tally: &SwapTally, ledger: &Ledger) {
    let SwapTally {
        good,
        bad,
        with_fault,
        ..
    } = tally;
    println!(
        "  {} requests, {good} good versions, {bad} bad ones, {with_fault} swaps with a fault",
        ledger.samples.len() + ledger.failures.len()
    );
    for problem in ledger.failures.iter().take(3) {
        println!("  {problem}");
    }
    println!("  MB resident      {}", sparkline(&memory(tally)));
    println!("  open descriptors {}", sparkline(&descriptors(tally)));
    println!("  threads          {}", sparkline(&threads(tally)));
    println!("  files in cache   {}", sparkline(&files(tally)));
}

fn judge(figures: &mut Figures, size: &str, tally: &SwapTally, ledger: &Ledger) {
    let none = |figures: &mut Figures, what: &str, found: f64| {
        figures.add_with_goal(format!("{size}: {what}"), found, "", Goal::AtMost(0.0));
    };
    none(
        figures,
        "failed or wrong responses",
        count(&ledger.failures),
    );
    let older = u32::try_from(backwards(&ledger.samples)).unwrap_or(u32::MAX);
    none(
        figures,
        "responses of a version that had been replaced",
        older.into(),
    );
    let versions = u32::try_from(ledger.versions()).unwrap_or(u32::MAX);
    // A version that was replaced during its download need not have responded.
    let skipped = f64::from(tally.good) - f64::from(versions);
    figures.add(
        format!("{size}: good versions that never responded"),
        skipped,
        "",
    );
    let last = ledger.last().map_or(0, |sample| sample.number);
    none(
        figures,
        "versions behind the newest at the end",
        f64::from(tally.good) - 1.0 - f64::from(last),
    );

    let [early, late] = early_and_late(&memory(tally), 50.0);
    figures.add(format!("{size}: resident after ten swaps"), early, "MB");
    let name = format!("{size}: resident at the end");
    figures.add_with_goal(name, late, "MB", Goal::AtMost(early * 1.05));
    // Single descriptors or threads vary by chance, so minima are compared.
    for (what, values, most) in [
        ("descriptors", descriptors(tally), 0.0),
        ("threads", threads(tally), MAX_THREADS),
        ("files in the cache", files(tally), 0.0),
    ] {
        let [early, late] = early_and_late(&values, 0.0);
        let name = format!("{size}: {what} grow by");
        figures.add_with_goal(name, late - early, "", Goal::AtMost(most));
    }
}

/// A percentile of the swaps from the tenth to the twentieth, and of the last ten.
fn early_and_late(values: &[f64], percent: f64) -> [f64; 2] {
    let early = values.get(10..20.min(values.len())).unwrap_or_default();
    let late = values
        .get(values.len().saturating_sub(10)..)
        .unwrap_or_default();
    [early, late].map(|ten| percentile(ten, percent))
}

fn memory(tally: &SwapTally) -> Vec<f64> {
    let usages = tally.usages.iter();
    usages
        .map(|usage| f64::from(usage.resident) / 1024.0)
        .collect()
}

fn descriptors(tally: &SwapTally) -> Vec<f64> {
    let usages = tally.usages.iter();
    usages.map(|usage| usage.descriptors.into()).collect()
}

fn threads(tally: &SwapTally) -> Vec<f64> {
    let usages = tally.usages.iter();
    usages.map(|usage| usage.threads.into()).collect()
}

fn files(tally: &SwapTally) -> Vec<f64> {
    let files = tally.files.iter();
    files
        .map(|count| f64::from(u32::try_from(*count).unwrap_or(u32::MAX)))
        .collect()
}
