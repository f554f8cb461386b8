//! One execution environment with its clients: requests, events, and the comparison of their counts with the metrics.
//!
//! The environment is the only one of a function of its own, so that the dimension `FunctionName` tells its metrics
//! apart. After a shutdown, the next request creates another environment.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::counts::Counts;
use super::request::{Request, classes};
use crate::cloudwatch::{CloudWatch, Filter, emf};
use crate::lambda::{Clock, Environment, Function, Invocation, ShutdownReason, State};
use crate::s3::S3Server;

/// Name of the sidecar's process, and of the handler's.
const SIDECAR: &str = "model-sidecar";
const HANDLER: &str = "bootstrap";
/// Duration of a freeze within an invocation.
const SHORT_FREEZE: Duration = Duration::from_secs(5);

/// Event of an environment at the end of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberEvent {
    /// The round ends with an ordinary freeze.
    None,
    /// A freeze in the middle of a request.
    FreezeInRequest,
    /// SIGKILL of the function's process during a request, which leads to a reset.
    Crash,
    /// A reset, with SHUTDOWN.
    Reset(ShutdownReason),
    /// The removal of the environment, with SHUTDOWN.
    Shutdown,
    /// SIGKILL of the sidecar.
    Kill,
}

impl MemberEvent {
    /// Event of a member in a round. Each fourth member has kills.
    pub(super) fn of(member: usize, round: usize) -> Self {
        match (round * 7 + member * 3) % 20 {
            2 => Self::Reset(ShutdownReason::Timeout),
            5 | 15 => Self::FreezeInRequest,
            8 => Self::Crash,
            10 => Self::Reset(ShutdownReason::Failure),
            12 | 17 if member.is_multiple_of(4) => Self::Kill,
            18 => Self::Shutdown,
            _ => Self::None,
        }
    }
}

/// Loss of one SIGKILL, in inference requests.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Requests that no metric counts.
    pub lost: f64,
    /// Requests since the last delivery that arrived.
    pub since_delivery: f64,
}

/// An environment with its clients.
pub struct Member {
    function: Function,
    /// All environments so far; the last one is current.
    environments: Vec<Arc<Environment>>,
    /// Time passed in freezes of the current environment.
    passed: Duration,
    asked: usize,
    /// `true` if a process was killed, so that the next request may fail.
    is_broken: bool,
    /// Requests since the last delivery, if the sidecar was killed and its loss is not known yet.
    unsettled: Option<f64>,
    /// Inferences at the start of this round and of the last one.
    at_rounds: [f64; 2],
    /// Inferences at the start of the round of the last delivery.
    at_delivery: f64,
    delivered: f64,
    /// Counts of the clients.
    counted: Counts,
    /// Counts of requests whose result the clients do not know.
    pub uncertain: Counts,
    /// Counts that a SIGKILL lost.
    pub lost: Counts,
    /// Loss of each SIGKILL.
    pub losses: Vec<Loss>,
    /// Number of each other event.
    pub events: EventCounts,
    /// Counts in the log.
    pub logged: Counts,
    log_mark: usize,
    /// Requests that failed without a reason, and invalid lines of the log.
    pub failures: Vec<String>,
}

/// Number of events.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventCounts {
    /// Freezes in the middle of a request.
    pub freezes_in_requests: u32,
    /// Resets after a crash of the function's process.
    pub crashes: u32,
    /// Other resets.
    pub resets: u32,
    /// Removed environments.
    pub shutdowns: u32,
}

impl Member {
    pub(super) async fn start(
        number: usize,
        s3: &S3Server,
        cloudwatch: &CloudWatch,
        uri: &str,
    ) -> Result<Self> {
        let metrics = if number % 5 == 3 { "emf" } else { "cloudwatch" };
        let handler = if number % 4 == 3 { "attach" } else { "forward" };
        let mut builder = Function::staged()?
            .envs(s3.env())
            .envs(cloudwatch.env())
            .env("AWS_LAMBDA_FUNCTION_NAME", name(number))
            .env("MODEL_URI", uri)
            .env("MODEL_NAME", "wine")
            .env("MODEL_PORT", "0")
            .env("MODEL_HANDLER", handler)
            .env("MODEL_METRICS", metrics)
            .env("MODEL_METRICS_SET", "all")
            .timeout(Duration::from_secs(30))
            // Several environments may start on one CPU.
            .init_limit(Duration::from_secs(60))
            .max_environments(1)
            .clock(if number % 4 < 2 {
                Clock::Jumps
            } else {
                Clock::StandsStill
            });
        if number % 3 == 1 {
            // A flush is frozen while in progress.
            builder = builder.env("MODEL_TAIL_BUDGET", "0");
        }
        Ok(Self {
            function: builder.start().await?,
            environments: Vec::new(),
            passed: Duration::ZERO,
            asked: 0,
            is_broken: false,
            unsettled: None,
            at_rounds: [0.0; 2],
            at_delivery: 0.0,
            delivered: 0.0,
            counted: Counts::default(),
            uncertain: Counts::default(),
            lost: Counts::default(),
            losses: Vec::new(),
            events: EventCounts::default(),
            logged: Counts::default(),
            log_mark: 0,
            failures: Vec::new(),
        })
    }

