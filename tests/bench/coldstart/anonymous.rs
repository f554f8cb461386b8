//! Peak anonymous memory of an environment's processes.
//!
//! Anonymous memory is what processes allocate. It excludes the pages of mapped files, such as a
//! model's mapped weights, which the kernel can drop and read again at any time.
//!
//! The kernel keeps no peak of anonymous memory, so it is sampled during the start. `RssAnon` of
//! `/proc/PID/status` is read without a walk of the page tables and so does not slow the process.
//! The last sample, after the response, is the exact `Anonymous` of `smaps_rollup`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::lambda::Function;
use tokio::task::JoinHandle;

/// Interval between two samples.
const INTERVAL: Duration = Duration::from_millis(2);
/// Number of samples after which the list of processes is read again.
const SAMPLES_PER_LIST: u32 = 10;

/// Samples the anonymous memory of a function's newest environment until it is stopped.
pub(super) struct AnonymousPeak {
    stop: Arc<AtomicBool>,
    sampler: JoinHandle<u64>,
}

impl AnonymousPeak {
    pub(super) fn watch(function: &Arc<Function>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sampler = tokio::task::spawn_blocking({
            let (function, stop) = (Arc::clone(function), Arc::clone(&stop));
            move || sample(&function, &stop)
        });
        Self { stop, sampler }
    }

    /// Takes the last sample, and returns the peak in MB.
    pub(super) async fn stop(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let kilobytes = self.sampler.await?;
        ensure!(kilobytes > 0, "no anonymous memory was measured");
        Ok(f64::from(u32::try_from(kilobytes)?) / 1024.0)
    }
}

/// Peak of the samples in KiB.
fn sample(function: &Function, stop: &AtomicBool) -> u64 {
    let mut peak = 0;
    let mut processes = Vec::new();
    for count in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if count.is_multiple_of(SAMPLES_PER_LIST) {
            processes = pids(function);
        }
        peak = peak.max(total(&processes, "status", "RssAnon:"));
        std::thread::sleep(INTERVAL);
    }
    peak.max(total(&pids(function), "smaps_rollup", "Anonymous:"))
}

fn pids(function: &Function) -> Vec<i32> {
    let environment = function.environment();
    environment.map_or_else(Vec::new, |environment| environment.pids())
}

/// Sum of a field over all processes in KiB; a process that has exited counts as 0.
fn total(pids: &[i32], file: &str, field: &str) -> u64 {
    let values = pids.iter().filter_map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        kilobytes(&text, field)
    });
    values.sum()
}

fn kilobytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[test]
fn fields_are_read_in_kilobytes() {
    let status = "VmRSS:\t    5120 kB\nRssAnon:\t     1024 kB\nRssFile:\t    4096 kB\n";
    assert_eq!(kilobytes(status, "RssAnon:"), Some(1024));
    let rollup = "Rss:                5120 kB\nAnonymous:          1024 kB\nSwap: 0 kB\n";
    assert_eq!(kilobytes(rollup, "Anonymous:"), Some(1024));
    assert_eq!(kilobytes(rollup, "LazyFree:"), None);
}

#[test]
#[expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
fn both_files_count_allocated_memory_and_not_mapped_files() {
    let own = [std::process::id().cast_signed()];
    let measure = || {
        [
            total(&own, "status", "RssAnon:"),
            total(&own, "smaps_rollup", "Anonymous:"),
        ]
    };
    let before = measure();
    let allocated = vec![1_u8; 64 << 20];
    let after = measure();
    assert!(allocated.iter().all(|byte| *byte == 1));
    for (before, after) in before.into_iter().zip(after) {
        assert!(after > before + (60 << 10), "{before} kB, then {after} kB");
    }
    let resident = total(&own, "status", "VmRSS:");
    let program = fs::metadata("/proc/self/exe").unwrap().len() >> 10;
    assert!(measure()[0] + program.min(1024) < resident);
}
