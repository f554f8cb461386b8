//! Memory and CPU limits by memory size.

use lab::lambda::{CgroupError, Limits};

use crate::folders::{Folders, is_root};

const MB: u64 = 1024 * 1024;

/// Limits of a memory size, or `None` where the machine has no control groups. For root, a failure
/// is allowed only if no groups are mounted at all.
fn limits(memory_mb: u32) -> Option<Limits> {
    match Limits::for_memory(memory_mb) {
        Ok(limits) => Some(limits),
        Err(why_not) => {
            println!("without limits: {why_not}");
            assert!(
                !is_root() || matches!(why_not, CgroupError::NoHierarchy),
                "{why_not}"
            );
            None
        }
    }
}

#[tokio::test]
async fn a_process_over_the_memory_limit_is_killed() {
    let Some(limits) = limits(128) else { return };
    // A string of 300 MB, which the shell keeps in memory.
    let folders = Folders::with_script(
        "#!/bin/sh\nx=$(head -c 300000000 /dev/zero | tr '\\0' x)\necho held ${#x}\n",
    );
    let running = folders
        .sandbox()
        .limits(Some(&limits))
        .spawn(&folders.log)
        .unwrap();
    let status = running.wait().await;
    assert!(!status.success(), "{status}");
    assert!(
        !folders.log.text().contains("held"),
        "{}",
        folders.log.text()
    );
    assert!(limits.oom_killed());
    let peak = limits.peak_bytes().unwrap();
    assert!((100 * MB..=128 * MB).contains(&peak), "{peak}");
}

#[tokio::test]
async fn a_process_under_the_memory_limit_runs_and_its_peak_is_reported() {
    let Some(limits) = limits(256) else { return };
    let folders = Folders::with_script(
        "#!/bin/sh\nx=$(head -c 30000000 /dev/zero | tr '\\0' x)\necho held ${#x}\n",
    );
    let running = folders
        .sandbox()
        .limits(Some(&limits))
        .spawn(&folders.log)
        .unwrap();
    assert!(running.wait().await.success());
    folders.log.wait_for("held 30000000").await.unwrap();
    assert!(!limits.oom_killed());
    let peak = limits.peak_bytes().unwrap();
    assert!((30 * MB..200 * MB).contains(&peak), "{peak}");
}

#[tokio::test]
async fn the_first_instruction_runs_within_the_limits_already() {
    let Some(limits) = limits(512) else { return };
    let folders = Folders::with_script("#!/bin/sh\ncat /proc/self/cgroup\n");
    let running = folders
        .sandbox()
        .limits(Some(&limits))
        .spawn(&folders.log)
        .unwrap();
    running.wait().await;
    let own = format!("model-sidecar-lab-{}-", std::process::id());
    folders.log.wait_for(&own).await.unwrap();
}

/// Two environments that work for the same wall time get CPU time in proportion to their memory
/// sizes.
#[tokio::test]
async fn cpu_time_is_in_proportion_to_the_memory_size() {
    let (Some(small), Some(large)) = (limits(177), limits(885)) else {
        return;
    };
    let folders = Folders::with_script("#!/bin/sh\nwhile :; do :; done\n");
    let start = |limits| {
        folders
            .sandbox()
            .limits(Some(limits))
            .spawn(&folders.log)
            .unwrap()
    };
    let (one, other) = (start(&small), start(&large));
    let used = |running: &lab::lambda::sandbox::Running| -> u64 {
        running.pids().iter().map(|pid| cpu_time(*pid)).sum()
    };
    let enough = async {
        while used(&other) < 100 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(lab::WAIT_LIMIT, enough).await.unwrap();
    let (small, large) = (used(&one), used(&other));
    // A fifth, with a margin of a half for a machine with other load.
    assert!(small * 5 < large + large / 2, "{small} of {large}");
    assert!(small > 0);
}

/// In hundredths of a second.
fn cpu_time(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let fields = after.split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum()
}

#[test]
fn groups_go_with_their_value() {
    let Some(limits) = limits(128) else { return };
    let own = format!("model-sidecar-lab-{}-", std::process::id());
    let group = format!("{limits:?}")
        .split('"')
        .find(|part| part.contains(&own))
        .map(str::to_owned);
    let group = group.unwrap();
    assert!(std::path::Path::new(&group).exists());
    drop(limits);
    assert!(!std::path::Path::new(&group).exists());
}