    /// Sends the requests of a round, followed by the event.
    pub(super) async fn round(
        &mut self,
        requests: usize,
        event: MemberEvent,
        cloudwatch: &CloudWatch,
    ) -> Result<()> {
        self.settle(cloudwatch);
        self.at_rounds = [self.counted.get("Inferences"), self.at_rounds[0]];
        for _ in 0..requests {
            self.ask().await;
        }
        self.happen(event, cloudwatch).await
    }

    async fn ask(&mut self) {
        let request = self.next();
        let invocation = self.function.invoke(&request.event).await;
        self.judge(&request, &invocation);
    }

    fn next(&mut self) -> Request {
        self.asked += 1;
        Request::of(self.asked)
    }

    /// Adds the response of a request to the clients' counts.
    fn judge(&mut self, request: &Request, invocation: &Invocation) {
        self.follow();
        let expects_failure = std::mem::take(&mut self.is_broken);
        let error = invocation.function_error();
        let kind = error.as_ref().map(|error| error.error_type.as_str());
        match kind {
            None => match classes(invocation.json.as_ref()) {
                Some(classes) => self.counted.add(&Counts::of_success(&classes)),
                None => self.failures.push(invocation.text()),
            },
            Some("Model.BadRequest" | "Model.Unprocessable") if request.rows == 0 => {
                self.counted.add_to("RejectedRequests", 1.0);
            }
            Some(kind) => {
                self.uncertain.add(&request.uncertain());
                if !expects_failure || kind.starts_with("Model.") {
                    self.failures.push(format!("{error:?}"));
                }
            }
        }
    }

    /// Notes the current environment.
    fn follow(&mut self) {
        let Some(current) = self.function.environment() else {
            return;
        };
        let known = self.environments.last().map(|one| one.number());
        if known != Some(current.number()) {
            self.environments.push(current);
            self.passed = Duration::ZERO;
        }
    }

    fn environment(&self) -> Result<&Arc<Environment>> {
        self.environments
            .last()
            .context("no environment was created")
    }

