//! Requests that wait for a model or for its version check. The test loads and checks.

use tokio::sync::mpsc::Receiver;

use super::*;
use crate::clock::wall::{Monotonic, Wall};
use crate::clock::{Clock as _, Thaws};
use crate::models::{Models, stub};
use crate::scheduler::ExecutorLimits;
use crate::status::{ModelCommand, Status};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

struct AwaitModelBench {
    wall: Arc<Wall>,
    thaws: Thaws,
    name: ModelName,
    context: ServerContext,
    commands: Receiver<ModelCommand>,
}

impl AwaitModelBench {
    fn new(max_staleness: Option<Duration>) -> Self {
        let (wall, thaws) = (Wall::new(), Thaws::default());
        let name = ModelName::parse("wine").unwrap();
        let (status, commands) = Status::new([name.clone()]);
        let context = ServerContext::new(
            Arc::new(Models::new([name.clone()])),
            Arc::new(status),
            ExecutorLimits::default(),
            Arc::clone(&wall) as _,
            thaws.clone(),
            max_staleness,
        );
        Self {
            wall,
            thaws,
            name,
            context,
            commands,
        }
    }

    /// Creates a bench with an active version that was just checked.
    fn loaded(max_staleness: Option<Duration>) -> Self {
        let bench = Self::new(max_staleness);
        bench.load("1");
        bench.check_ends(None);
        bench
    }

    fn load(&self, etag: &str) {
        let loaded = stub::loaded(&self.name, etag, |_| Ok(Vec::new()));
        let version = Some(loaded.version.clone());
        self.context.models.swap(loaded);
        self.context
            .status
            .update(&self.name, |status| status.version = version);
    }

    fn check_ends(&self, problem: Option<&str>) {
        let now = self.wall.now();
        self.context.status.update(&self.name, |status| {
            status.checks_ended += 1;
            status.check_ended_at = Some(now);
            status.problem = problem.map(str::to_owned);
            if problem.is_none() {
                status.checked_at = Some(now);
            }
        });
    }

    /// Unloads the active version, so that another can be loaded.
    fn replacement_begins(&self, by: &str) {
        let by = stub::loaded(&self.name, by, |_| Ok(Vec::new()))
            .version
            .clone();
        self.context
            .status
            .update(&self.name, |status| status.is_busy = true);
        self.context.status.replacement_began(&self.name, &by);
        drop(self.context.models.begin_drain(&self.name));
    }

    /// Activates a version, and ends the check that found it.
    fn replacement_ends(&self, etag: &str, problem: Option<&str>) {
        let loaded = stub::loaded(&self.name, etag, |_| Ok(Vec::new()));
        let version = loaded.version.clone();
        self.context.models.swap(loaded);
        let now = self.wall.now();
        self.context.status.activated(&self.name, &version, now);
        self.context
            .status
            .update(&self.name, |status| status.is_busy = false);
        self.check_ends(problem);
    }

