//! Eight callers at once.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::client::{Address, Client};
use super::contenders::{Bare, Server};
use super::{BARE, CLIENTS, Rate, Subjects, TCP, UNIX};

const ROUNDS: usize = 7;
/// How long a round of one contender is.
const ROUND: Duration = Duration::from_millis(1_500);

/// One contender: where it listens, and what it is asked.
struct Target<'a> {
    rate: Rate,
    address: &'a Address,
    request: Vec<u8>,
}

pub(super) fn measure(
    subjects: &Subjects,
    sidecar: &Server,
    bare: &mut Bare,
    others: &[(&'static str, Server)],
) -> Result<Vec<Rate>> {
    let [unix, tcp] = &sidecar.addresses[..] else {
        anyhow::bail!("the sidecar has two sockets");
    };
    let rate = |subject: &'static str, contender| Rate {
        subject,
        contender,
        per_second: Vec::new(),
    };
    let small = &subjects.small;
    let mut targets = Vec::new();
    for (contender, address) in [(UNIX, unix), (TCP, tcp)] {
        targets.push(Target {
            rate: rate(small.name, contender),
            address,
            request: small.plain("/models/small/predict"),
        });
    }
    for (contender, server) in others {
        targets.push(Target {
            rate: rate(small.name, contender),
            address: &server.addresses[0],
            request: small.plain("/predict"),
        });
    }
    let heavy = &subjects.heavy;
    targets.push(Target {
        rate: rate(heavy.name, UNIX),
        address: unix,
        request: heavy.plain("/models/heavy/predict"),
    });
    let mut alone = [small, heavy].map(|subject| (subject, rate(subject.name, BARE)));
    for _ in 0..ROUNDS {
        for (subject, rate) in &mut alone {
            rate.per_second.push(bare.rate(subject, CLIENTS, ROUND)?);
        }
        for target in &mut targets {
            let answered = round(target).context(target.rate.contender)?;
            target.rate.per_second.push(answered);
        }
    }
    let alone = alone.into_iter().map(|(_, rate)| rate);
    Ok(alone
        .chain(targets.into_iter().map(|target| target.rate))
        .collect())
}

/// Answers in a second.
fn round(target: &Target<'_>) -> Result<f64> {
    let clients = (0..CLIENTS).map(|_| Client::connect(target.address));
    let clients = clients.collect::<Result<Vec<Client>>>()?;
    let started = Instant::now();
    let counts = thread::scope(|scope| {
        let threads: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                scope.spawn(move || {
                    let mut count = 0.0;
                    while started.elapsed() < ROUND {
                        client.ask(&target.request)?;
                        count += 1.0;
                    }
                    anyhow::Ok(count)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().ok().context("a thread panicked")?)
            .collect::<Result<Vec<f64>>>()
    })?;
    Ok(counts.iter().sum::<f64>() / started.elapsed().as_secs_f64())
}
