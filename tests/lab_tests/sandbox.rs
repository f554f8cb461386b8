//! Start, freeze and end of a process in an execution environment.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use lab::lambda::sandbox::SizedTmp;

use crate::folders::{Folders, is_root};

/// Tries to write in all folders, and prints its user and location.
const LOOK_AROUND: &str = r#"#!/bin/sh
for folder in / /opt /var/task /usr /etc /dev /dev/shm /tmp; do
    if touch "$folder/new" 2>/dev/null; then echo "writes $folder"; fi
done
echo "user $(id -u) group $(id -g) in $(pwd)"
echo "capabilities $(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)"
echo "files $(ulimit -n)"
echo "processes $(ls -d /proc/[0-9]* | wc -l)"
echo "sees $(cat /opt/word)"
echo "variables $(env | cut -d= -f1 | grep -v -e PWD -e _ | sort | tr '\n' ' ')"
echo to-stderr >&2
exit 7
"#;

#[tokio::test]
async fn all_but_tmp_is_read_only_and_no_host_variable_is_inherited() {
    let folders = Folders::with_script(LOOK_AROUND);
    std::fs::write(folders.layer().join("word"), "layer").unwrap();
    let running = folders
        .sandbox()
        .env("GREETING", "hello")
        .spawn(&folders.log)
        .unwrap();
    assert_eq!(running.wait().await.code(), Some(7));
    let lines = folders.log.lines();
    let wrote: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("writes"))
        .collect();
    assert_eq!(wrote, ["writes /tmp"]);
    assert!(folders.tmp().join("new").exists());
    for expected in [
        "capabilities 0000000000000000",
        "files 1024",
        "sees layer",
        "variables GREETING PATH ",
        "to-stderr",
    ] {
        assert!(
            lines.iter().any(|line| line == expected.trim_end()),
            "no {expected:?}"
        );
    }
    let alone = lines
        .iter()
        .find_map(|line| line.strip_prefix("processes "))
        .unwrap();
    assert!(
        alone.parse::<u32>().unwrap() < 10,
        "{alone} processes in sight"
    );
    let refused = lines.iter().any(|line| line.contains("no user namespace"));
    let who = lines
        .iter()
        .any(|line| line == "user 993 group 990 in /var/task");
    assert!(
        who != refused,
        "neither another user nor a reason in the log"
    );
}

/// Counts in a file named after its process, and starts a child that does the same.
const COUNT: &str = r#"#!/bin/sh
count() { n=0; while :; do n=$((n + 1)); echo $n >"/tmp/$1"; done; }
count "$NAME-child" &
count "$NAME"
"#;

fn count(file: &Path) -> u64 {
    // A read during a write may return an empty file.
    let read = || {
        std::fs::read_to_string(file)
            .unwrap_or_default()
            .trim()
            .parse()
            .ok()
    };
    (0..10_000).find_map(|_| read()).unwrap_or(0)
}

/// Waits until a counter exceeds `than`.
async fn beyond(file: &Path, than: u64) {
    let counted = async {
        while count(file) <= than {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(lab::WAIT_LIMIT, counted)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_freeze_stops_all_that_runs_inside_and_a_thaw_lets_it_go_on() {
    let folders = Folders::with_script(COUNT);
    let counters = |name: &str| -> [PathBuf; 2] {
        [name.to_owned(), format!("{name}-child")].map(|name| folders.tmp().join(name))
    };
    let frozen = folders
        .sandbox()
        .env("NAME", "frozen")
        .spawn(&folders.log)
        .unwrap();
    let _free = folders
        .sandbox()
        .env("NAME", "free")
        .spawn(&folders.log)
        .unwrap();
    for file in counters("frozen") {
        beyond(&file, 10).await;
    }
    assert!(!frozen.is_frozen());
    for _ in 0..20 {
        frozen.freeze().unwrap();
        assert!(frozen.is_frozen());
        let before = counters("frozen").map(|file| std::fs::read_to_string(file).unwrap());
        for file in counters("free") {
            beyond(&file, count(&file) + 50).await;
        }
        let after = counters("frozen").map(|file| std::fs::read_to_string(file).unwrap());
        assert_eq!(before, after, "a process kept running");
        frozen.thaw();
        for file in counters("frozen") {
            beyond(&file, count(&file)).await;
        }
        assert!(!frozen.is_frozen());
    }
    assert_eq!(frozen.pids().len(), 2, "{:?}", frozen.names());
    assert_eq!(frozen.named("bootstrap"), frozen.pids());
}

#[tokio::test]
async fn kill_returns_after_the_exit_even_of_frozen_processes() {
    let folders = Folders::with_script(COUNT);
    for freeze in [false, true] {
        let running = folders
            .sandbox()
            .env("NAME", "killed")
            .spawn(&folders.log)
            .unwrap();
        beyond(&folders.tmp().join("killed-child"), 1).await;
        let pids = running.pids();
        assert_eq!(pids.len(), 2);
        if freeze {
            running.freeze().unwrap();
        }
        running.kill();
        for pid in pids {
            assert!(
                !Path::new(&format!("/proc/{pid}")).exists(),
                "{pid} lives on"
            );
        }
        assert_eq!(running.wait().await.signal(), Some(9));
        assert!(running.pids().is_empty());
        std::fs::remove_file(folders.tmp().join("killed-child")).unwrap();
    }
}

#[tokio::test]
async fn one_that_is_dropped_or_killed_in_its_first_moment_leaves_nothing() {
    let folders = Folders::with_script("#!/bin/sh\necho ran; exec sleep 600\n");
    for _ in 0..20 {
        drop(folders.start());
        let running = folders.start();
        running.kill();
        assert!(running.ended().is_some());
    }
}

#[tokio::test]
async fn a_signal_reaches_the_program_and_its_fatal_signal_is_reported() {
    let folders = Folders::with_script(
        "#!/bin/sh\ntrap 'echo stopping; kill -SEGV $$' TERM\necho ready\nwhile :; do sleep 0.01; done\n",
    );
    let running = folders.start();
    folders.log.wait_for("ready").await.unwrap();
    running.signal(nix::sys::signal::Signal::SIGTERM);
    folders.log.wait_for("stopping").await.unwrap();
    assert_eq!(running.wait().await.signal(), Some(11));
}

#[tokio::test]
async fn a_program_that_is_not_there_ends_with_a_word_in_the_log() {
    let folders = Folders::with_script("#!/bin/nowhere\n");
    let running = folders.start();
    assert_eq!(running.wait().await.code(), Some(1));
    folders.log.wait_for("/var/task/bootstrap").await.unwrap();
}

#[tokio::test]
async fn a_tmp_of_a_set_size_is_full_when_it_is_full() {
    let script = "#!/bin/sh\nhead -c 3000000 /dev/zero >/tmp/a && echo first fits\n\
                  head -c 3000000 /dev/zero >/tmp/b || echo second does not\n";
    let folders = Folders::with_script(script);
    let sized = SizedTmp::mount(&folders.tmp(), 4);
    if !is_root() {
        let error = sized.unwrap_err().to_string();
        assert!(error.contains("to 4 MB"), "{error}");
        return;
    }
    let running = folders.start();
    running.wait().await;
    assert_eq!(folders.log.lines().len(), 3, "{}", folders.log.text());
    folders.log.wait_for("first fits").await.unwrap();
    folders.log.wait_for("second does not").await.unwrap();
    assert_eq!(
        std::fs::metadata(folders.tmp().join("a")).unwrap().len(),
        3_000_000
    );
    drop(running);
    drop(sized);
    assert!(!folders.tmp().join("a").exists(), "still mounted");
}
