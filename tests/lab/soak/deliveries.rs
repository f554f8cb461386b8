//! Environments under faults, whose metrics are compared with their clients' counts.
//!
//! All environments run in rounds. A round has a fault of `CloudWatch` and one of S3. In it, each environment has
//! requests, and then possibly an event: a freeze in a request, a crash, a reset, a shutdown, or SIGKILL.
//! Between two rounds all are frozen, and up to hours pass. At the end, the sums in `CloudWatch` and in the log, in
//! Embedded Metric Format, must be the clients' counts.
//!
//! Two causes of a difference are accounted for exactly. SIGKILL of the sidecar loses what it had not delivered; that
//! loss is computed before the next request. A request whose response was cut off by a crash may have been counted.

mod cost;
pub mod counts;
mod member;
mod request;

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::join_all;

use crate::cloudwatch::CloudWatch;
use crate::gate::Gate;
use crate::s3::{Rule, S3Server};

pub use cost::{DeliveryCost, SteadyTraffic};
use counts::Counts;
pub use member::{EventCounts, Loss, Member};
use member::{MemberEvent, count};

const BUCKET: &str = "models";
const KEY: &str = "wine/model.onnx";
const FILES: [&str; 2] = ["wine-v1.onnx", "wine-v2.onnx"];
/// Durations of the freezes between rounds, in seconds.
const FREEZES: [u64; 5] = [1, 70, 1_200, 3_600, 20_000];
/// Rounds between two new versions of the model.
const VERSION_ROUNDS: usize = 9;
/// Requests to `CloudWatch` that fail in a round at most.
const MANY: usize = 100_000;

/// Fault of `CloudWatch` in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CloudWatchFault {
    None,
    /// Every request gets this status and error code.
    Status(u16, &'static str),
    /// Requests wait until the round is over.
    Stalled,
    /// The port is closed.
    Unreachable,
}

impl CloudWatchFault {
    /// Fault of a round. An outage of six rounds makes the sidecars write to the log.
    fn of(round: usize) -> Self {
        match round % 25 {
            2 => Self::Status(500, "InternalFailure"),
            4 => Self::Status(400, "Throttling"),
            6 | 15..=20 => Self::Unreachable,
            8 => Self::Stalled,
            10 => Self::Status(403, "AccessDenied"),
            12 | 23 => Self::Status(503, "ServiceUnavailable"),
            _ => Self::None,
        }
    }
}

/// Fault of S3 in a round.
fn s3_fault(round: usize, size: u64) -> Option<Rule> {
    let on = || Rule::on("GET");
    Some(match round % 6 {
        1 => on().first(8).status(503, "SlowDown"),
        2 => on().first(4).reset_after(size / 2),
        3 => on().first(2).flip(size / 3),
        4 => on().first(8).latency(Duration::from_millis(150)),
        _ => return None,
    })
}

/// The fleet with its servers.
pub struct Deliveries {
    s3: S3Server,
    cloudwatch: CloudWatch,
    members: Vec<Member>,
    /// Time that passed in freezes.
    ahead: Duration,
    round: usize,
    progress: Vec<Progress>,
}

/// Inferences so far at the end of a round.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Counted by the clients.
    pub counted: f64,
    /// Sum in `CloudWatch`.
    pub cloudwatch: f64,
    /// Sum in the log.
    pub log: f64,
    /// Lost by SIGKILL.
    pub lost: f64,
    /// `true` if requests to `CloudWatch` failed in the round.
    pub has_fault: bool,
}

/// Results after the shutdown of all environments.
pub struct DeliveryTotals {
    /// Members with their events.
    pub members: Vec<Member>,
    counts: Vec<MemberCounts>,
    /// The server with all deliveries.
    pub cloudwatch: CloudWatch,
    /// Progress by round.
    pub progress: Vec<Progress>,
    /// Time that passed in freezes.
    pub passed: Duration,
    /// Requests to S3 that failed.
    pub s3_failures: usize,
}

impl Deliveries {
    /// Starts the servers, and prepares this many environments. The first requests create them.
    pub async fn start(members: usize) -> Result<Self> {
        let s3 = S3Server::start().await?;
        s3.put(BUCKET, KEY, model(0)?);
        let cloudwatch = CloudWatch::start().await?;
        let uri = format!("s3://{BUCKET}/{KEY}");
        let mut all = Vec::new();
        for number in 0..members {
            all.push(Member::start(number, &s3, &cloudwatch, &uri).await?);
        }
        Ok(Self {
            s3,
            cloudwatch,
            members: all,
            ahead: Duration::ZERO,
            round: 0,
            progress: Vec::new(),
        })
    }

    /// Runs a round, in which each environment has this many requests. The last round has no fault and no event.
    pub async fn round(&mut self, requests: usize, is_last: bool) -> Result<()> {
        let round = self.round;
        self.round += 1;
        if round % VERSION_ROUNDS == VERSION_ROUNDS - 1 {
            self.s3.put(BUCKET, KEY, model(round / VERSION_ROUNDS % 2)?);
        }
        let fault = if is_last {
            CloudWatchFault::None
        } else {
            CloudWatchFault::of(round)
        };
        let gate = Gate::new();
        match fault {
            CloudWatchFault::None => {}
            CloudWatchFault::Status(status, code) => self.cloudwatch.fail_next(MANY, status, code),
            CloudWatchFault::Stalled => self.cloudwatch.stall(&gate),
            CloudWatchFault::Unreachable => self.cloudwatch.down().await,
        }
        let size = model(0)?.len() as u64;
        if let Some(rule) = s3_fault(round, size).filter(|_| !is_last) {
            self.s3.fail(rule);
        }
        let cloudwatch = &self.cloudwatch;
        let rounds = self.members.iter_mut().enumerate().map(|(number, member)| {
            let event = if is_last {
                MemberEvent::None
            } else {
                MemberEvent::of(number, round)
            };
            member.round(requests, event, cloudwatch)
        });
        join_all(rounds).await.into_iter().collect::<Result<()>>()?;
        self.pass(round).await?;
        self.cloudwatch.heal();
        self.cloudwatch.up().await?;
        self.s3.heal();
        self.note_progress(fault != CloudWatchFault::None);
        Ok(())
    }

