//! Checks on request; the test performs them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;

use super::*;
use crate::clock::wall::Wall;
use crate::clock::{Clock as _, Thaws};
use crate::models::{Models, stub};
use crate::scheduler::ExecutorLimits;
use crate::status::{ModelCommand, Status};

const MINUTE: Duration = Duration::from_secs(60);

struct RepositoryBench {
    wall: Arc<Wall>,
    name: ModelName,
    context: ServerContext,
}

impl RepositoryBench {
    /// Creates a bench with an active version.
    fn new() -> (Self, Receiver<ModelCommand>) {
        let wall = Wall::new();
        let name = ModelName::parse("wine").unwrap();
        let models = Models::new([name.clone()]);
        models.swap(stub::loaded(&name, "1", |_| Ok(Vec::new())));
        let (status, commands) = Status::new([name.clone()]);
        let context = ServerContext::new(
            Arc::new(models),
            Arc::new(status),
            ExecutorLimits::default(),
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
            status.is_busy = true;
            status.check_started_at = Some(now);
        });
    }

    fn ends(&self, is_reachable: bool, problem: Option<&str>) {
        let now = self.wall.now();
        self.context.status.update(&self.name, |status| {
            status.is_busy = false;
            status.checks_ended += 1;
            status.problem = problem.map(str::to_owned);
            if is_reachable {
                status.checked_at = Some(now);
            }
        });
    }

    /// Requests a check; returns the status and text of an error.
    async fn request(&self) -> Result<(), (u16, String)> {
        let deadline = Deadline::after(self.wall.now(), MINUTE);
        let checked = check_now(&self.name, deadline, &self.context).await;
        checked.map_err(|error| (error.status().as_u16(), error.to_string()))
    }
}

#[tokio::test(start_paused = true)]
async fn the_response_follows_the_check_and_names_its_outcome() {
    for (is_reachable, problem, expected) in [
        (true, None, Ok(())),
        (
            true,
            Some("not a model"),
            Err((409, "is not active: not a model")),
        ),
        (
            false,
            Some("no connection"),
            Err((
                503,
                "cannot check the source of model \"wine\": no connection",
            )),
        ),
    ] {
        let (bench, mut commands) = RepositoryBench::new();
        let check = async {
            let command = commands.recv().await;
            assert!(matches!(command, Some(ModelCommand::Check(model)) if model == bench.name));
            bench.wall.pass(MINUTE / 2);
            bench.begins();
            tokio::time::sleep(MINUTE / 3).await;
            bench.ends(is_reachable, problem);
        };
        let started = tokio::time::Instant::now();
        let (result, ()) = tokio::join!(bench.request(), check);
        assert_eq!(started.elapsed(), MINUTE / 3);
        match expected {
            Ok(()) => assert_eq!(result, Ok(())),
            Err((status, words)) => {
                let (found, said) = result.unwrap_err();
                assert!(found == status && said.ends_with(words), "{found} {said}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_check_is_followed_by_another() {
    let (bench, mut commands) = RepositoryBench::new();
    bench.begins();
    let checks = async {
        tokio::time::sleep(MINUTE / 4).await;
        assert!(commands.try_recv().is_err(), "one at a time");
        bench.ends(true, None);
        assert!(commands.recv().await.is_some(), "and then another");
        bench.begins();
        bench.ends(true, Some("not a model"));
    };
    let (result, ()) = tokio::join!(bench.request(), checks);
    assert_eq!(result.unwrap_err().0, 409);
}

#[tokio::test(start_paused = true)]
async fn a_check_is_waited_for_until_the_deadline() {
    let (bench, commands) = RepositoryBench::new();
    let time = async {
        tokio::time::sleep(MINUTE / 2).await;
        bench.wall.pass(MINUTE);
    };
    let (result, ()) = tokio::join!(bench.request(), time);
    let (status, said) = result.unwrap_err();
    assert!(
        status == 504 && said.contains("the check continues"),
        "{status} {said}"
    );
    drop(commands);
}
