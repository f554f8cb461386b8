//! Resources of a process, read from `/proc`.

use std::fs;

use anyhow::{Context as _, Result};

/// Resources of a process at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Resident memory in KiB, mapped files included.
    pub resident: u32,
    /// Peak resident memory in KiB.
    pub peak: u32,
    /// Open file descriptors.
    pub descriptors: u32,
    /// Threads.
    pub threads: u32,
}

impl Usage {
    /// Current usage of the process.
    pub fn of(pid: i32) -> Result<Self> {
        let folder = format!("/proc/{pid}");
        let status = fs::read_to_string(format!("{folder}/status"));
        let status = status.with_context(|| format!("process {pid} does not run"))?;
        let number = |name: &str| -> Result<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.with_context(|| format!("{folder}/status has no {name}"))
        };
        let descriptors = fs::read_dir(format!("{folder}/fd"))
            .with_context(|| format!("cannot list the descriptors of process {pid}"))?;
        Ok(Self {
            resident: number("VmRSS:")?,
            peak: number("VmHWM:")?,
            descriptors: u32::try_from(descriptors.count())?,
            threads: number("Threads:")?,
        })
    }
}