    /// Freezes all environments, and lets time pass.
    async fn pass(&mut self, round: usize) -> Result<()> {
        let time = Duration::from_secs(FREEZES[round % FREEZES.len()]);
        self.ahead += time;
        let ahead = self.ahead;
        let passes = self.members.iter_mut().map(|member| member.pass(ahead));
        join_all(passes).await.into_iter().collect::<Result<()>>()?;
        self.s3.let_pass();
        self.cloudwatch.let_pass(time);
        Ok(())
    }

    fn note_progress(&mut self, has_fault: bool) {
        let mut progress = Progress {
            counted: 0.0,
            cloudwatch: 0.0,
            log: 0.0,
            lost: 0.0,
            has_fault,
        };
        for member in &mut self.members {
            member.read_log();
            progress.counted += member.inferences();
            progress.cloudwatch += member.sent(&self.cloudwatch).get("Inferences");
            progress.cloudwatch -= member.repeated(&self.cloudwatch).get("Inferences");
            progress.log += member.logged.get("Inferences");
            progress.lost += member.lost.get("Inferences");
        }
        self.progress.push(progress);
    }

    /// Shuts all environments down. `CloudWatch` is unreachable for every second one.
    pub async fn end(mut self) -> Result<DeliveryTotals> {
        for member in &mut self.members {
            member.settle(&self.cloudwatch);
        }
        let (even, odd): (Vec<_>, Vec<_>) = self
            .members
            .iter_mut()
            .enumerate()
            .partition(|(number, _)| number.is_multiple_of(2));
        join_all(even.into_iter().map(|(_, member)| member.end())).await;
        self.cloudwatch.down().await;
        join_all(odd.into_iter().map(|(_, member)| member.end())).await;
        self.note_progress(false);
        let counts = self
            .members
            .iter()
            .map(|member| MemberCounts::of(member, &self.cloudwatch))
            .collect();
        let failed = self
            .s3
            .requests()
            .into_iter()
            .filter(|one| one.status.is_some_and(|status| status >= 500));
        Ok(DeliveryTotals {
            counts,
            s3_failures: failed.count(),
            members: self.members,
            cloudwatch: self.cloudwatch,
            progress: self.progress,
            passed: self.ahead,
        })
    }
}

/// Counts of one member.
struct MemberCounts {
    /// Counts of the clients and of the platform.
    all: Counts,
    /// The same without the loss by SIGKILL.
    expected: Counts,
    sent: Counts,
    repeated: Counts,
    logged: Counts,
    lost: Counts,
    uncertain: Counts,
}

impl MemberCounts {
    fn of(member: &Member, cloudwatch: &CloudWatch) -> Self {
        Self {
            all: member.all(),
            expected: member.expected(),
            sent: member.sent(cloudwatch),
            repeated: member.repeated(cloudwatch),
            logged: member.logged.clone(),
            lost: member.lost.clone(),
            uncertain: member.uncertain.clone(),
        }
    }
}

/// Comparison of one metric over all members.
#[derive(Clone, Copy, Debug, Default)]
pub struct Balance {
    /// Count of the clients.
    pub counted: f64,
    /// Sum in `CloudWatch`, with repetitions.
    pub cloudwatch: f64,
    /// Sum of the data that `CloudWatch` accepted twice.
    pub repeated: f64,
    /// Sum in the log.
    pub log: f64,
    /// Loss by SIGKILL.
    pub lost: f64,
    /// Counts that may be missing in `counted`.
    pub uncertain: f64,
    /// Sum over the members of what the metrics lack.
    pub missing: f64,
    /// Sum over the members of what the metrics have in excess.
    pub surplus: f64,
}

impl DeliveryTotals {
    /// Compares one metric, member by member.
    #[must_use]
    pub fn balance(&self, metric: &str) -> Balance {
        let mut sum = Balance::default();
        for counts in &self.counts {
            let of = |counts: &Counts| counts.get(metric);
            let delivered = of(&counts.sent) - of(&counts.repeated) + of(&counts.logged);
            let expected = of(&counts.expected);
            sum.counted += of(&counts.all);
            sum.cloudwatch += of(&counts.sent);
            sum.repeated += of(&counts.repeated);
            sum.log += of(&counts.logged);
            sum.lost += of(&counts.lost);
            sum.uncertain += of(&counts.uncertain);
            sum.missing += (expected - delivered).max(0.0);
            sum.surplus += (delivered - expected - of(&counts.uncertain)).max(0.0);
        }
        sum
    }

    /// Losses of all SIGKILLs.
    pub fn losses(&self) -> impl Iterator<Item = &Loss> {
        self.members.iter().flat_map(|member| &member.losses)
    }

    /// Requests that failed without a reason, and invalid lines of logs.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let all = self.members.iter().flat_map(|member| &member.failures);
        all.cloned().collect()
    }

    /// Number of requests of all clients.
    #[must_use]
    pub fn requests(&self) -> f64 {
        self.members
            .iter()
            .map(|member| count(member.requests()))
            .sum()
    }
}

fn model(file: usize) -> Result<Vec<u8>> {
    let path = crate::artifacts::workspace()
        .join("tests/models")
        .join(FILES[file]);
    std::fs::read(&path).with_context(|| path.display().to_string())
}
