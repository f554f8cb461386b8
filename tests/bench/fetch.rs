//! `make bench-fetch`: downloads 250 MB from S3 into a file. The sidecar's fetch, in a process of
//! its own ([`bench-fetcher`](../fetcher/main.rs)), is compared with AWS's C client and a parallel
//! curl.
//!
//! - **Cost**, on loopback: CPU time of a transfer, compared with the AWS CRT client, and growth of
//!   the process's memory. The sidecar's time includes SHA-256 and the checksum that S3 declares.
//! - **Speed**, compared with curl, on a link of 625 Mbit/s with 30 ms to the first byte, with TLS.
//!   curl requests as many ranges in parallel as the sidecar has connections. It verifies nothing.
//!
//! All contenders take turns, each into an empty folder.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use lab::link::Link;
use lab::s3::S3Server;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::figures::{Figures, Goal, percentile};
use crate::network;

/// The object, and its length in bytes.
const BUCKET: &str = "models";
const KEY: &str = "model.onnx";
const LENGTH: usize = 250_000_000;
/// Memory size in MB for which the sidecar splits its transfer, and the resulting number of
/// connections.
const MEMORY_MB: &str = "1769";
const CONNECTIONS: usize = 3;
/// Minimum ratio to a parallel curl's speed.
const OF_CURL: f64 = 0.97;
/// Maximum memory above the idle process, in MB.
const MEMORY: f64 = 16.0;

/// Transfer, as reported by a program.
#[derive(Debug, Deserialize)]
struct TransferReport {
    bytes: usize,
    seconds: f64,
    cpu_seconds: f64,
    idle_kb: f64,
    peak_kb: f64,
}

/// Paths of the programs that `make` has built.
struct Programs {
    fetcher: PathBuf,
    packages: PathBuf,
    script: PathBuf,
    python: String,
}

pub(crate) async fn run(repetitions: usize) -> Result<ExitCode> {
    let programs = Programs::find()?;
    let bytes = noise();
    let mut figures = Figures::of("fetch");
    println!(
        "{} MB from S3 to a file, {repetitions} times each",
        LENGTH / 1_000_000
    );
    cost(&programs, &bytes, repetitions, &mut figures).await?;
    speed(&programs, &bytes, repetitions, &mut figures).await?;
    figures.end()
}

/// On loopback, without TLS, compared with the CRT client.
async fn cost(
    programs: &Programs,
    bytes: &Bytes,
    repetitions: usize,
    figures: &mut Figures,
) -> Result<()> {
    let s3 = S3Server::start().await?;
    s3.put(BUCKET, KEY, bytes.clone());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        ours.push(programs.sidecar(&s3, &s3.url(), None).await?);
        theirs.push(programs.crt(&s3).await?);
    }
    let cpu =
        |transfers: &[TransferReport]| median(transfers, |one| one.cpu_seconds / gigabytes(one));
    let grown = |transfers: &[TransferReport]| {
        median(transfers, |one| (one.peak_kb - one.idle_kb) / 1024.0)
    };
    let seconds = |transfers: &[TransferReport]| median(transfers, |one| one.seconds);
    let crt = cpu(&theirs);
    figures.add("loopback: AWS CRT", crt, "CPU s/GB");
    figures.add_with_goal(
        "loopback: sidecar, verified",
        cpu(&ours),
        "CPU s/GB",
        Goal::AtMost(crt),
    );
    figures.add("loopback: AWS CRT", seconds(&theirs), "s");
    figures.add("loopback: sidecar", seconds(&ours), "s");
    figures.add("AWS CRT: memory above idle", grown(&theirs), "MiB");
    figures.add_with_goal(
        "sidecar: memory above idle",
        grown(&ours),
        "MiB",
        Goal::AtMost(MEMORY),
    );
    Ok(())
}

/// On the link, with TLS, compared with curl.
async fn speed(
    programs: &Programs,
    bytes: &Bytes,
    repetitions: usize,
    figures: &mut Figures,
) -> Result<()> {
    let s3 = S3Server::start_tls().await?;
    s3.put(BUCKET, KEY, bytes.clone());
    let link = Link::of_environment(&s3).await?;
    let folder = tempfile::tempdir()?;
    let authorities = folder.path().join("authorities.pem");
    std::fs::write(&authorities, network::authorities(&s3))?;
    let url = link.url_of(&s3);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        let transfer = programs.sidecar(&s3, &url, Some(&authorities)).await?;
        ours.push(megabytes(transfer.bytes) / transfer.seconds);
        theirs.push(curl(&s3, &url, &authorities, bytes).await?);
    }
    let (ours, theirs) = (percentile(&ours, 50.0), percentile(&theirs, 50.0));
    figures.add("link: parallel curl", theirs, "MB/s");
    figures.add("link: sidecar", ours, "MB/s");
    figures.add_with_goal(
        "link: sidecar over parallel curl",
        ours / theirs,
        "×",
        Goal::AtLeast(OF_CURL),
    );
    Ok(())
}

