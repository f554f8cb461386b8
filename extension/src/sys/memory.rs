//! Free memory of the environment.
//!
//! Three limits apply. They are the machine (on Lambda the microVM), the control groups of this process, and the
//! function's memory size. All processes of the environment share the last one. The smallest remainder counts.
//! Reclaimable file pages count as free, because pages of a model's file stay in memory only until another process
//! needs it.
//!
//! The environment does not show how Lambda accounts memory. The remainder of the memory size is therefore computed
//! from the anonymous memory of all visible processes, including the function and other extensions.

use std::fs;
use std::path::{Path, PathBuf};

/// Source of memory figures; tests implement fixed figures.
pub trait MemoryProbe: Send + Sync {
    /// Returns the bytes that can be allocated before a process is killed; `None` if that is unknown.
    fn free(&self) -> Option<u64>;

    /// Returns the bytes of this process that the system cannot reclaim; `None` if that is unknown.
    fn own(&self) -> Option<u64> {
        None
    }
}

/// Memory of this environment.
#[derive(Clone, Copy, Debug)]
pub struct SystemMemory {
    size: Option<u64>,
}

impl SystemMemory {
    /// Creates a probe for an environment with a memory size of `size` bytes, if that is known.
    #[must_use]
    pub fn new(size: Option<u64>) -> Self {
        Self { size }
    }
}

impl MemoryProbe for SystemMemory {
    fn free(&self) -> Option<u64> {
        free(Path::new("/"), self.size)
    }

    fn own(&self) -> Option<u64> {
        super::own_bytes()
    }
}

/// Returns the free memory according to `proc` and `sys` below `root`.
fn free(root: &Path, size: Option<u64>) -> Option<u64> {
    let machine = of_machine(root);
    let by_size = size.map(|size| {
        let mut taken = taken(root);
        if taken > size {
            // The visible processes do not share an environment, as on a developer's machine: only this process counts.
            taken = anonymous(&root.join("proc/self/status")).unwrap_or(taken);
        }
        size.saturating_sub(taken)
    });
    machine
        .into_iter()
        .chain(of_groups(root))
        .chain(by_size)
        .min()
}

fn of_machine(root: &Path) -> Option<u64> {
    kilobytes(&root.join("proc/meminfo"), "MemAvailable:")
}

/// Returns the free memory of each control group of this process and of their ancestors.
fn of_groups(root: &Path) -> Vec<u64> {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mounts = root.join("sys/fs/cgroup");
    let mut left = Vec::new();
    for line in own.lines() {
        // Number, controllers and path of the group. Version 2 has no controllers.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let is_memory = controllers.split(',').any(|name| name == "memory");
        let (mount, files) = match controllers {
            "" => (mounts.clone(), &VERSION_2),
            _ if is_memory => (mounts.join("memory"), &VERSION_1),
            _ => continue,
        };
        left.extend(up_to(&mount, group).filter_map(|group| files.left_in(&group)));
    }
    left
}

/// Returns a group and its ancestors, up to the root of the hierarchy. In a container, the root may be the group
/// itself.
fn up_to(mount: &Path, group: &str) -> impl Iterator<Item = PathBuf> {
    let path = mount.join(group.trim_start_matches('/'));
    let mount = mount.to_owned();
    let above: Vec<PathBuf> = path.ancestors().map(Path::to_owned).collect();
    above
        .into_iter()
        .take_while(move |path| path.starts_with(&mount))
}

/// Names of the files of a control group, and of the statistics on file pages, by version of control groups.
struct Files {
    limit: &'static str,
    usage: &'static str,
    pages: [&'static str; 2],
}

const VERSION_1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    pages: ["total_inactive_file", "total_active_file"],
};
const VERSION_2: Files = Files {
    limit: "memory.max",
    usage: "memory.current",
    pages: ["inactive_file", "active_file"],
};

impl Files {
    /// Returns the free memory of a group; `None` without a limit.
    fn left_in(&self, group: &Path) -> Option<u64> {
        let number = |file| -> Option<u64> {
            let text = fs::read_to_string(group.join(file)).ok()?;
            text.trim().parse().ok()
        };
        let (limit, usage) = (number(self.limit)?, number(self.usage)?);
        let statistics = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let pages = self.pages.iter().filter_map(|name| {
            let mut lines = statistics.lines().filter_map(|line| line.split_once(' '));
            let line = lines.find(|(key, _)| key == name);
            line.and_then(|(_, bytes)| bytes.trim().parse::<u64>().ok())
        });
        let pages: u64 = pages.sum();
        Some(limit.saturating_sub(usage.saturating_sub(pages)))
    }
}

