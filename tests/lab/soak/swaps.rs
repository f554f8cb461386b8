//! A sidecar that gets one new version after another under load, with injected faults.
//!
//! The sidecar runs without Lambda, as on managed instances: it polls ten times a second without
//! waiting for invocations, and several requests run concurrently. A third of the swaps has one of
//! [`SwapFault`]'s faults; no caller may be affected.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::gate::Gate;
use crate::http::Client;
use crate::process::Process;
use crate::s3::{RequestRecord, Rule, S3Server};
use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::adder::{Size, adder};
use super::callers::{Callers, Ledger, MODEL};
use super::usage::Usage;

const BUCKET: &str = "models";
const KEY: &str = "adder/model.onnx";
/// Duration of a freeze.
const FREEZE: Duration = Duration::from_millis(30);
/// Time between two swaps without faults: the steady state for the comparison, and time to release
/// the previous version before memory is read.
const REST: Duration = Duration::from_millis(150);
/// Number of responses to wait for after a swap, so that each version has responded.
const ANSWERS: u64 = 8;

/// A fault of a new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SwapFault {
    None,
    /// S3 rejects two polls as busy.
    Busy,
    /// The connection breaks in the middle of the download.
    Reset,
    /// A byte is flipped in transit.
    Flipped,
    /// The process is stopped in the middle of the download.
    Frozen,
    /// Another version is uploaded in the middle of the download.
    Overtaken,
    /// A truncated new version is uploaded first.
    Torn,
    /// A file that is no model is uploaded first.
    NoModel,
}

impl SwapFault {
    fn of(number: u16) -> Self {
        match number % 20 {
            3 => Self::Busy,
            5 => Self::Reset,
            8 => Self::Flipped,
            10 => Self::Frozen,
            13 => Self::Overtaken,
            15 => Self::Torn,
            18 => Self::NoModel,
            _ => Self::None,
        }
    }
}

/// The sidecar with its S3 and its callers.
pub struct Swaps {
    s3: S3Server,
    process: Process,
    callers: Callers,
    folder: TempDir,
    size: Size,
    /// Number that the newest good version adds.
    newest: u16,
    tally: SwapTally,
}

/// Counters, and the sidecar's resources after each swap.
#[derive(Debug, Default)]
pub struct SwapTally {
    /// Good versions that were uploaded, including the first.
    pub good: u32,
    /// Versions that could not be loaded.
    pub bad: u32,
    /// Good versions with a fault.
    pub with_fault: u32,
    /// Resources of the sidecar after each swap.
    pub usages: Vec<Usage>,
    /// Files in the cache.
    pub files: Vec<usize>,
    /// Times of the swaps: from the first byte of the download to the first response of the new
    /// version.
    pub swaps: Vec<(Instant, Instant)>,
}

impl Swaps {
    /// Starts everything, up to responses of the first version. The cache may keep a few earlier
    /// versions.
    pub async fn start(size: Size, cache_mb: u32, pause: Duration) -> Result<Self> {
        let s3 = S3Server::start().await?;
        // A versioned bucket would keep a thousand versions of 12 MB in this process.
        s3.keep_versions(BUCKET, false);
        s3.put(BUCKET, KEY, adder(size, 0));
        let folder = tempfile::Builder::new().prefix("reload").tempdir()?;
        let socket = folder.path().join("socket");
        let process = Process::of(crate::artifacts::sidecar()?)
            .envs(s3.env())
            .env("MODEL_URI", format!("s3://{BUCKET}/{KEY}"))
            .env("MODEL_NAME", MODEL)
            .env("MODEL_PORT", "0")
            .env("MODEL_SOCKET", &socket)
            .env("MODEL_CACHE_DIR", folder.path().join("cache"))
            .env("MODEL_CACHE_MB", cache_mb.to_string())
            .env("MODEL_METRICS", "none")
            .env("MODEL_REFRESH_INTERVAL", "100ms")
            .start()?;
        process.wait_for(" ready ").await?;
        let callers = Callers::start(&Client::unix(&socket), pause);
        let tally = SwapTally {
            good: 1,
            ..SwapTally::default()
        };
        Ok(Self {
            s3,
            process,
            callers,
            folder,
            size,
            newest: 0,
            tally,
        })
    }

