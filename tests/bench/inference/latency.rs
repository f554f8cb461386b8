//! Sequential requests: back to back, and infrequent.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::client::{Address, Client};
use super::contenders::{Bare, ServerProcess};
use super::echo::Echo;
use super::subject::Subject;
use super::{BARE, ECHO, RARE, Subjects, TCP, Times, UNIX, UNIX_BUFFERED, UNIX_JSON};
use crate::figures::percentile;

/// Timing of sequential requests.
#[derive(Clone, Copy)]
struct Pace {
    /// Number of requests per turn of a contender.
    turn: usize,
    /// Pause before each request.
    pause: Duration,
}

/// Each request follows the last response at once.
const CLOSE: Pace = Pace {
    turn: 100,
    pause: Duration::ZERO,
};

/// Infrequent enough for CPUs to sleep and caches to go cold; turns end before uvicorn closes the
/// idle connections of the others.
const SELDOM: Pace = Pace {
    turn: 20,
    pause: Duration::from_millis(20),
};

/// A caller with an open connection that repeats one request.
struct TimedCaller {
    times: Times,
    client: Client,
    request: Vec<u8>,
}

impl TimedCaller {
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

    fn ask(&mut self, count: usize, pace: Pace) -> Result<()> {
        for _ in 0..count {
            pace.wait();
            let started = Instant::now();
            self.client.ask(&self.request)?;
            let time = started.elapsed().as_secs_f64() * 1e6;
            self.times.microseconds.push(time);
        }
        Ok(())
    }
}

impl Pace {
    fn wait(self) {
        if !self.pause.is_zero() {
            std::thread::sleep(self.pause);
        }
    }
}

/// Starts a socket with the sidecar's response to `request`, busy for as long as the model alone runs.
pub(super) fn echo(
    subject: &Subject,
    request: &[u8],
    sidecar: &Address,
    bare: &mut Bare,
) -> Result<Echo> {
    let response = Client::connect(sidecar)?.ask(request)?.to_vec();
    // The first turn warms caches and the CPU.
    bare.times(subject, CLOSE.turn)?;
    let run = percentile(&bare.times(subject, CLOSE.turn)?, 50.0);
    Echo::start(&response, Duration::from_secs_f64(run / 1e6))
}

/// `calls` of each contender with the small model, a quarter of them with the image, and a tenth
/// infrequent.
pub(super) fn measure(
    subjects: &Subjects,
    sidecar: &ServerProcess,
    bare: &mut Bare,
    others: &[ServerProcess],
    calls: usize,
) -> Result<Vec<Times>> {
    let [unix @ Address::Unix(path), tcp] = &sidecar.addresses[..] else {
        anyhow::bail!("the sidecar has a Unix socket and a TCP port");
    };
    let small = &subjects.small;
    let plain = small.plain("/models/small/predict");
    let all_of_small = |echo: &Echo| -> Result<Vec<TimedCaller>> {
        let mut callers = vec![
            TimedCaller::new(small, ECHO, &echo.address(), plain.clone())?,
            TimedCaller::new(small, UNIX, unix, plain.clone())?,
            TimedCaller::new(small, TCP, tcp, plain.clone())?,
        ];
        for server in others {
            let request = small.plain("/predict");
            callers.push(TimedCaller::new(
                small,
                server.name,
                &server.addresses[0],
                request,
            )?);
        }
        Ok(callers)
    };
    let image = &subjects.image;
    let binary = image.binary();
    let small_echo = echo(small, &plain, unix, bare)?;
    let image_echo = echo(image, &binary, unix, bare)?;
    let mut all = in_turns(small, all_of_small(&small_echo)?, bare, calls, CLOSE)?;
    let seldom = all_of_small(&small_echo)?;
    let seldom = in_turns(small, seldom, bare, calls.div_ceil(10), SELDOM)?;
    all.extend(seldom.into_iter().map(|times| Times {
        subject: RARE,
        ..times
    }));
    let buffered = Address::BufferedUnix(path.clone());
    let callers = vec![
        TimedCaller::new(image, ECHO, &image_echo.address(), binary.clone())?,
        TimedCaller::new(image, UNIX, unix, binary.clone())?,
        TimedCaller::new(image, UNIX_BUFFERED, &buffered, binary.clone())?,
        TimedCaller::new(image, TCP, tcp, binary)?,
        TimedCaller::new(image, UNIX_JSON, unix, image.v2())?,
    ];
    all.extend(in_turns(image, callers, bare, calls.div_ceil(4), CLOSE)?);
    Ok(all)
}

fn in_turns(
    subject: &Subject,
    mut callers: Vec<TimedCaller>,
    bare: &mut Bare,
    requests: usize,
    pace: Pace,
) -> Result<Vec<Times>> {
    let mut alone = Times {
        subject: subject.name,
        contender: BARE,
        microseconds: Vec::new(),
    };
    // Warms caches, the allocator's lists and the CPU.
    bare.times(subject, CLOSE.turn)?;
    for caller in &mut callers {
        caller.ask(CLOSE.turn, CLOSE)?;
        caller.times.microseconds.clear();
    }
    for from in (0..requests).step_by(pace.turn) {
        let count = pace.turn.min(requests - from);
        // Back-to-back runs are issued in one command.
        let at_once = if pace.pause.is_zero() { count } else { 1 };
        for _ in (0..count).step_by(at_once) {
            pace.wait();
            alone.microseconds.extend(bare.times(subject, at_once)?);
        }
        for caller in &mut callers {
            caller.ask(count, pace)?;
        }
    }
    let callers = callers.into_iter().map(|caller| caller.times);
    Ok([alone].into_iter().chain(callers).collect())
}