/// Returns the anonymous memory of all visible processes.
fn taken(root: &Path) -> u64 {
    let processes = fs::read_dir(root.join("proc"))
        .into_iter()
        .flatten()
        .flatten();
    let processes = processes.filter(|entry| {
        let name = entry.file_name();
        name.to_str()
            .is_some_and(|name| name.parse::<u32>().is_ok())
    });
    let taken = processes.filter_map(|process| {
        // A process may end in between, and kernel threads have no memory.
        anonymous(&process.path().join("status"))
    });
    taken.sum()
}

/// Returns the anonymous memory of a process in bytes, from its `status`.
fn anonymous(status: &Path) -> Option<u64> {
    let own = kilobytes(status, "RssAnon:")?;
    Some(own + kilobytes(status, "RssShmem:").unwrap_or_default())
}

/// Returns the value of the line `name` in bytes, from a file with values in kilobytes.
fn kilobytes(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1024 * 1024;

    /// Simulated machine with 900 MB available.
    struct FakeMachine(tempfile::TempDir);

    impl FakeMachine {
        fn new() -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            machine.has(
                "proc/meminfo",
                "MemTotal: 2048000 kB\nMemAvailable:  921600 kB\n",
            );
            machine
        }

        fn has(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn free_mb(&self, size_mb: Option<u64>) -> Option<u64> {
            free(self.0.path(), size_mb.map(|mb| mb * MB)).map(|bytes| bytes / MB)
        }

        /// Adds a group of version 1, with figures in MB.
        fn group_1(&self, path: &str, limit: u64, usage: u64, pages: u64) {
            let group = format!("sys/fs/cgroup/memory/{path}");
            self.has(
                &format!("{group}/memory.limit_in_bytes"),
                &format!("{}\n", limit * MB),
            );
            self.has(
                &format!("{group}/memory.usage_in_bytes"),
                &format!("{}\n", usage * MB),
            );
            let statistics = format!(
                "inactive_file 1\ntotal_inactive_file {}\ntotal_active_file {}\n",
                pages * MB / 2,
                pages * MB / 2
            );
            self.has(&format!("{group}/memory.stat"), &statistics);
        }
    }

    #[test]
    fn without_limits_the_machine_counts() {
        let machine = FakeMachine::new();
        assert_eq!(machine.free_mb(None), Some(900));
        assert_eq!(free(Path::new("/nowhere"), None), None);
    }

    #[test]
    fn all_processes_share_the_memory_size_and_file_pages_do_not_count() {
        let machine = FakeMachine::new();
        let status =
            "VmRSS: 999999 kB\nRssAnon: 102400 kB\nRssFile: 409600 kB\nRssShmem: 10240 kB\n";
        machine.has("proc/7/status", status);
        machine.has("proc/8/status", "RssAnon: 40960 kB\n");
        machine.has("proc/2/status", "Name: kthreadd\n");
        machine.has("proc/sys/status", "RssAnon: 999999 kB\n");
        assert_eq!(machine.free_mb(Some(512)), Some(512 - 100 - 10 - 40));
        assert_eq!(machine.free_mb(Some(128)), Some(0));
        // The processes exceed 128 MB, so they do not share such an environment.
        machine.has("proc/self/status", "RssAnon: 40960 kB\n");
        assert_eq!(machine.free_mb(Some(128)), Some(88));
        assert_eq!(
            machine.free_mb(Some(10_240)),
            Some(900),
            "the machine has less"
        );
    }

    #[test]
    fn the_tightest_group_counts_without_its_file_pages() {
        let machine = FakeMachine::new();
        machine.has(
            "proc/self/cgroup",
            "5:cpu:/other\n4:memory,pids:/a/b\n0::/\n",
        );
        machine.group_1("a/b", 400, 300, 200);
        assert_eq!(machine.free_mb(None), Some(300));
        machine.group_1("a", 250, 200, 100);
        assert_eq!(machine.free_mb(None), Some(150));
        // In a container, the path may be that of the host, and only the root exists.
        machine.has("proc/self/cgroup", "4:memory:/docker/0123\n");
        machine.group_1("", 100, 40, 20);
        assert_eq!(machine.free_mb(None), Some(80));
    }

    #[test]
    fn groups_of_version_2_are_read() {
        let machine = FakeMachine::new();
        machine.has("proc/self/cgroup", "0::/app.slice/sidecar\n");
        let group = "sys/fs/cgroup/app.slice/sidecar";
        machine.has(&format!("{group}/memory.max"), "max\n");
        machine.has(&format!("{group}/memory.current"), "1048576\n");
        assert_eq!(machine.free_mb(None), Some(900), "no limit");
        machine.has(&format!("{group}/memory.max"), "209715200\n");
        machine.has(&format!("{group}/memory.current"), "157286400\n");
        machine.has(
            &format!("{group}/memory.stat"),
            "anon 5\ninactive_file 52428800\nactive_file 0\n",
        );
        assert_eq!(machine.free_mb(None), Some(100));
    }

    #[test]
    fn this_machine_has_free_memory() {
        assert!(SystemMemory::new(None).free().is_some_and(|free| free > 0));
    }
}
