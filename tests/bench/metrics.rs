//! `make soak-metrics`: ten thousand invocations over twenty environments, with faults of `CloudWatch` and S3,
//! freezes, crashes, resets, shutdowns and SIGKILL; and the cost of the metrics.
//!
//! [`deliveries`] runs the environments. For each metric that clients can count, the sums in `CloudWatch` and in the
//! log are compared with the clients' counts, environment by environment. Only SIGKILL may lose observations, and at
//! most those since the last delivery. Then single environments have an hour of steady traffic without faults, which
//! shows the number and the size of deliveries, and so their price.

mod plot;
mod prices;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use lab::soak::deliveries::counts::Counts;
use lab::soak::deliveries::{Deliveries, DeliveryTotals, Loss, SteadyTraffic};

use crate::figures::{Figures, Goal, count};

/// Requests of an environment in a round.
const REQUESTS: usize = 10;

/// Hours of steady traffic: a request every 15 s, and one in 10 minutes.
const STEADY: [(&str, SteadyTraffic); 6] = [
    (
        "cloudwatch, default set",
        traffic(15, "cloudwatch", "default"),
    ),
    ("cloudwatch, all metrics", traffic(15, "cloudwatch", "all")),
    ("emf, default set", traffic(15, "emf", "default")),
    ("emf, all metrics", traffic(15, "emf", "all")),
    (
        "cloudwatch, a request in 10 minutes",
        traffic(600, "cloudwatch", "default"),
    ),
    (
        "emf, a request in 10 minutes",
        traffic(600, "emf", "default"),
    ),
];

const fn traffic(seconds: u64, metrics: &'static str, set: &'static str) -> SteadyTraffic {
    SteadyTraffic {
        pause: Duration::from_secs(seconds),
        metrics,
        set,
    }
}

/// Runs at least `invocations` over `environments`.
pub(crate) async fn run(environments: usize, invocations: usize) -> Result<ExitCode> {
    let begun = Instant::now();
    let rounds = invocations.div_ceil(environments * REQUESTS);
    println!(
        "{environments} environments in {rounds} rounds of {REQUESTS} requests, with faults; development builds, on this machine."
    );
    let mut fleet = Deliveries::start(environments).await?;
    for round in 1..=rounds {
        fleet.round(REQUESTS, round == rounds).await?;
    }
    let totals = fleet.end().await?;
    let mut figures = Figures::of("metrics");
    print(&totals);
    judge(&mut figures, &totals, invocations);
    plot::draw(&totals.progress)?;
    println!(
        "\nfaults: {:.0} s; an hour of steady traffic of single environments:",
        begun.elapsed().as_secs_f64()
    );
    for (name, traffic) in STEADY {
        let cost = traffic.measure().await?;
        prices::add(&mut figures, name, traffic, cost);
    }
    println!("\ntotal duration {:.0} s", begun.elapsed().as_secs_f64());
    figures.end()
}

/// Prints each metric's sums.
fn print(totals: &DeliveryTotals) {
    for problem in totals.failures().iter().take(3) {
        println!("  {problem}");
    }
    println!(
        "\n{:22} {:>9} {:>11} {:>9} {:>9} {:>9} {:>10} {:>8} {:>8}",
        "", "clients", "CloudWatch", "twice", "log", "SIGKILL", "uncertain", "missing", "surplus"
    );
    for metric in Counts::names() {
        let sum = totals.balance(metric);
        println!(
            "{metric:22} {:>9} {:>11} {:>9} {:>9} {:>9} {:>10} {:>8} {:>8}",
            sum.counted,
            sum.cloudwatch,
            sum.repeated,
            sum.log,
            sum.lost,
            sum.uncertain,
            sum.missing,
            sum.surplus
        );
    }
}

fn judge(figures: &mut Figures, totals: &DeliveryTotals, invocations: usize) {
    let at_least = crate::figures::float(invocations);
    figures.add_with_goal("requests", totals.requests(), "", Goal::AtLeast(at_least));
    let failures = count(&totals.failures());
    figures.add_with_goal(
        "requests that failed without a reason",
        failures,
        "",
        Goal::AtMost(0.0),
    );
    events(figures, totals);
    for metric in Counts::names() {
        let sum = totals.balance(metric);
        figures.add(format!("{metric}: counted by clients"), sum.counted, "");
        let name = format!("{metric}: missing in CloudWatch and the log");
        figures.add_with_goal(name, sum.missing, "", Goal::AtMost(0.0));
        let name = format!("{metric}: surplus in CloudWatch and the log");
        figures.add_with_goal(name, sum.surplus, "", Goal::AtMost(0.0));
    }
    let inferences = totals.balance("Inferences");
    figures.add("Inferences: of them in the log", inferences.log, "");
    figures.add(
        "Inferences: sent twice, since the first response was lost",
        inferences.repeated,
        "",
    );
    figures.add(
        "Inferences: of requests cut off by a crash",
        inferences.uncertain,
        "",
    );
    figures.add("Inferences: lost by SIGKILL", inferences.lost, "");
    let losses: Vec<&Loss> = totals.losses().collect();
    figures.add("SIGKILLs", count(&losses), "");
    let most = losses.iter().map(|loss| loss.lost).fold(0.0, f64::max);
    figures.add("Inferences: most lost by one SIGKILL", most, "");
    let beyond = losses.iter().filter(|loss| loss.lost > loss.since_delivery);
    let name = "SIGKILLs that lost more than was observed since the last delivery";
    figures.add_with_goal(
        name,
        crate::figures::float(beyond.count()),
        "",
        Goal::AtMost(0.0),
    );
}

/// Adds the number of faults and events, so that a run without them is noticed.
fn events(figures: &mut Figures, totals: &DeliveryTotals) {
    let requests = totals.cloudwatch.requests();
    let failed = requests.iter().filter(|one| one.status != 200);
    let sum = |of: fn(&lab::soak::deliveries::EventCounts) -> u32| {
        let all = totals.members.iter().map(|member| of(&member.events));
        f64::from(all.sum::<u32>())
    };
    for (name, value) in [
        ("calls of PutMetricData that arrived", count(&requests)),
        (
            "calls of PutMetricData that failed",
            crate::figures::float(failed.count()),
        ),
        (
            "requests to S3 that failed",
            crate::figures::float(totals.s3_failures),
        ),
        (
            "freezes in the middle of a request",
            sum(|events| events.freezes_in_requests),
        ),
        (
            "crashes of the function's process",
            sum(|events| events.crashes),
        ),
        ("resets", sum(|events| events.resets)),
        (
            "shutdowns of an environment",
            sum(|events| events.shutdowns),
        ),
    ] {
        figures.add_with_goal(name, value, "", Goal::AtLeast(1.0));
    }
    figures.add(
        "simulated hours in freezes, each environment",
        totals.passed.as_secs_f64() / 3600.0,
        "h",
    );
}
