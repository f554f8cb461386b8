//! Requests that wait for a model or for a check of it; the test is who loads and checks.

use tokio::sync::mpsc::Receiver;

use super::*;
use crate::clock::wall::{Monotonic, Wall};
use crate::clock::{Clock as _, Thaws};
use crate::models::Models;
use crate::scheduler::Limits;
use crate::scheduler::stub;
use crate::status::{Command, Status};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

struct Bench {
    wall: Arc<Wall>,
    thaws: Thaws,
    name: ModelName,
    context: Context,
    commands: Receiver<Command>,
}

impl Bench {
    fn new(max_staleness: Option<Duration>) -> Self {
        let (wall, thaws) = (Wall::new(), Thaws::default());
        let name = ModelName::parse("wine").unwrap();
        let (status, commands) = Status::new([name.clone()]);
        let context = Context::new(
            Arc::new(Models::new([name.clone()])),
            Arc::new(status),
            Limits::default(),
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

    /// One that has loaded a version and checked it now.
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
            status.attempts += 1;
            status.attempted_at = Some(now);
            status.problem = problem.map(str::to_owned);
            if problem.is_none() {
                status.checked_at = Some(now);
            }
        });
    }

    /// The version that answers is taken out, so that another can be loaded.
    fn replacement_begins(&self, by: &str) {
        let by = stub::loaded(&self.name, by, |_| Ok(Vec::new()))
            .version
            .clone();
        self.context
            .status
            .update(&self.name, |status| status.busy = true);
        self.context.status.replacement_began(&self.name, &by);
        drop(self.context.models.take_out(&self.name));
    }

    /// One that was loaded answers, and the check that brought it is over.
    fn replacement_ends(&self, etag: &str, problem: Option<&str>) {
        let loaded = stub::loaded(&self.name, etag, |_| Ok(Vec::new()));
        let version = loaded.version.clone();
        self.context.models.swap(loaded);
        let now = self.wall.now();
        self.context.status.answers(&self.name, &version, now);
        self.context
            .status
            .update(&self.name, |status| status.busy = false);
        self.check_ends(problem);
    }

    async fn ask(&self, time: Duration) -> Result<String, String> {
        let deadline = Deadline::after(self.wall.now(), time);
        let answer = loaded(&self.name, deadline, &self.context);
        let answer = tokio::time::timeout(4 * HOUR, answer).await;
        match answer.expect("the request waits for ever") {
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
async fn a_request_whose_deadline_passed_in_a_freeze_waits_no_longer_for_its_model() {
    for clock in Monotonic::BOTH {
        let bench = Bench::new(None);
        let freeze = async {
            tokio::task::yield_now().await;
            clock.freeze(&bench.wall, &bench.thaws, HOUR).await;
        };
        let started = tokio::time::Instant::now();
        let (answer, ()) = tokio::join!(bench.ask(MINUTE), freeze);
        assert!(
            answer.unwrap_err().contains("still being loaded"),
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
async fn a_request_whose_deadline_lies_ahead_gets_the_model_that_came_after_a_freeze() {
    for clock in Monotonic::BOTH {
        let bench = Bench::new(None);
        let freeze = async {
            tokio::task::yield_now().await;
            clock.freeze(&bench.wall, &bench.thaws, HOUR).await;
            tokio::task::yield_now().await;
            bench.load("1");
        };
        let (answer, ()) = tokio::join!(bench.ask(2 * HOUR), freeze);
        assert_eq!(answer, Ok(bench.version()), "{clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_version_or_any_without_a_limit_answers_at_once() {
    for (limit, age) in [(Some(MINUTE), MINUTE), (None, 10 * HOUR)] {
        let mut bench = Bench::loaded(limit);
        bench.wall.pass(age);
        assert_eq!(bench.ask(MINUTE).await, Ok(bench.version()));
        assert!(bench.commands.try_recv().is_err(), "no check was asked for");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_version_is_checked_first_and_the_new_one_answers() {
    let mut bench = Bench::loaded(Some(MINUTE));
    let old = bench.version();
    bench.wall.pass(HOUR);
    let mut commands = std::mem::replace(&mut bench.commands, tokio::sync::mpsc::channel(1).1);
    let checks = async {
        let command = commands.recv().await;
        assert!(matches!(command, Some(Command::Check(model)) if model == bench.name));
        bench.load("2");
        bench.check_ends(None);
    };
    let (answer, ()) = tokio::join!(bench.ask(MINUTE), checks);
    assert_eq!(answer, Ok(bench.version()));
    assert_ne!(answer, Ok(old));
}

#[tokio::test(start_paused = true)]
async fn when_the_check_fails_the_loaded_version_answers_and_for_a_while_without_another() {
    let mut bench = Bench::loaded(Some(MINUTE));
    bench.wall.pass(HOUR);
    let mut commands = std::mem::replace(&mut bench.commands, tokio::sync::mpsc::channel(1).1);
    let checks = async {
        commands.recv().await.unwrap();
        bench.check_ends(Some("S3 is away"));
    };
    let (answer, ()) = tokio::join!(bench.ask(MINUTE), checks);
    assert_eq!(answer, Ok(bench.version()));

    bench.wall.pass(CHECK_PAUSE / 2);
    assert_eq!(bench.ask(MINUTE).await, Ok(bench.version()));
    assert!(commands.try_recv().is_err(), "the failure is a moment old");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_does_not_end_leaves_the_model_half_of_the_time() {
    for clock in Monotonic::BOTH {
        let bench = Bench::loaded(Some(MINUTE));
        bench.wall.pass(HOUR);
        let time = Duration::from_secs(4);
        let freeze = async {
            tokio::task::yield_now().await;
            clock.freeze(&bench.wall, &bench.thaws, time / 2).await;
        };
        let started = tokio::time::Instant::now();
        let (answer, ()) = tokio::join!(bench.ask(time), freeze);
        assert_eq!(answer, Ok(bench.version()), "{clock:?}");
        let frozen = match clock {
            Monotonic::Jumps => time / 2,
            Monotonic::StandsStill => Duration::ZERO,
        };
        assert_eq!(started.elapsed(), frozen, "the half is over: {clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_wait_while_a_version_is_replaced_and_get_the_one_that_answers_then() {
    // Also after a freeze in the middle, and whether the new version came or the old one came back.
    for (clock, etag, problem) in [
        (Monotonic::Jumps, "2", None),
        (Monotonic::StandsStill, "2", None),
        (Monotonic::Jumps, "1", Some("the new one is no model")),
    ] {
        let mut bench = Bench::loaded(None);
        bench.replacement_begins("2");
        let mut commands = std::mem::replace(&mut bench.commands, tokio::sync::mpsc::channel(1).1);
        let replacement = async {
            tokio::task::yield_now().await;
            clock.freeze(&bench.wall, &bench.thaws, HOUR).await;
            tokio::task::yield_now().await;
            bench.replacement_ends(etag, problem);
        };
        let (one, other) = (bench.ask(2 * HOUR), bench.ask(2 * HOUR));
        let (one, other, ()) = tokio::join!(one, other, replacement);
        assert_eq!(one, Ok(bench.version()), "{clock:?} {etag}");
        assert_eq!(other, Ok(bench.version()), "{clock:?} {etag}");
        assert!(commands.try_recv().is_err(), "a load is under way already");
        assert_eq!(
            bench.context.status.get(&bench.name).unwrap().replaced_by,
            None
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_deadline_comes_before_the_replacement_is_told_what_goes_on() {
    let bench = Bench::loaded(None);
    bench.replacement_begins("2");
    let by = bench
        .context
        .status
        .get(&bench.name)
        .unwrap()
        .replaced_by
        .unwrap();
    let started = tokio::time::Instant::now();
    // The wall clock goes along with the timers.
    let pass = async {
        tokio::time::sleep(MINUTE).await;
        bench.wall.pass(MINUTE);
    };
    let (answer, ()) = tokio::join!(bench.ask(MINUTE), pass);
    let words = answer.unwrap_err();
    let expected = format!("is being replaced by version {by}");
    assert!(words.contains(&expected), "{words}");
    assert!(started.elapsed() >= MINUTE, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stale_version_that_its_check_replaces_is_waited_for_beyond_the_half() {
    let mut bench = Bench::loaded(Some(MINUTE));
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
    let (answer, ()) = tokio::join!(bench.ask(time), replacement);
    assert_eq!(answer, Ok(bench.version()));
}
