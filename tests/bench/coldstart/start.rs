//! Measurement of one cold start and one second start.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::lambda::{Function, ShutdownReason, State};
use lab::link::Link;
use lab::s3::S3Server;
use lab::slow_folder::SlowFolder;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::anonymous::AnonymousPeak;
use super::contenders::{AUTHORITIES, ColdstartArtifacts, Contender, Setting};
use super::models::Model;
use crate::figures::milliseconds;
use crate::network;
use lab::soak::usage::Usage;

/// One cold start, and the start after it in the same environment. Times are in milliseconds since
/// the call that created the environment, or that restored it from its snapshot.
#[derive(Debug)]
pub(super) struct StartSample {
    /// Time to the first correct response.
    pub(super) answer: f64,
    /// Time to the API call that ends Init.
    pub(super) ready: f64,
    /// Time from the last byte on the link to readiness.
    pub(super) after_last_byte: Option<f64>,
    /// Durations of the phases, as logged by the program itself.
    pub(super) phases: BTreeMap<String, f64>,
    /// Peak memory of the environment, as reported, in MB: mapped files included.
    pub(super) peak_mb: f64,
    /// Peak anonymous memory of the environment until the first response, in MB.
    pub(super) anonymous_mb: f64,
    /// Resident memory of the sidecar after its first response, in MB.
    pub(super) resident_mb: Option<f64>,
    /// Bytes sent by S3.
    pub(super) fetched: f64,
    /// Bytes read from layer and function until the first response; `None` if they are in the page
    /// cache.
    pub(super) files_read: Option<f64>,
    /// The second start; `None` if there was none.
    pub(super) second: Option<Second>,
}

#[derive(Debug)]
pub(super) struct Second {
    pub(super) answer: f64,
    pub(super) fetched: f64,
}

/// Starts a contender in a new environment, twice.
pub(super) async fn measure(
    setting: &Setting,
    contender: Contender,
    model: &Model,
    artifacts: &ColdstartArtifacts,
) -> Result<StartSample> {
    let s3 = &setting.s3;
    let tmp = Arc::new(TempDir::new()?);
    std::fs::write(tmp.path().join(AUTHORITIES), network::authorities(s3))?;
    let slow = setting.slow_folder(contender, artifacts)?;
    let builder = setting
        .function(contender, model, artifacts, slow.as_ref())
        .await?
        .tmp(tmp);
    let function = Arc::new(builder.start().await?);
    if contender == Contender::Restored {
        let environment = function.environment().context("no environment")?;
        environment.wait_until(State::Snapshot).await?;
        environment.wait_until_frozen().await?;
    }
    let requests = s3.requests().len();
    let link = setting.link.as_ref();
    let link = link.filter(|_| contender != Contender::Restored);
    let watch = link.map(LastByte::watch);
    let anonymous = AnonymousPeak::watch(&function);
    let started = Instant::now();
    let answer = function.answer(&Model::event()).await?;
    let answered = started.elapsed();
    let files_read = slow.as_ref().map(SlowFolder::bytes);
    let anonymous_mb = anonymous.stop().await?;
    contender.check(model, &answer)?;
    let last_byte = watch.map(|watch| watch.seen().saturating_duration_since(started));

    let environment = function.environment().context("no environment")?;
    let trace = environment.trace();
    let first = |from: &str, path: &str| {
        let mut calls = trace.iter();
        let call = calls.find(|call| call.from == from && call.path.ends_with(path));
        call.map(|call| call.asked)
            .with_context(|| format!("{from} never called {path}"))
    };
    // The trace counts from the creation of the environment.
    let (from, path) = contender.ready_call();
    let after_ready = first("runtime", "/response")?.saturating_sub(first(from, path)?);
    let ready = answered.saturating_sub(after_ready);
    let phases = match contender {
        Contender::Python => BTreeMap::new(),
        _ => phases(&function.log().wait_for("total_ms=").await?),
    };
    let resident_mb = match (
        contender.is_sidecar(),
        &*environment.processes("model-sidecar"),
    ) {
        (true, [pid]) => Some(f64::from(Usage::of(*pid)?.resident) / 1024.0),
        (true, _) => anyhow::bail!("the sidecar does not run"),
        _ => None,
    };
    let reports = function.wait_for_reports(1).await?;
    let peak = reports.first().map(|report| report.max_memory_mb);
    let fetched = sent(s3, requests);
    let second = match contender {
        // A reset environment does not start from the snapshot.
        Contender::Load | Contender::Restored => None,
        _ => Some(again(&function, contender, model, s3).await?),
    };
    function.shutdown().await;
    Ok(StartSample {
        answer: milliseconds(answered),
        ready: milliseconds(ready),
        after_last_byte: last_byte.map(|last| milliseconds(ready) - milliseconds(last)),
        phases,
        peak_mb: f64::from(u32::try_from(peak.unwrap_or_default())?),
        anonymous_mb,
        resident_mb,
        fetched,
        #[expect(clippy::cast_precision_loss, reason = "below 2^53 bytes")]
        files_read: files_read.map(|bytes| bytes as f64),
        second,
    })
}

/// Resets the environment and starts in it again.
async fn again(
    function: &Function,
    contender: Contender,
    model: &Model,
    s3: &S3Server,
) -> Result<Second> {
    let environment = function.environment().context("no environment")?;
    environment.reset(ShutdownReason::Failure).await?;
    let requests = s3.requests().len();
    let started = Instant::now();
    let answer = function.answer(&Model::event()).await?;
    let answered = started.elapsed();
    contender.check(model, &answer)?;
    ensure!(
        function.environments().len() == 1,
        "a second environment instead of the first"
    );
    Ok(Second {
        answer: milliseconds(answered),
        fetched: sent(s3, requests),
    })
}

/// Object bytes that S3 has sent since the first `seen` requests.
#[expect(clippy::cast_precision_loss, reason = "below 2^53 bytes")]
fn sent(s3: &S3Server, since: usize) -> f64 {
    let requests = s3.requests();
    let new = requests.iter().skip(since);
    let gets = new.filter(|request| request.method == "GET");
    gets.map(|request| request.sent).sum::<u64>() as f64
}

/// Parses the `NAME_ms=NUMBER` fields of a line.
pub(super) fn phases(line: &str) -> BTreeMap<String, f64> {
    let pairs = line.split_whitespace().filter_map(|word| {
        let (name, value) = word.split_once("_ms=")?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    pairs.collect()
}

/// Upper bound of the bytes that closing an unused TLS connection sends.
const TLS_CLOSE_BYTES: u64 = 200;

/// Watches a link for the time at which it delivered the last byte of a response.
struct LastByte {
    moment: Arc<Mutex<Instant>>,
    watcher: JoinHandle<()>,
}

impl LastByte {
    /// With a resolution of a millisecond.
    fn watch(link: &Arc<Link>) -> Self {
        let link = Arc::clone(link);
        let moment = Arc::new(Mutex::new(Instant::now()));
        let watcher = tokio::spawn({
            let moment = Arc::clone(&moment);
            async move {
                let mut last = link.bytes();
                loop {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let now = link.bytes();
                    let received = now - last;
                    last = now;
                    if received > TLS_CLOSE_BYTES {
                        *moment.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    }
                }
            }
        });
        Self { moment, watcher }
    }

    fn seen(self) -> Instant {
        self.watcher.abort();
        *self.moment.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