    async fn happen(&mut self, event: MemberEvent, cloudwatch: &CloudWatch) -> Result<()> {
        if matches!(event, MemberEvent::FreezeInRequest | MemberEvent::Crash) {
            self.interrupt(event).await?;
        }
        let environment = Arc::clone(self.environment()?);
        if environment.state() != State::Empty {
            let settled = [State::Idle, State::Empty];
            environment.wait_until_one_of(&settled).await?;
        }
        self.note_delivery(cloudwatch);
        match event {
            MemberEvent::Reset(reason) => {
                environment.reset(reason).await?;
                self.events.resets += 1;
            }
            MemberEvent::Shutdown => {
                environment.shutdown(ShutdownReason::Spindown).await?;
                self.events.shutdowns += 1;
            }
            MemberEvent::Kill if environment.state() == State::Idle => {
                environment.kill(SIDECAR, Signal::SIGKILL)?;
                let since = self.counted.get("Inferences") - self.at_delivery;
                self.unsettled = Some(since);
                // The platform notices at the next request, which fails, and resets the environment.
                self.is_broken = true;
                let request = self.next();
                let invocation = self.function.invoke(&request.event).await;
                ensure!(
                    invocation.function_error().is_some(),
                    "a killed sidecar responded"
                );
                self.is_broken = false;
                environment.wait_until_one_of(&[State::Empty]).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends a request, and interrupts it by the event.
    async fn interrupt(&mut self, event: MemberEvent) -> Result<()> {
        let request = self.next();
        let response = self.interrupted(&request, event).await?;
        if event == MemberEvent::FreezeInRequest {
            self.events.freezes_in_requests += 1;
            self.passed += SHORT_FREEZE;
            self.judge(&request, &response);
            return Ok(());
        }
        self.events.crashes += 1;
        self.is_broken = true;
        self.judge(&request, &response);
        // If the response came first, the next request finds the function's process gone.
        self.is_broken = true;
        Ok(())
    }

    /// Sends a request, and freezes its environment or kills the function's process before the response.
    async fn interrupted(&self, request: &Request, event: MemberEvent) -> Result<Invocation> {
        let environment = self.environment()?;
        let mut pending = pin!(self.function.invoke(&request.event));
        let early = tokio::select! {
            response = &mut pending => Some(response),
            begun = environment.wait_until(State::Invoke) => {
                begun?;
                None
            }
        };
        if event == MemberEvent::FreezeInRequest {
            environment.freeze().await?;
            environment.let_pass(SHORT_FREEZE).await?;
            environment.thaw().await?;
        } else {
            // An error means that the process has ended.
            let _ = environment.kill(HANDLER, Signal::SIGKILL);
        }
        Ok(match early {
            Some(response) => response,
            None => pending.await,
        })
    }

    /// Freezes the environment, and lets time pass until it has seen as much as the fleet.
    pub(super) async fn pass(&mut self, ahead: Duration) -> Result<()> {
        let Some(environment) = self.function.environment() else {
            return Ok(());
        };
        environment
            .wait_until_one_of(&[State::Idle, State::Empty])
            .await?;
        environment.freeze().await?;
        environment
            .let_pass(ahead.saturating_sub(self.passed))
            .await?;
        self.passed = self.passed.max(ahead);
        if environment.state() == State::Empty {
            // Nothing is thawed by the next event.
            environment.thaw().await?;
        }
        Ok(())
    }

    /// Notes a delivery that arrived in this round. A flush that was stalled began in the round before.
    fn note_delivery(&mut self, cloudwatch: &CloudWatch) {
        let delivered = self.delivered(cloudwatch).get("Inferences");
        if delivered > self.delivered {
            self.delivered = delivered;
            self.at_delivery = self.at_rounds[1];
        }
    }

    /// Computes the loss of a SIGKILL, once everything from before it has arrived.
    pub(super) fn settle(&mut self, cloudwatch: &CloudWatch) {
        if let Some(since_delivery) = self.unsettled.take() {
            let lost = self.expected().beyond(&self.delivered(cloudwatch));
            self.losses.push(Loss {
                lost: lost.get("Inferences"),
                since_delivery,
            });
            self.lost.add(&lost);
            self.at_delivery = self.counted.get("Inferences");
        }
    }

    /// Counts that the metrics should have.
    #[must_use]
    pub fn expected(&self) -> Counts {
        let mut expected = self.all();
        expected.subtract(&self.lost);
        expected
    }

    /// Counts of the clients, and of the platform.
    #[must_use]
    pub fn all(&self) -> Counts {
        let mut all = self.counted.clone();
        all.add_to("ColdStarts", self.starts());
        let restarted = self.losses.len() - usize::from(self.unsettled.is_some());
        all.add_to("RestartsAfterKill", count(restarted));
        all
    }

    /// Number of processes of the sidecar that registered.
    fn starts(&self) -> f64 {
        let calls = self
            .environments
            .iter()
            .flat_map(|environment| environment.trace());
        count(
            calls
                .filter(|call| call.path.ends_with("/extension/register"))
                .count(),
        )
    }

    /// Counts in `CloudWatch` and in the log. Data that `CloudWatch` accepted twice count once.
    fn delivered(&mut self, cloudwatch: &CloudWatch) -> Counts {
        let mut delivered = self.sent(cloudwatch);
        delivered.subtract(&self.repeated(cloudwatch));
        self.read_log();
        delivered.add(&self.logged);
        delivered
    }

    /// Counts that `CloudWatch` accepted.
    #[must_use]
    pub fn sent(&self, cloudwatch: &CloudWatch) -> Counts {
        Counts::of_datapoints(&cloudwatch.datapoints(&self.filter()))
    }

    /// Counts that `CloudWatch` accepted a second time.
    #[must_use]
    pub fn repeated(&self, cloudwatch: &CloudWatch) -> Counts {
        Counts::of_datapoints(&cloudwatch.repeated(&self.filter()))
    }

    fn filter(&self) -> Filter {
        Filter::all().dimension("FunctionName", self.function.name())
    }

    /// Counts the metrics in new lines of the log.
    pub(super) fn read_log(&mut self) {
        let lines = self.function.log().lines();
        for line in lines.get(self.log_mark..).unwrap_or_default() {
            match emf::datapoints(line) {
                Some(Ok(datapoints)) => self.logged.add(&Counts::of_datapoints(&datapoints)),
                Some(Err(problem)) => self.failures.push(problem),
                None => {}
            }
        }
        self.log_mark = lines.len();
    }

    /// Inferences that the clients counted.
    #[must_use]
    pub fn inferences(&self) -> f64 {
        self.counted.get("Inferences")
    }

    /// Number of requests sent.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.asked
    }

    /// Number of environments created.
    #[must_use]
    pub fn environments(&self) -> usize {
        self.environments.len()
    }

    pub(super) async fn end(&mut self) {
        self.function.shutdown().await;
    }
}

/// Name of a member's function.
fn name(number: usize) -> String {
    format!("soak-{number:02}")
}

/// A count as a float.
pub(super) fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}
