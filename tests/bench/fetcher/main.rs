//! The sidecar's fetch as a process of its own, for `make bench-fetch`. It downloads and verifies
//! an object from S3 into a cache, exactly as the sidecar does. It is built in the release profile.
//!
//! `bench-fetcher BUCKET KEY FOLDER MEMORY_MB` downloads one object into a cache in FOLDER, split
//! as in a function of that memory size. It prints one line of JSON: `bytes`, `seconds`,
//! `cpu_seconds`, and the resident memory before the download and at its peak, `idle_kb` and
//! `peak_kb`. Setup before the fetch is not measured.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use model_sidecar::cache::Cache;
use model_sidecar::clock::{Clock, SystemClock, Thaws};
use model_sidecar::config::Environment;
use model_sidecar::fetch::{self, Compression, FetchContext, FetchRequest, PartLimits};
use model_sidecar::ids::FilePath;
use model_sidecar::source::{ModelFolder as _, NamedBy, Opened, S3Folder};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bucket, key, folder, memory_mb] = &arguments[..] else {
        bail!("usage: bench-fetcher BUCKET KEY FOLDER MEMORY_MB");
    };
    let parts = PartLimits::for_memory(Some(memory_mb.parse()?));
    // One thread, as in the sidecar.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(run(bucket, key, Path::new(folder), parts))
}

async fn run(bucket: &str, key: &str, folder: &Path, parts: PartLimits) -> Result<()> {
    let (clock, thaws) = (Arc::new(SystemClock) as Arc<dyn Clock>, Thaws::default());
    let environment = Environment::of([("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")]);
    let aws = model_sidecar::aws::load(&environment, &clock, &thaws).await;
    let key = FilePath::parse(key).map_err(anyhow::Error::msg)?;
    let source = S3Folder::new(&aws, true, bucket, "").file(&key, NamedBy::Configuration);
    let cache = Cache::open(folder)?;
    let idle = memory("VmRSS:")?;
    let (started, busy) = (Instant::now(), cpu()?);
    let Opened::Object(object) = fetch::open(&*source, &cache, None).await? else {
        bail!("S3 has no such object");
    };
    let request = FetchRequest {
        source: &*source,
        object,
        expected: None,
        compression: Compression::None,
        growing: None,
    };
    let context = FetchContext {
        cache: &cache,
        parts,
        thaws: &thaws,
        clock: &*clock,
    };
    let fetched = fetch::fetch(request, context).await?;
    let line = json!({
        "bytes": fetched.size,
        "seconds": started.elapsed().as_secs_f64(),
        "cpu_seconds": cpu()?.saturating_sub(busy).as_secs_f64(),
        "idle_kb": idle,
        "peak_kb": memory("VmHWM:")?,
    });
    println!("{line}");
    Ok(())
}

/// CPU time of all threads of this process so far.
fn cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let times = [usage.user_time(), usage.system_time()];
    let micros: i64 = times
        .iter()
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec())
        .sum();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}

/// Value of a line of this process's status, in KiB.
fn memory(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no {name}"))
}
