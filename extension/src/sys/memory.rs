//! How much memory is left.
//!
//! Whoever sets a limit is asked: the machine (on Lambda the microVM), the control groups of this process, and the
//! function's memory size, which is everyone's in the environment. The least of what they leave counts. Pages of files
//! do not count as taken, as far as the system can take them back: what was read of a model's file stays in them until
//! somebody needs the memory.
//!
//! Nothing in a sandbox shows how Lambda counts, so what the memory size leaves is its own sum: the memory that belongs
//! to no file, of every process that is to be seen, the function's and those of other extensions among them.

use std::fs;
use std::path::{Path, PathBuf};

/// Says how much memory is left. A seam: tests of what fits bring their own.
pub trait MemoryProbe: Send + Sync {
    /// Bytes that may still be taken before somebody is killed for it; `None` where nothing says.
    fn free(&self) -> Option<u64>;

    /// Bytes that this process has taken and the system cannot take back; `None` where nothing says.
    fn own(&self) -> Option<u64> {
        None
    }
}

/// The memory of this environment.
#[derive(Clone, Copy, Debug)]
pub struct SystemMemory {
    size: Option<u64>,
}

impl SystemMemory {
    /// The memory of an environment that may take `size` bytes in all, where that is known.
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

/// What is left below a root that has `proc` and `sys`.
fn free(root: &Path, size: Option<u64>) -> Option<u64> {
    let machine = of_machine(root);
    let by_size = size.map(|size| {
        let mut taken = taken(root);
        if taken > size {
            // Processes of no such environment are visible, as on a developer's machine: only this one's count.
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

/// What each control group leaves in which this process is, directly or further up.
fn of_groups(root: &Path) -> Vec<u64> {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mounts = root.join("sys/fs/cgroup");
    let mut left = Vec::new();
    for line in own.lines() {
        // Its number, the controllers, and the group's path; version 2 names no controllers.
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

/// A group and those above it, up to the root of its tree. In a container that root may be the group itself.
fn up_to(mount: &Path, group: &str) -> impl Iterator<Item = PathBuf> {
    let path = mount.join(group.trim_start_matches('/'));
    let mount = mount.to_owned();
    let above: Vec<PathBuf> = path.ancestors().map(Path::to_owned).collect();
    above
        .into_iter()
        .take_while(move |path| path.starts_with(&mount))
}

/// How a version of control groups calls its files, and the pages of files in them.
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
    /// What a group leaves; `None` for one without a limit.
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

/// What all processes that are to be seen have taken and is no file's.
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
        // One may end while it is looked at, and threads of the kernel have none.
        anonymous(&process.path().join("status"))
    });
    taken.sum()
}

/// The bytes of a process that belong to no file, from its `status`.
fn anonymous(status: &Path) -> Option<u64> {
    let own = kilobytes(status, "RssAnon:")?;
    Some(own + kilobytes(status, "RssShmem:").unwrap_or_default())
}

/// The bytes in a line of `file` that gives kilobytes under `name`.
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

    /// A machine with 900 MB available, and what a test puts on it.
    struct Machine(tempfile::TempDir);

    impl Machine {
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

        /// A group of version 1 in which so many MB are used.
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
    fn without_limits_the_machine_says() {
        let machine = Machine::new();
        assert_eq!(machine.free_mb(None), Some(900));
        assert_eq!(free(Path::new("/nowhere"), None), None);
    }

    #[test]
    fn the_memory_size_is_shared_by_all_processes_and_files_do_not_count() {
        let machine = Machine::new();
        let status =
            "VmRSS: 999999 kB\nRssAnon: 102400 kB\nRssFile: 409600 kB\nRssShmem: 10240 kB\n";
        machine.has("proc/7/status", status);
        machine.has("proc/8/status", "RssAnon: 40960 kB\n");
        machine.has("proc/2/status", "Name: kthreadd\n");
        machine.has("proc/sys/status", "RssAnon: 999999 kB\n");
        assert_eq!(machine.free_mb(Some(512)), Some(512 - 100 - 10 - 40));
        assert_eq!(machine.free_mb(Some(128)), Some(0));
        // They are not all in an environment of 128 MB.
        machine.has("proc/self/status", "RssAnon: 40960 kB\n");
        assert_eq!(machine.free_mb(Some(128)), Some(88));
        assert_eq!(
            machine.free_mb(Some(10_240)),
            Some(900),
            "the machine has less"
        );
    }

    #[test]
    fn the_narrowest_group_counts_whichever_it_is_without_its_pages_of_files() {
        let machine = Machine::new();
        machine.has(
            "proc/self/cgroup",
            "5:cpu:/other\n4:memory,pids:/a/b\n0::/\n",
        );
        machine.group_1("a/b", 400, 300, 200);
        assert_eq!(machine.free_mb(None), Some(300));
        machine.group_1("a", 250, 200, 100);
        assert_eq!(machine.free_mb(None), Some(150));
        // In a container the path may be the host's, and only the root be there.
        machine.has("proc/self/cgroup", "4:memory:/docker/0123\n");
        machine.group_1("", 100, 40, 20);
        assert_eq!(machine.free_mb(None), Some(80));
    }

    #[test]
    fn groups_of_version_2_are_read_as_well() {
        let machine = Machine::new();
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
    fn this_machine_says_something() {
        assert!(SystemMemory::new(None).free().is_some_and(|free| free > 0));
    }
}