    /// Uploads a new version, possibly with a fault, and waits for its first responses.
    pub async fn swap_with_fault(&mut self) -> Result<()> {
        let fault = SwapFault::of(self.newest + 1);
        self.tally.with_fault += u32::from(fault != SwapFault::None);
        match fault {
            SwapFault::None => self.put(),
            SwapFault::Busy => {
                let busy = Rule::on("GET").first(2).status(503, "SlowDown");
                self.s3.fail(busy);
                self.put();
            }
            SwapFault::Reset => self.put_by(Rule::reset_after),
            SwapFault::Flipped => self.put_by(Rule::flip),
            SwapFault::Frozen => {
                let gate = Gate::new();
                self.put_by(|rule, middle| rule.stall_after(middle, &gate));
                gate.reached(1).await?;
                self.process.signal(Signal::SIGSTOP)?;
                tokio::time::sleep(FREEZE).await;
                gate.open();
                self.process.signal(Signal::SIGCONT)?;
            }
            SwapFault::Overtaken => {
                let gate = Gate::new();
                self.put_by(|rule, middle| rule.stall_after(middle, &gate));
                gate.reached(1).await?;
                self.put();
                gate.open();
            }
            SwapFault::Torn => {
                let whole = adder(self.size, self.newest + 1);
                self.put_bad(&whole[..whole.len() / 2]).await?;
                self.put();
            }
            SwapFault::NoModel => {
                let words = format!("no model, {}", self.newest);
                self.put_bad(words.as_bytes()).await?;
                self.put();
            }
        }
        self.reach().await
    }

    /// Uploads a new version without a fault, and waits until the previous version was released.
    pub async fn swap(&mut self) -> Result<()> {
        let before = self.s3.requests().len();
        // RequestRecord times are wall clock times, so both clocks are read at one moment.
        let (clock, wall) = (Instant::now(), SystemTime::now());
        self.put();
        self.callers.reach(self.newest.into()).await?;
        let answered = Instant::now();
        let requests = self.s3.requests().split_off(before);
        let transfer = requests.iter().find(|one| one.status == Some(200));
        let transfer = transfer.context("no download of the version was recorded")?;
        let begun = clock + transfer.at.duration_since(wall).unwrap_or_default();
        self.tally.swaps.push((begun, answered));
        self.callers.more(ANSWERS).await?;
        tokio::time::sleep(REST).await;
        self.measure()
    }

    /// Stops everything, and returns the counters and the responses.
    pub async fn end(self) -> Result<(SwapTally, Ledger)> {
        let ledger = self.callers.stop().await?;
        let status = self.process.terminate().await?;
        anyhow::ensure!(status.success(), "the sidecar exited with {status}");
        Ok((self.tally, ledger))
    }

    fn put(&mut self) {
        let bytes = self.next();
        self.s3.put(BUCKET, KEY, bytes);
    }

    /// Uploads a new version, and makes the next download break as `fault` says.
    fn put_by(&mut self, fault: impl FnOnce(Rule, u64) -> Rule) {
        let bytes = self.next();
        let middle = bytes.len() as u64 / 2;
        let rule = Rule::on("GET").first(1).overwrite(bytes);
        self.s3.fail(fault(rule, middle));
    }

    fn next(&mut self) -> Vec<u8> {
        self.newest += 1;
        self.tally.good += 1;
        adder(self.size, self.newest)
    }

    /// Uploads a version that cannot be loaded, and waits for the next poll after it.
    async fn put_bad(&mut self, bytes: &[u8]) -> Result<()> {
        self.tally.bad += 1;
        self.s3.put(BUCKET, KEY, bytes.to_vec());
        let bad = self
            .s3
            .get(BUCKET, KEY)
            .context("the bad version was not uploaded")?;
        let seen = |requests: &[RequestRecord]| {
            let known = requests.iter().filter(|one| one.status == Some(304));
            let mut known = known.filter_map(|one| one.if_none_match.as_deref());
            known.any(|etag| etag.trim_matches('"') == bad.etag.trim_matches('"'))
        };
        let wanted = "a poll after a bad version";
        self.s3.wait_for_requests(wanted, seen).await?;
        Ok(())
    }

    async fn reach(&mut self) -> Result<()> {
        self.callers.reach(self.newest.into()).await?;
        self.s3.heal();
        self.callers.more(ANSWERS).await?;
        self.measure()
    }

    fn measure(&mut self) -> Result<()> {
        self.tally.usages.push(Usage::of(self.process.pid())?);
        self.tally
            .files
            .push(files(&self.folder.path().join("cache")));
        Ok(())
    }
}

/// Number of files in a folder and its subfolders.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let count = |path: PathBuf| if path.is_dir() { files(&path) } else { 1 };
    entries.map(|entry| count(entry.path())).sum()
}
