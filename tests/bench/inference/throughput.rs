//! Throughput with eight callers.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::client::{Address, Client};
use super::contenders::{Bare, ServerProcess};
use super::subject::Subject;
use super::{BARE, CLIENTS, ECHO, Rate, Subjects, TCP, UNIX, latency};

const ROUNDS: usize = 15;
/// Duration of a round of one contender.
const ROUND: Duration = Duration::from_millis(700);

/// One contender.
struct LoadContender<'a> {
    rate: Rate,
    backend: Backend<'a>,
}

/// Access to the model.
enum Backend<'a> {
    /// No server: the model alone.
    None(&'a Subject),
    Socket {
        address: &'a Address,
        request: Vec<u8>,
    },
}

pub(super) fn measure(
    subjects: &Subjects,
    sidecar: &ServerProcess,
    bare: &mut Bare,
    others: &[ServerProcess],
) -> Result<Vec<Rate>> {
    let [unix, tcp] = &sidecar.addresses[..] else {
        anyhow::bail!("the sidecar has two sockets");
    };
    let contender = |subject: &Subject, contender, backend| LoadContender {
        rate: Rate {
            subject: subject.name,
            contender,
            per_second: Vec::new(),
        },
        backend,
    };
    let socket = |address, request| Backend::Socket { address, request };
    let (small, heavy) = (&subjects.small, &subjects.heavy);
    let request = || small.plain("/models/small/predict");
    let process = latency::echo(small, &request(), unix, bare)?;
    let echo = process.address();
    // Compared contenders are neighbours in the order, since the machine's speed changes within
    // seconds.
    let mut contenders = vec![
        contender(small, BARE, Backend::None(small)),
        contender(small, ECHO, socket(&echo, request())),
        contender(small, UNIX, socket(unix, request())),
        contender(small, TCP, socket(tcp, request())),
    ];
    for server in others {
        let backend = socket(&server.addresses[0], small.plain("/predict"));
        contenders.push(contender(small, server.name, backend));
    }
    let request = heavy.plain("/models/heavy/predict");
    contenders.push(contender(heavy, BARE, Backend::None(heavy)));
    contenders.push(contender(heavy, UNIX, socket(unix, request)));
    for _ in 0..ROUNDS {
        for LoadContender { rate, backend } in &mut contenders {
            rate.per_second.push(match backend {
                Backend::None(subject) => bare.rate(subject, CLIENTS, ROUND)?,
                Backend::Socket { address, request } => {
                    round(address, request).context(rate.contender)?
                }
            });
        }
    }
    Ok(contenders.into_iter().map(|one| one.rate).collect())
}

/// Responses per second.
fn round(address: &Address, request: &[u8]) -> Result<f64> {
    let clients = (0..CLIENTS).map(|_| Client::connect(address));
    let clients = clients.collect::<Result<Vec<Client>>>()?;
    let started = Instant::now();
    let counts = thread::scope(|scope| {
        let threads: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                scope.spawn(move || {
                    let mut count = 0.0;
                    while started.elapsed() < ROUND {
                        client.ask(request)?;
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