impl Programs {
    fn find() -> Result<Self> {
        let root = lab::artifacts::workspace();
        let made = root.join("target/bench/fetch");
        let programs = Self {
            fetcher: made.join("bench-fetcher"),
            packages: made.join("packages"),
            script: root.join("tests/bench/fetch/crt.py"),
            python: std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned()),
        };
        for part in [&programs.fetcher, &programs.packages] {
            ensure!(
                part.exists(),
                "{} is missing: run `make bench-fetch`",
                part.display()
            );
        }
        Ok(programs)
    }

    async fn sidecar(
        &self,
        s3: &S3Server,
        url: &str,
        authorities: Option<&Path>,
    ) -> Result<TransferReport> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(&self.fetcher);
        command
            .args([BUCKET, KEY])
            .arg(folder.path())
            .arg(MEMORY_MB);
        command.envs(s3.env()).env("AWS_ENDPOINT_URL_S3", url);
        command.envs(authorities.map(|file| ("SSL_CERT_FILE", file)));
        transfer(command).await
    }

    async fn crt(&self, s3: &S3Server) -> Result<TransferReport> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(&self.python);
        command
            .arg(&self.script)
            .arg(format!("127.0.0.1:{}", s3.port()));
        command.args([BUCKET, KEY]).arg(folder.path().join("model"));
        command.envs(s3.env()).env("PYTHONPATH", &self.packages);
        transfer(command).await
    }
}

/// Runs a program that downloads the object, and parses its report.
async fn transfer(mut command: Command) -> Result<TransferReport> {
    let output = command.stderr(Stdio::inherit()).output().await;
    let output = output.with_context(|| format!("cannot run {:?}", command.as_std()))?;
    ensure!(
        output.status.success(),
        "{:?}: {}",
        command.as_std(),
        output.status
    );
    let last = String::from_utf8(output.stdout)?;
    let last = last.lines().last().context("no output")?;
    let transfer: TransferReport = serde_json::from_str(last)?;
    ensure!(
        transfer.bytes == LENGTH,
        "{} bytes were transferred",
        transfer.bytes
    );
    Ok(transfer)
}

/// Speed of curl in MB per second: as many ranges as the sidecar has connections, all in parallel.
async fn curl(s3: &S3Server, url: &str, authorities: &Path, bytes: &Bytes) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let url = network::signed(s3, url, BUCKET, KEY).await?;
    let mut command = Command::new("curl");
    command.args(["--parallel", "--parallel-immediate", "--no-progress-meter"]);
    let part = LENGTH.div_ceil(CONNECTIONS);
    let files: Vec<PathBuf> = (0..CONNECTIONS)
        .map(|index| folder.path().join(index.to_string()))
        .collect();
    for (index, file) in files.iter().enumerate() {
        let (start, end) = (index * part, LENGTH.min((index + 1) * part) - 1);
        if index > 0 {
            command.arg("--next");
        }
        command
            .args([
                "--silent",
                "--show-error",
                "--fail",
                "--http1.1",
                "--cacert",
            ])
            .arg(authorities);
        command
            .args(["--range", &format!("{start}-{end}"), "--output"])
            .arg(file)
            .arg(&url);
    }
    let started = Instant::now();
    let status = command.status().await.context("cannot run curl")?;
    let took = started.elapsed();
    ensure!(status.success(), "curl: {status}");
    let mut sum = Sha256::new();
    for file in files {
        sum.update(std::fs::read(file)?);
    }
    ensure!(
        sum.finalize() == Sha256::digest(bytes),
        "curl downloaded other bytes"
    );
    Ok(megabytes(LENGTH) / took.as_secs_f64())
}

/// Incompressible bytes.
fn noise() -> Bytes {
    let blocks =
        (0..LENGTH.div_ceil(32) as u64).flat_map(|index| Sha256::digest(index.to_le_bytes()));
    blocks.take(LENGTH).collect::<Vec<u8>>().into()
}

fn median(transfers: &[TransferReport], of: impl Fn(&TransferReport) -> f64) -> f64 {
    let values: Vec<f64> = transfers.iter().map(of).collect();
    percentile(&values, 50.0)
}

fn gigabytes(transfer: &TransferReport) -> f64 {
    megabytes(transfer.bytes) / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "below 2^53 bytes")]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}
