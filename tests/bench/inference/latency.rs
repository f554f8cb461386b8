//! One request at a time: on the heels of the last answer, and seldom.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::client::{Address, Client};
use super::contenders::{Bare, Server};
use super::echo::Echo;
use super::subject::Subject;
use super::{BARE, ECHO, RARE, Subjects, TCP, Times, UNIX, UNIX_JSON};
use crate::figures::percentile;

/// In turns of so many.
const TURN: usize = 100;
/// Before each request of a caller who comes seldom: CPUs sleep, and caches belong to others.
const PAUSE: Duration = Duration::from_millis(20);

/// Somebody with an open connection who is asked the same thing each time.
struct Caller {
    times: Times,
    client: Client,
    request: Vec<u8>,
}

impl Caller {
    fn new(
        subject: &Subject,
        contender: &'static str,
        address: &Address,
        request: Vec<u8>,
    ) -> Result<Self> {
        let mut client = Client::connect(address)?;
        let answer = client.ask(&request).context(contender)?;
        subject.check(answer).context(contender)?;
        Ok(Self {
            times: Times {
                subject: subject.name,
                contender,
                microseconds: Vec::new(),
            },
            client,
            request,
        })
    }

    fn ask(&mut self, count: usize, pause: Duration) -> Result<()> {
        for _ in 0..count {
            sleep(pause);
            let started = Instant::now();
            self.client.ask(&self.request)?;
            let time = started.elapsed().as_secs_f64() * 1e6;
            self.times.microseconds.push(time);
        }
        Ok(())
    }
}

/// Sleeps, unless there is no time for it.
fn sleep(time: Duration) {
    if !time.is_zero() {
        std::thread::sleep(time);
    }
}

/// `calls` of each contender with the small model, a quarter of them with the image, and a tenth seldom.
pub(super) fn measure(
    subjects: &Subjects,
    sidecar: &Server,
    bare: &mut Bare,
    others: &[(&'static str, Server)],
    calls: usize,
) -> Result<Vec<Times>> {
    let [unix, tcp] = &sidecar.addresses[..] else {
        anyhow::bail!("the sidecar has two sockets");
    };
    let mut ready = |subject: &Subject, request: &[u8]| -> Result<Echo> {
        let answer = Client::connect(unix)?.ask(request)?.to_vec();
        bare.times(subject, TURN)?;
        let run = percentile(&bare.times(subject, TURN)?, 50.0);
        Echo::start(&answer, Duration::from_secs_f64(run / 1e6))
    };
    let small = &subjects.small;
    let plain = small.plain("/models/small/predict");
    let all_of_small = |echo: &Echo| -> Result<Vec<Caller>> {
        let mut callers = vec![
            Caller::new(small, ECHO, &echo.address(), plain.clone())?,
            Caller::new(small, UNIX, unix, plain.clone())?,
            Caller::new(small, TCP, tcp, plain.clone())?,
        ];
        for (name, server) in others {
            let request = small.plain("/predict");
            callers.push(Caller::new(small, name, &server.addresses[0], request)?);
        }
        Ok(callers)
    };
    let image = &subjects.image;
    let binary = image.binary();
    // Each has one caller.
    let [echo, rare_echo] = [ready(small, &plain)?, ready(small, &plain)?];
    let image_echo = ready(image, &binary)?;
    let mut all = in_turns(small, all_of_small(&echo)?, bare, calls, Duration::ZERO)?;
    let seldom = in_turns(
        small,
        all_of_small(&rare_echo)?,
        bare,
        calls.div_ceil(10),
        PAUSE,
    )?;
    all.extend(seldom.into_iter().map(|times| Times {
        subject: RARE,
        ..times
    }));
    let callers = vec![
        Caller::new(image, ECHO, &image_echo.address(), binary.clone())?,
        Caller::new(image, UNIX, unix, binary.clone())?,
        Caller::new(image, TCP, tcp, binary)?,
        Caller::new(image, UNIX_JSON, unix, image.v2())?,
    ];
    all.extend(in_turns(
        image,
        callers,
        bare,
        calls.div_ceil(4),
        Duration::ZERO,
    )?);
    Ok(all)
}

/// So many requests of each, each after a pause.
fn in_turns(
    subject: &Subject,
    mut callers: Vec<Caller>,
    bare: &mut Bare,
    requests: usize,
    pause: Duration,
) -> Result<Vec<Times>> {
    let mut alone = Times {
        subject: subject.name,
        contender: BARE,
        microseconds: Vec::new(),
    };
    // What is warm afterwards: caches, the allocator's lists, the CPU.
    bare.times(subject, TURN)?;
    for caller in &mut callers {
        caller.ask(TURN, Duration::ZERO)?;
        caller.times.microseconds.clear();
    }
    for from in (0..requests).step_by(TURN) {
        let count = TURN.min(requests - from);
        if pause.is_zero() {
            alone.microseconds.extend(bare.times(subject, count)?);
        } else {
            for _ in 0..count {
                sleep(pause);
                alone.microseconds.extend(bare.times(subject, 1)?);
            }
        }
        for caller in &mut callers {
            caller.ask(count, pause)?;
        }
    }
    let callers = callers.into_iter().map(|caller| caller.times);
    Ok([alone].into_iter().chain(callers).collect())
}
