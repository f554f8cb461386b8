//! Concurrent callers: throughput, and the 99th percentile of the latency.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::{Series, float, show};
use crate::chart::Charts;
use crate::figures::{Figures, count, percentile};
use crate::inference::client::{Address, Client};
use crate::inference::contenders::ServerProcess;
use crate::inference::subject::Subject;

const SIZES: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/// Duration of one size of one contender.
const ROUND: Duration = Duration::from_millis(1_500);

pub(super) fn measure(
    subject: &Subject,
    sidecar: &ServerProcess,
    others: &[ServerProcess],
    figures: &mut Figures,
    charts: &mut Charts,
) -> Result<()> {
    let mut contenders = vec![(
        "sidecar, Unix socket",
        &sidecar.addresses[0],
        subject.plain("/models/small/predict"),
    )];
    for other in others {
        contenders.push((other.name, &other.addresses[0], subject.plain("/predict")));
    }
    let new = || contenders.iter().map(|one| Series::of(one.0)).collect();
    let (mut rates, mut tails): (Vec<Series>, Vec<Series>) = (new(), new());
    for callers in SIZES {
        for (place, (name, address, request)) in contenders.iter().enumerate() {
            let times = round(address, request, callers).context(*name)?;
            let rate = count(&times) / ROUND.as_secs_f64();
            rates[place].points.push((callers, rate));
            tails[place]
                .points
                .push((callers, percentile(&times, 99.0)));
        }
    }
    let best = rates[0]
        .points
        .iter()
        .map(|point| point.1)
        .fold(0.0, f64::max);
    let name = "callers: throughput with 256, of the best number of callers";
    figures.add(name, rates[0].at(256) / best, "×");
    let name = "callers: p99 with 256, of 256 requests at the throughput of 256";
    let ideal = float(256) / rates[0].at(256) * 1e6;
    figures.add(name, tails[0].at(256) / ideal, "×");
    for other in &rates[1..] {
        let ratio = rates[0].at(256) / other.at(256);
        let name = format!(
            "callers: throughput with 256, sidecar over {}",
            other.contender
        );
        figures.add(name, ratio, "×");
    }
    show(charts, "responses per second", "callers", &rates);
    show(charts, "p99 in microseconds", "callers", &tails);
    Ok(())
}

/// Times of all requests in a round, in microseconds.
fn round(address: &Address, request: &[u8], callers: usize) -> Result<Vec<f64>> {
    let clients = (0..callers).map(|_| Client::connect(address));
    let clients = clients.collect::<Result<Vec<Client>>>()?;
    let started = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                scope.spawn(move || {
                    let mut times = Vec::new();
                    while started.elapsed() < ROUND {
                        let sent = Instant::now();
                        client.ask(request)?;
                        times.push(sent.elapsed().as_secs_f64() * 1e6);
                    }
                    anyhow::Ok(times)
                })
            })
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().ok().context("a thread panicked")??);
        }
        Ok(all)
    })
}
