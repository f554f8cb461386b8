//! A check that is asked for; the test is who makes it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;

use super::*;
use crate::clock::wall::Wall;
use crate::clock::{Clock as _, Thaws};
use crate::models::Models;
use crate::scheduler::Limits;
use crate::scheduler::stub;
use crate::status::{Command, Status};

const MINUTE: Duration = Duration::from_secs(60);

struct Bench {
    wall: Arc<Wall>,
    name: ModelName,
    context: Context,
}

impl Bench {
    /// A version answers.
    fn new() -> (Self, Receiver<Command>) {
        let wall = Wall::new();
        let name = ModelName::parse("wine").unwrap();
        let models = Models::new([name.clone()]);
        models.swap(stub::loaded(&name, "1", |_| Ok(Vec::new())));
        let (status, commands) = Status::new([name.clone()]);
        let context = Context::new(
            Arc::new(models),
            Arc::new(status),
            Limits::default(),
            Arc::clone(&wall) as _,
            Thaws::default(),
            None,
        );
        let bench = Self {
            wall,
            name,
            context,
        };
        (bench, commands)
    }

    fn begins(&self) {
        let now = self.wall.now();
        self.context.status.update(&self.name, |status| {
            status.busy = true;
            status.asked_at = Some(now);
        });
    }

    fn ends(&self, is_answered: bool, problem: Option<&str>) {
        let now = self.wall.now();
        self.context.status.update(&self.name, |status| {
            status.busy = false;
            status.attempts += 1;
            status.problem = problem.map(str::to_owned);
            if is_answered {
                status.checked_at = Some(now);
            }
        });
    }

    /// Asks for a check; gives an error's status and words.
    async fn ask(&self) -> Result<(), (u16, String)> {
        let deadline = Deadline::after(self.wall.now(), MINUTE);
        let checked = checked(&self.name, deadline, &self.context).await;
        checked.map_err(|error| (error.status().as_u16(), error.to_string()))
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_waits_for_the_check_and_says_how_it_ended() {
    for (is_answered, problem, expected) in [
        (true, None, Ok(())),
        (
            true,
            Some("not a model"),
            Err((409, "does not answer: not a model")),
        ),
        (
            false,
            Some("no connection"),
            Err((503, "could not be asked: no connection")),
        ),
    ] {
        let (bench, mut commands) = Bench::new();
        let check = async {
            let command = commands.recv().await;
            assert!(matches!(command, Some(Command::Check(model)) if model == bench.name));
            bench.wall.pass(MINUTE / 2);
            bench.begins();
            tokio::time::sleep(MINUTE / 3).await;
            bench.ends(is_answered, problem);
        };
        let started = tokio::time::Instant::now();
        let (answer, ()) = tokio::join!(bench.ask(), check);
        assert_eq!(started.elapsed(), MINUTE / 3);
        match expected {
            Ok(()) => assert_eq!(answer, Ok(())),
            Err((status, words)) => {
                let (found, said) = answer.unwrap_err();
                assert!(found == status && said.ends_with(words), "{found} {said}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_under_way_already_may_have_missed_what_is_to_be_loaded() {
    let (bench, mut commands) = Bench::new();
    bench.begins();
    let checks = async {
        tokio::time::sleep(MINUTE / 4).await;
        assert!(commands.try_recv().is_err(), "one at a time");
        bench.ends(true, None);
        assert!(commands.recv().await.is_some(), "and then another");
        bench.begins();
        bench.ends(true, Some("not a model"));
    };
    let (answer, ()) = tokio::join!(bench.ask(), checks);
    assert_eq!(answer.unwrap_err().0, 409);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_does_not_end_is_waited_for_until_the_deadline() {
    let (bench, commands) = Bench::new();
    let time = async {
        tokio::time::sleep(MINUTE / 2).await;
        bench.wall.pass(MINUTE);
    };
    let (answer, ()) = tokio::join!(bench.ask(), time);
    let (status, said) = answer.unwrap_err();
    assert!(
        status == 504 && said.contains("it goes on"),
        "{status} {said}"
    );
    drop(commands);
}
