//! One environment that is repeatedly frozen and thawed under traffic, with concurrent events: time
//! passes, connections break, a new version of the model is uploaded.
//!
//! Every response is compared with scikit-learn's, and must come from the version that responded
//! last or from one uploaded since. A faulty response is counted and is not an error: the cycles
//! continue. An error is one of the lab.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use crate::cloudwatch::{CloudWatch, Filter};
use crate::lambda::{Clock, Environment, Function, State, Status};
use crate::link::Link;
use crate::s3::S3Server;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};

use super::usage::Usage;
use crate::reference::{Reference, WINE};

const BUCKET: &str = "models";
const KEY: &str = "wine/model.onnx";
const FILES: [&str; 2] = ["wine-v1.onnx", "wine-v2.onnx"];
/// Durations of freezes in seconds, for clocks whose time can be advanced.
const FREEZES: [u64; 5] = [1, 70, 1_200, 3_600, 20_000];
/// Duration of freezes with the machine's clock: long enough for every interval to elapse.
const REAL_FREEZE: Duration = Duration::from_millis(20);

/// A function with its servers, and its counters.
pub struct Cycles {
    clock: Clock,
    function: Function,
    environment: Arc<Environment>,
    s3: S3Server,
    cloudwatch: CloudWatch,
    links: [Link; 2],
    /// Process ids of sidecar and handler, which must not change.
    processes: [i32; 2],
    /// Index in [`FILES`] of the last version that responded, and its version name.
    active: usize,
    version: Option<String>,
    /// `true` if the other file was uploaded since.
    put: bool,
    /// Counts so far.
    pub tally: CycleTally,
}

/// Counts of requests, versions and failures.
#[derive(Debug, Default)]
pub struct CycleTally {
    /// Requests sent.
    pub requests: u32,
    /// Number of new versions that responded.
    pub bumps: u32,
    /// Number of freezes during a request.
    pub in_requests: u32,
    /// Failed requests and wrong responses.
    pub failures: Vec<String>,
    /// Resource usage of sidecar and handler in each freeze.
    pub usages: Vec<[Usage; 2]>,
}

/// Totals after the shutdown of the environment.
#[derive(Debug)]
pub struct CycleTotals {
    /// Final counts.
    pub tally: CycleTally,
    /// Number of inferences in CloudWatch's metrics.
    pub counted: f64,
    /// Number of requests answered by S3 and CloudWatch.
    pub answered: [usize; 2],
    /// Number of connections to them.
    pub connections: [usize; 2],
}

impl Cycles {
    /// Starts everything, up to the first response.
    pub async fn start(clock: Clock) -> Result<Self> {
        let s3 = S3Server::start().await?;
        s3.put(BUCKET, KEY, model(0)?);
        let cloudwatch = CloudWatch::start().await?;
        let ports = [s3.port(), cloudwatch.port()];
        let [to_s3, to_cloudwatch] = ports.map(|port| Link::to(([127, 0, 0, 1], port).into()));
        let links = [to_s3.await?, to_cloudwatch.await?];
        let interval = if clock == Clock::Real { "15ms" } else { "1m" };
        let function = Function::staged()?
            .envs(s3.env())
            .envs(cloudwatch.env())
            .env("AWS_ENDPOINT_URL_S3", links[0].url())
            .env("AWS_ENDPOINT_URL_CLOUDWATCH", links[1].url())
            .env("MODEL_URI", format!("s3://{BUCKET}/{KEY}"))
            .env("MODEL_NAME", "wine")
            .env("MODEL_PORT", "0")
            .env("MODEL_REFRESH_INTERVAL", interval)
            .env("MODEL_METRICS_INTERVAL", interval)
            // Work that starts at an invocation is frozen while in progress.
            .env("MODEL_TAIL_BUDGET", "0")
            .timeout(Duration::from_secs(30))
            .max_environments(1)
            .clock(clock)
            .start()
            .await?;
        let first = function.answer(&request(1)).await?;
        let environment = function
            .environment()
            .context("no environment was created")?;
        let processes = processes(&environment)?;
        let mut cycles = Self {
            clock,
            function,
            environment,
            s3,
            cloudwatch,
            links,
            processes,
            active: 0,
            version: None,
            put: false,
            tally: CycleTally::default(),
        };
        cycles.judge(1, Ok(first));
        Ok(cycles)
    }

    /// Runs traffic, a freeze, and the events in it, selected by `number`.
    pub async fn cycle(&mut self, number: usize) -> Result<()> {
        for _ in 0..=number % 3 {
            self.ask().await;
        }
        if number.is_multiple_of(4) {
            self.freeze_in_a_request(number).await?;
        }
        self.environment.wait_until(State::Idle).await?;
        self.environment.freeze().await?;
        let [sidecar, handler] = self.processes.map(Usage::of);
        self.tally.usages.push([sidecar?, handler?]);
        self.pass(number).await?;
        if number.is_multiple_of(3) {
            self.links[0].cut();
        }
        if number.is_multiple_of(5) {
            self.links[1].cut();
        }
        if number % 20 == 7 && !self.put {
            self.s3.put(BUCKET, KEY, model(1 - self.active)?);
            self.put = true;
        }
        Ok(())
    }

