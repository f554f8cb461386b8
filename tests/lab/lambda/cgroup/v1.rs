//! Version 1: each resource has its own hierarchy, and a process is in one group of each.

use super::hierarchy::Trees;
use super::{
    CgroupError, Limits, MAX_TASKS, PERIOD_MICROS, Share, Version, make as make_group, write,
};

pub(super) fn make(trees: &Trees, name: &str, share: Share) -> Result<Limits, CgroupError> {
    let memory = make_group(&trees.memory, name)?;
    // From here on, dropping the value removes the created groups after any failure.
    let mut limits = Limits {
        version: Version::One,
        groups: vec![memory.clone()],
        memory: memory.clone(),
    };
    write(&memory, "memory.limit_in_bytes", &share.memory_bytes)?;
    // Memory and swap together; absent where the kernel does not count swap.
    if memory.join("memory.memsw.limit_in_bytes").exists() {
        write(&memory, "memory.memsw.limit_in_bytes", &share.memory_bytes)?;
    }
    let cpu = make_group(&trees.cpu, name)?;
    limits.groups.push(cpu.clone());
    write(&cpu, "cpu.cfs_period_us", &PERIOD_MICROS)?;
    write(&cpu, "cpu.cfs_quota_us", &share.cpu_micros)?;
    if let Some(pids) = &trees.pids {
        let pids = make_group(pids, name)?;
        limits.groups.push(pids.clone());
        write(&pids, "pids.max", &MAX_TASKS)?;
    }
    Ok(limits)
}