    async fn request(&self, time: Duration) -> Result<String, String> {
        let deadline = Deadline::after(self.wall.now(), time);
        let version = active_version(&self.name, deadline, &self.context);
        let version = tokio::time::timeout(4 * HOUR, version).await;
        match version.expect("the request never ends") {
            Ok(loaded) => Ok(loaded.version.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn version(&self) -> String {
        self.context
            .models
            .current(&self.name)
            .unwrap()
            .version
            .to_string()
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passed_in_a_freeze_ends_the_wait() {
    for clock in Monotonic::BOTH {
        let bench = AwaitModelBench::new(None);
        let freeze = async {
            tokio::task::yield_now().await;
            clock.freeze(&bench.wall, &bench.thaws, HOUR).await;
        };
        let started = tokio::time::Instant::now();
        let (served, ()) = tokio::join!(bench.request(MINUTE), freeze);
        assert!(
            served.unwrap_err().contains("still being loaded"),
            "{clock:?}"
        );
        let frozen = match clock {
            Monotonic::Jumps => HOUR,
            Monotonic::StandsStill => Duration::ZERO,
        };
        assert_eq!(started.elapsed(), frozen, "at once: {clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_with_time_left_after_a_freeze_gets_its_model() {
    for clock in Monotonic::BOTH {
        let bench = AwaitModelBench::new(None);
        let freeze = async {
            tokio::task::yield_now().await;
            clock.freeze(&bench.wall, &bench.thaws, HOUR).await;
            tokio::task::yield_now().await;
            bench.load("1");
        };
        let (served, ()) = tokio::join!(bench.request(2 * HOUR), freeze);
        assert_eq!(served, Ok(bench.version()), "{clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_version_or_any_without_a_limit_serves_immediately() {
    for (limit, age) in [(Some(MINUTE), MINUTE), (None, 10 * HOUR)] {
        let mut bench = AwaitModelBench::loaded(limit);
        bench.wall.pass(age);
        assert_eq!(bench.request(MINUTE).await, Ok(bench.version()));
        assert!(bench.commands.try_recv().is_err(), "a check was requested");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_version_is_checked_first_and_the_new_one_serves() {
    let mut bench = AwaitModelBench::loaded(Some(MINUTE));
    let old = bench.version();
    bench.wall.pass(HOUR);
    let mut commands = std::mem::replace(&mut bench.commands, tokio::sync::mpsc::channel(1).1);
    let checks = async {
        let command = commands.recv().await;
        assert!(matches!(command, Some(ModelCommand::Check(model)) if model == bench.name));
        bench.load("2");
        bench.check_ends(None);
    };
    let (served, ()) = tokio::join!(bench.request(MINUTE), checks);
    assert_eq!(served, Ok(bench.version()));
    assert_ne!(served, Ok(old));
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_check_the_active_version_serves_without_another_check_for_a_while() {
    let mut bench = AwaitModelBench::loaded(Some(MINUTE));
    bench.wall.pass(HOUR);
    let mut commands = std::mem::replace(&mut bench.commands, tokio::sync::mpsc::channel(1).1);
    let checks = async {
        commands.recv().await.unwrap();
        bench.check_ends(Some("no connection"));
    };
    let (served, ()) = tokio::join!(bench.request(MINUTE), checks);
    assert_eq!(served, Ok(bench.version()));

    bench.wall.pass(CHECK_PAUSE / 2);
    assert_eq!(bench.request(MINUTE).await, Ok(bench.version()));
    assert!(
        commands.try_recv().is_err(),
        "a check was requested right after a failure"
    );
}

#[tokio::test(start_paused = true)]
async fn a_check_takes_at_most_half_of_the_time() {
    for clock in Monotonic::BOTH {
        let bench = AwaitModelBench::loaded(Some(MINUTE));
        bench.wall.pass(HOUR);
        let time = Duration::from_secs(4);
        let freeze = async {
            tokio::task::yield_now().await;
            clock.freeze(&bench.wall, &bench.thaws, time / 2).await;
        };
        let started = tokio::time::Instant::now();
        let (served, ()) = tokio::join!(bench.request(time), freeze);
        assert_eq!(served, Ok(bench.version()), "{clock:?}");
        let frozen = match clock {
            Monotonic::Jumps => time / 2,
            Monotonic::StandsStill => Duration::ZERO,
        };
        assert_eq!(started.elapsed(), frozen, "the half is over: {clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_wait_while_a_version_is_replaced() {
    // After a freeze, and with either outcome: the new version, or the previous version again.
    for (clock, etag, problem) in [
        (Monotonic::Jumps, "2", None),
        (Monotonic::StandsStill, "2", None),
        (Monotonic::Jumps, "1", Some("not a model")),
    ] {
        let mut bench = AwaitModelBench::loaded(None);
        bench.replacement_begins("2");
        let mut commands = std::mem::replace(&mut bench.commands, tokio::sync::mpsc::channel(1).1);
        let replacement = async {
            tokio::task::yield_now().await;
            clock.freeze(&bench.wall, &bench.thaws, HOUR).await;
            tokio::task::yield_now().await;
            bench.replacement_ends(etag, problem);
        };
        let (first, second) = (bench.request(2 * HOUR), bench.request(2 * HOUR));
        let (first, second, ()) = tokio::join!(first, second, replacement);
        assert_eq!(first, Ok(bench.version()), "{clock:?} {etag}");
        assert_eq!(second, Ok(bench.version()), "{clock:?} {etag}");
        assert!(
            commands.try_recv().is_err(),
            "a check was requested during a load"
        );
        assert_eq!(
            bench.context.status.get(&bench.name).unwrap().replaced_by,
            None
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_deadline_passes_during_a_replacement_gets_the_reason() {
    let bench = AwaitModelBench::loaded(None);
    bench.replacement_begins("2");
    let by = bench
        .context
        .status
        .get(&bench.name)
        .unwrap()
        .replaced_by
        .unwrap();
    let started = tokio::time::Instant::now();
    // Advances the wall clock with the timers.
    let pass = async {
        tokio::time::sleep(MINUTE).await;
        bench.wall.pass(MINUTE);
    };
    let (served, ()) = tokio::join!(bench.request(MINUTE), pass);
    let words = served.unwrap_err();
    let expected = format!("is being replaced by version {by}");
    assert!(words.contains(&expected), "{words}");
    assert!(started.elapsed() >= MINUTE, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_replacement_found_by_a_check_is_waited_for_until_the_deadline() {
    let mut bench = AwaitModelBench::loaded(Some(MINUTE));
    bench.wall.pass(HOUR);
    let mut commands = std::mem::replace(&mut bench.commands, tokio::sync::mpsc::channel(1).1);
    let time = Duration::from_secs(4);
    let replacement = async {
        commands.recv().await.unwrap();
        bench.replacement_begins("2");
        bench.wall.pass(time * 3 / 4);
        bench.thaws.note(bench.wall.now());
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        bench.replacement_ends("2", None);
    };
    let (served, ()) = tokio::join!(bench.request(time), replacement);
    assert_eq!(served, Ok(bench.version()));
}
