//! The lab's clock, as seen by processes: waits of the standard library, of tokio, and of Python.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use lab::lambda::sandbox::Running;
use lab::lambda::{Clock, SharedClock};

use crate::folders::Folders;

const HOUR: Duration = Duration::from_hours(1);
/// Minimum real duration of a freeze.
const STANDS: Duration = Duration::from_millis(500);
/// Ten times as long as any wait of these tests.
const TEN_MINUTES: &str = "600000";
const WAITS: [&str; 5] = ["park", "sleep", "condvar", "channel", "tokio"];

fn watch() -> Folders {
    Folders::with(Path::new(env!("CARGO_BIN_EXE_watch")))
}

/// Parsed line `NAME monotonic=MS wall=MS wakes=N`.
#[derive(Debug)]
struct Seen {
    monotonic: Duration,
    wall: Duration,
    wakes: u64,
}

async fn seen(folders: &Folders, mark: usize, name: &str) -> Seen {
    let begins = format!("{name} monotonic=");
    let line = folders
        .log
        .wait_for_line_after(mark, &begins, |line| line.starts_with(&begins));
    let line = line.await.unwrap();
    let number = |key: &str| {
        let (_, rest) = line.split_once(key).unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    Seen {
        monotonic: Duration::from_millis(number("monotonic=")),
        wall: Duration::from_millis(number("wall=")),
        wakes: number("wakes="),
    }
}

/// Freezes for a simulated hour, and returns a lower bound of the real duration.
async fn an_hour_frozen(running: &Running, clock: &SharedClock) -> Duration {
    running.freeze().unwrap();
    clock.froze();
    let frozen = Instant::now();
    clock.let_pass(HOUR).unwrap();
    tokio::time::sleep(STANDS).await;
    let stood = frozen.elapsed();
    clock.thawed().unwrap();
    running.thaw();
    stood
}

#[tokio::test]
async fn where_the_clocks_jump_every_wait_is_over_after_the_thaw() {
    let folders = watch();
    let clock = SharedClock::new(Clock::Jumps).unwrap().unwrap();
    let sandbox = folders
        .sandbox()
        .env("WATCH_FOR", TEN_MINUTES)
        .clock(Some(&clock));
    let running = sandbox.spawn(&folders.log).unwrap();
    folders.log.wait_for("armed").await.unwrap();
    all_asleep(&running).await;
    an_hour_frozen(&running, &clock).await;
    for name in WAITS {
        let seen = seen(&folders, 0, name).await;
        assert!(seen.monotonic >= HOUR, "{name}: {seen:?}");
        assert!(seen.wall >= HOUR, "{name}: {seen:?}");
        assert!(seen.wakes <= 2, "{name}: {seen:?}");
    }
}

#[tokio::test]
async fn where_the_monotonic_clock_stands_still_no_wait_has_lost_anything() {
    let folders = watch();
    let clock = SharedClock::new(Clock::StandsStill).unwrap().unwrap();
    let sandbox = folders
        .sandbox()
        .env("WATCH_FOR", "1500")
        .clock(Some(&clock));
    let started = Instant::now();
    let running = sandbox.spawn(&folders.log).unwrap();
    folders.log.wait_for("armed").await.unwrap();
    all_asleep(&running).await;
    let stood = an_hour_frozen(&running, &clock).await;
    std::fs::write(folders.tmp().join("ask"), "").unwrap();
    let asked = seen(&folders, 0, "asked").await;
    let lived = started.elapsed().saturating_sub(stood);
    assert!(
        asked.monotonic <= lived,
        "{asked:?}, after a run time of {lived:?}"
    );
    assert!(asked.wall >= HOUR + stood, "{asked:?}");
    folders.log.wait_for("first over").await.unwrap();
    for name in WAITS {
        let seen = seen(&folders, 0, name).await;
        assert!(
            seen.monotonic >= Duration::from_millis(200),
            "{name}: {seen:?}"
        );
    }
    // All waits of both rounds: each slept until its time was over, and did not spin.
    let log = folders.log.lines();
    let waits = log
        .iter()
        .filter(|line| WAITS.iter().any(|name| line.starts_with(name)));
    let wakes: Vec<u64> = waits
        .map(|line| line.rsplit_once('=').unwrap().1.parse().unwrap())
        .collect();
    assert_eq!(wakes.len(), 10, "{log:?}");
    assert!(wakes.iter().all(|wakes| *wakes <= 3), "{log:?}");
}

/// Waits until every thread of the program sleeps, so that all timers are armed.
async fn all_asleep(running: &Running) {
    let asleep = |pid: &i32| {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        threads
            .flatten()
            .filter(|thread| {
                let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                stat.contains(") S ")
            })
            .count()
    };
    let all = async {
        // Five threads of the waits, two workers of tokio, and the thread that finds the file.
        while running.pids().iter().map(asleep).sum::<usize>() < 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(lab::WAIT_LIMIT, all).await.unwrap();
}

#[tokio::test]
async fn waits_that_begin_after_a_freeze_take_their_time() {
    for kind in [Clock::Jumps, Clock::StandsStill] {
        let folders = watch();
        let clock = SharedClock::new(kind).unwrap().unwrap();
        let sandbox = folders.sandbox().env("WATCH_FOR", "1").clock(Some(&clock));
        let running = sandbox.spawn(&folders.log).unwrap();
        for name in WAITS {
            seen(&folders, 0, name).await;
        }
        let mark = folders.log.mark();
        an_hour_frozen(&running, &clock).await;
        let asked = Instant::now();
        std::fs::write(folders.tmp().join("ask"), "").unwrap();
        folders.log.wait_for("second over").await.unwrap();
        assert!(
            asked.elapsed() >= Duration::from_millis(200),
            "{kind:?}: ended too soon"
        );
        for name in WAITS {
            let seen = seen(&folders, mark, name).await;
            assert!(
                seen.monotonic >= Duration::from_millis(200),
                "{kind:?} {name}: {seen:?}"
            );
            assert!(seen.wakes <= 2, "{kind:?} {name}: {seen:?}");
        }
    }
}

#[test]
fn the_environments_wall_clock_equals_its_processes_clock() {
    assert!(SharedClock::new(Clock::Real).unwrap().is_none());
    for kind in [Clock::Jumps, Clock::StandsStill] {
        let clock = SharedClock::new(kind).unwrap().unwrap();
        clock.let_pass(HOUR).unwrap();
        clock.let_pass(HOUR).unwrap();
        let ahead = clock.now().duration_since(SystemTime::now()).unwrap();
        // The duration of the test itself reduces the difference.
        assert!(
            ahead + lab::WAIT_LIMIT > 2 * HOUR && ahead <= 2 * HOUR,
            "{ahead:?}"
        );
    }
}

/// The clocks of another language's runtime, and its waits on a lock.
const PYTHON: &str = "#!/usr/bin/python3
import threading, time
begin = time.monotonic(), time.time()
def report(name):
    now = time.monotonic(), time.time()
    print(name, f'monotonic={int((now[0] - begin[0]) * 1000)} wall={int((now[1] - begin[1]) * 1000)} wakes=0', flush=True)
def wait():
    threading.Event().wait(600)
    report('event')
threading.Thread(target=wait).start()
def doze():
    time.sleep(600)
    report('slept')
threading.Thread(target=doze).start()
print('armed', flush=True)
";

#[tokio::test]
async fn python_sees_the_same_clocks() {
    if !Path::new("/usr/bin/python3").exists() {
        println!("no /usr/bin/python3: not tried");
        return;
    }
    let folders = Folders::with_script(PYTHON);
    let clock = SharedClock::new(Clock::Jumps).unwrap().unwrap();
    let running = folders
        .sandbox()
        .clock(Some(&clock))
        .spawn(&folders.log)
        .unwrap();
    folders.log.wait_for("armed").await.unwrap();
    an_hour_frozen(&running, &clock).await;
    for name in ["event", "slept"] {
        let seen = seen(&folders, 0, name).await;
        assert!(
            seen.monotonic >= HOUR && seen.wall >= HOUR,
            "{name}: {seen:?}"
        );
    }
}