    /// Shuts the environment down.
    pub async fn end(self) -> Result<CycleTotals> {
        let processes = processes(&self.environment)?;
        ensure!(
            processes == self.processes,
            "a process exited and was replaced"
        );
        let log = self.function.shutdown().await.text();
        let reports = self.function.reports();
        let bad = reports.iter().find(|one| one.status != Status::Success);
        ensure!(bad.is_none(), "{bad:?}\n{log}");
        let filter = Filter::metric("Inferences").dimension("ModelName", "wine");
        Ok(CycleTotals {
            tally: self.tally,
            counted: self.cloudwatch.sum(&filter),
            answered: [self.s3.requests().len(), self.cloudwatch.requests().len()],
            connections: [self.links[0].accepted(), self.links[1].accepted()],
        })
    }

    async fn pass(&self, number: usize) -> Result<()> {
        if self.clock == Clock::Real {
            tokio::time::sleep(REAL_FREEZE).await;
            return Ok(());
        }
        let time = Duration::from_secs(FREEZES[number % FREEZES.len()]);
        self.environment.let_pass(time).await?;
        self.s3.let_pass();
        self.cloudwatch.let_pass(time);
        Ok(())
    }

    /// Freezes in the middle of a request, where the platform does not; briefly, since the
    /// request's timeout runs.
    async fn freeze_in_a_request(&mut self, number: usize) -> Result<()> {
        let rows = rows(number);
        let (answer, in_it) = self.freeze_during(&request(rows)).await?;
        self.tally.in_requests += u32::from(in_it);
        self.judge(rows, answer);
        Ok(())
    }

    /// Returns the response, and `true` if the freeze came before it.
    async fn freeze_during(&self, event: &Value) -> Result<(Result<Value>, bool)> {
        let mut answer = pin!(self.function.answer(event));
        let early = tokio::select! {
            // The response came first: the freeze is an ordinary one.
            answer = &mut answer => Some(answer),
            begun = self.environment.wait_until(State::Invoke) => {
                begun?;
                None
            }
        };
        self.environment.freeze().await?;
        let in_it = self.environment.state() == State::Invoke;
        for link in &self.links {
            link.cut();
        }
        self.environment.thaw().await?;
        let answer = match early {
            Some(answer) => answer,
            None => answer.await,
        };
        Ok((answer.map_err(Into::into), in_it))
    }

    async fn ask(&mut self) {
        let rows = rows(self.tally.requests as usize);
        let answer = self.function.answer(&request(rows)).await;
        self.judge(rows, answer.map_err(Into::into));
    }

    fn judge(&mut self, rows: usize, answer: Result<Value>) {
        self.tally.requests += 1;
        let problem = answer.and_then(|answer| self.check(rows, &answer));
        if let Err(problem) = problem {
            let at = self.tally.usages.len();
            self.tally.failures.push(format!("cycle {at}: {problem:#}"));
        }
    }

    fn check(&mut self, rows: usize, answer: &Value) -> Result<()> {
        let name = answer["model_version"].as_str().context("no version")?;
        if self.version.as_deref() != Some(name) {
            if self.version.is_some() {
                ensure!(self.put, "version {name} responded, which was not uploaded");
                self.active = 1 - self.active;
                self.put = false;
                self.tally.bumps += 1;
            }
            self.version = Some(name.to_owned());
        }
        let file = self.active;
        let reference: &Reference = [&WINE.v1, &WINE.v2][file];
        let problem = reference.differs(answer, 0..rows);
        ensure!(
            problem.is_none(),
            "{} responds wrongly: {problem:?}",
            FILES[file]
        );
        Ok(())
    }
}

/// Number of rows, varied so that requests and responses differ in size.
fn rows(number: usize) -> usize {
    [1, 9, 100, 178][number % 4]
}

fn request(rows: usize) -> Value {
    json!({ "features": WINE.rows[..rows] })
}

fn model(file: usize) -> Result<Bytes> {
    let path = crate::artifacts::workspace()
        .join("tests/models")
        .join(FILES[file]);
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    Ok(bytes.into())
}

fn processes(environment: &Environment) -> Result<[i32; 2]> {
    let one = |name| {
        let pids = environment.processes(name);
        ensure!(pids.len() == 1, "processes named {name}: {pids:?}");
        Ok(pids[0])
    };
    Ok([one("model-sidecar")?, one("bootstrap")?])
}
