//! An hour frozen without invocations, and the state after it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::cloudwatch::CloudWatch;
use lab::s3::S3Server;

use super::servers::put;
use super::{Demo, SHOWN, ms};
use crate::console::Console;
use crate::lambda::{Lambda, Monotonic};
use crate::wine::{self, PredictResponse, Wines};

const HOUR: Duration = Duration::from_secs(3600);
/// Maximum time to wait for version 3, invocation after invocation.
const LIMIT: Duration = Duration::from_secs(10);

/// A function before the hour.
struct Frozen<'a> {
    lambda: &'a Lambda,
    /// Duration of the last response.
    answered: Duration,
    /// Number of open connections to S3 that were cut.
    cut: usize,
}

/// State after the hour.
struct Woken {
    /// Duration of the first response.
    answered: Duration,
    /// Number of the version that responded first, 2 or 3.
    by: u8,
    /// Status of S3's response to the poll.
    status: u16,
    /// Time for which the sidecar delayed the end of that invocation.
    tail: Duration,
    /// Number of the first invocation with version 3.
    from: u64,
    /// Name of version 3.
    third: String,
}

impl Demo {
    pub(super) async fn freeze(
        &mut self,
        console: &mut Console,
        s3: &S3Server,
        cloudwatch: &CloudWatch,
    ) -> Result<()> {
        console.step(
            "An hour frozen",
            "Without invocations all processes are frozen. An hour passes on their clock, connections \
             to S3 are cut, and version 3 (version 1's file again) is uploaded. AWS does not \
             document the monotonic clock in a freeze, so a second function has the other kind.",
        );
        let second = self.versions[1].clone();
        let none = vec![("MODEL_METRICS".to_owned(), "none".to_owned())];
        let other = Lambda::start(s3, Monotonic::Jumps, none).await?;
        self.other
            .insert(other)
            .ask(&self.wines.request(&SHOWN))
            .await?;

        let mut frozen = Vec::new();
        for lambda in self.lambdas() {
            frozen.push(Frozen::freeze(lambda, &self.wines, &second).await?);
        }
        s3.let_pass();
        cloudwatch.let_pass(HOUR);
        Box::pin(put(s3, wine::V1)).await?;

        console.head(&format!(
            "{:<15} {:>4} {:>15} {:>12} {:>5} {:>8} {:>9}",
            "monotonic clock", "cut", "response before", "after", "from", "S3", "tail"
        ));
        let mut found = Vec::new();
        for frozen in &frozen {
            let waking = || "the first invocations after the hour".to_owned();
            let work = frozen.wake(&self.wines, s3, &second);
            let woken = console.during(waking, work).await?;
            frozen.print(&woken, console);
            found.push(woken);
        }
        let [here, other] = <[Woken; 2]>::try_from(found)
            .ok()
            .context("fewer than two functions")?;
        ensure!(
            here.third == other.third,
            "the two functions differ in version 3: {} and {}",
            here.third,
            other.third
        );
        // The last invocation before the hour, and all after it.
        self.asked += 1 + here.from;
        let from = if here.from == other.from {
            format!("from invocation {} on", here.from)
        } else {
            format!("from invocation {} and {} on", here.from, other.from)
        };
        console.verified(&format!(
            "the first response was correct; in parallel the sidecar polled S3 over a new \
             connection and loaded version 3 ({}), which was active {from}",
            here.third
        ));
        console.paragraph(
            "Responses are timed from their events. The tail is the time for which the sidecar then \
             held the invocation open; the first function's metrics were sent in parallel.",
        );
        self.versions.push(here.third);
        Ok(())
    }
}

impl<'a> Frozen<'a> {
    /// Sends the last request; waits until Lambda has frozen everything, and lets the hour pass.
    async fn freeze(lambda: &'a Lambda, wines: &Wines, second: &str) -> Result<Self> {
        let environment = lambda.environment()?;
        environment.wait_until_frozen().await?;
        let (answer, answered) = timed(lambda, wines).await?;
        ensure!(
            answer.model_version == second,
            "version {} responded before the hour, not {second}",
            answer.model_version
        );
        answer.compare(&wines.v2, &SHOWN)?;
        environment.wait_until_frozen().await?;
        let cut = lambda.link.connections();
        lambda.link.cut();
        lambda.link.wait_for_connections(0).await?;
        environment.let_pass(HOUR).await?;
        Ok(Self {
            lambda,
            answered,
            cut,
        })
    }

    /// Invokes until version 3 responds.
    async fn wake(&self, wines: &Wines, s3: &S3Server, second: &str) -> Result<Woken> {
        let Self { lambda, .. } = self;
        let process = lambda.sidecar()?;
        let asked = s3.requests().len();
        let connections = lambda.link.accepted();
        let ended = lambda.function.reports().len();
        let (mut answer, answered) = timed(lambda, wines).await?;
        let reports = lambda.function.wait_for_reports(ended + 1).await?;
        let tail = reports[ended].post_runtime_extensions;
        let by = if answer.model_version == second { 2 } else { 3 };

        let checked = s3.wait_for_requests("the poll after the hour", |requests| {
            requests[asked..].iter().any(|one| one.status.is_some())
        });
        let check = checked.await?.swap_remove(asked);
        ensure!(
            check.if_none_match.is_some(),
            "the first request after the hour is not a poll: {check:?}"
        );
        ensure!(
            check.status == Some(200),
            "S3 did not respond to the poll with version 3: {check:?}"
        );
        ensure!(
            lambda.link.accepted() > connections,
            "S3 was polled over a connection from before the hour"
        );

        let begun = Instant::now();
        let mut from = 1;
        while answer.model_version == second {
            ensure!(
                begun.elapsed() < LIMIT,
                "after {from} invocations version 2 is still active"
            );
            answer.compare(&wines.v2, &SHOWN)?;
            answer = timed(lambda, wines).await?.0;
            from += 1;
        }
        answer.compare(&wines.v1, &SHOWN)?;
        ensure!(lambda.sidecar()? == process, "the sidecar was restarted");
        Ok(Woken {
            answered,
            by,
            status: check.status.context("the poll has no response")?,
            tail,
            from,
            third: answer.model_version,
        })
    }

    fn print(&self, woken: &Woken, console: &Console) {
        console.row(&format!(
            "{:<15} {:>4} {:>15} {:>12} {:>5} {:>8} {:>9}",
            self.lambda.clock,
            self.cut,
            ms(self.answered),
            ms(woken.answered),
            format!("v{}", woken.by),
            woken.status,
            ms(woken.tail)
        ));
    }
}

/// A response, and its duration from the event on.
async fn timed(lambda: &Lambda, wines: &Wines) -> Result<(PredictResponse, Duration)> {
    let answer = lambda.ask(&wines.request(&SHOWN)).await?;
    Ok((answer, lambda.took()?))
}
