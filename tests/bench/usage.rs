//! What a process has of the machine, seen from the host.

use std::fs;

use anyhow::{Context as _, Result};

/// What a process has at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Memory of its own and of files, in KiB.
    pub(crate) resident: u32,
    /// The most of it there ever was, in KiB.
    pub(crate) peak: u32,
    /// Open files, sockets and the like.
    pub(crate) descriptors: u32,
    pub(crate) threads: u32,
}

impl Usage {
    pub(crate) fn of(pid: i32) -> Result<Self> {
        let folder = format!("/proc/{pid}");
        let status = fs::read_to_string(format!("{folder}/status"));
        let status = status.with_context(|| format!("process {pid} is gone"))?;
        let number = |name: &str| -> Result<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.with_context(|| format!("{folder}/status has no {name}"))
        };
        let descriptors = fs::read_dir(format!("{folder}/fd"))
            .with_context(|| format!("cannot see the descriptors of process {pid}"))?;
        Ok(Self {
            resident: number("VmRSS:")?,
            peak: number("VmHWM:")?,
            descriptors: u32::try_from(descriptors.count())?,
            threads: number("Threads:")?,
        })
    }
}
