//! The sidecar as a Lambda extension: registration, Init, events and SHUTDOWN.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::error;

use super::start_error::{EXIT_FAILURE, StartError};
use super::startup::Startup;
use super::startup_report::Phases;
use super::{App, EXIT_SUCCESS};
use crate::config::{Config, Environment, InitializationType};
use crate::lifecycle::lambda::{Error, Events, Registration, register};

/// Maximum time for running requests at SHUTDOWN; the whole shutdown has 2 s.
pub(super) const GRACE: Duration = Duration::from_millis(300);
/// Maximum time of the last flush if the startup failed within its limit of 10 s, or if the platform does not respond.
const LAST_FLUSH: Duration = Duration::from_secs(1);

/// Runs until SHUTDOWN; returns the exit code.
pub(super) async fn run(environment: &Environment) -> i32 {
    let mut phases = Phases::new(Instant::now());
    let initialization = Config::initialization(environment);
    let is_managed = initialization == InitializationType::ManagedInstances;
    let events: &[&str] = if is_managed {
        &["SHUTDOWN"]
    } else {
        &["INVOKE", "SHUTDOWN"]
    };
    let name = environment.extension_name();
    let registering = async {
        let begun = Instant::now();
        let registered = register(&name, events).await;
        registered.map(|registration| (registration, begun.elapsed()))
    };
    // In parallel: the registration is needed only when Init ends.
    let building = Box::pin(App::build(environment, &mut phases));
    let (registered, built) = tokio::join!(registering, building);
    let registration = match registered {
        Ok((registration, time)) => {
            phases.register = Some(time);
            registration
        }
        Err(problem) => {
            error!("cannot register the extension with the platform: {problem}");
            return EXIT_FAILURE;
        }
    };
    let mut app = match built {
        Ok(app) => app,
        Err(problem) => return fail_init(registration, &problem).await,
    };
    let mut startup = app.startup(phases, true);
    if app.cache.is_restart() {
        Startup::skip_wait();
    } else if let Err(problem) = startup.within(app.config.init_budget).await {
        app.cache.close_loads();
        // After `init/error` the platform may end the process at once.
        app.driver.flush_finally(LAST_FLUSH).await;
        return fail_init(registration, &problem).await;
    }
    app.driver
        .discard_metrics_of_snapshot(initialization == InitializationType::SnapStart);
    let events = registration.ready();
    let ended = tokio::select! {
        // After a failed startup, `next` must not be called.
        biased;
        problem = startup.failure() => {
            error!("{problem}");
            app.shut_down(GRACE, LAST_FLUSH).await;
            events.exit_error(problem.kind(), &problem.to_string()).await;
            return problem.exit_code();
        }
        ended = follow(&mut app, &events, is_managed) => ended,
    };
    match ended {
        Ok(left) => {
            app.shut_down(GRACE, left).await;
            EXIT_SUCCESS
        }
        Err(problem) => {
            error!("lost the connection to the platform: {problem}");
            app.shut_down(GRACE, LAST_FLUSH).await;
            EXIT_FAILURE
        }
    }
}

/// Reports a failed Init to the platform; returns the exit code.
async fn fail_init(registration: Registration, problem: &StartError) -> i32 {
    error!("{problem}");
    registration
        .init_error(problem.kind(), &problem.to_string())
        .await;
    problem.exit_code()
}

/// Handles the platform's events until SHUTDOWN; returns the time that is left for the shutdown.
async fn follow(app: &mut App, events: &Events, is_managed: bool) -> Result<Duration, Error> {
    let clock = Arc::clone(&app.runner.clock);
    if !is_managed {
        return events.invocations(&mut app.driver, &*clock).await;
    }
    let (over, left) = oneshot::channel();
    let end = async {
        let _ = over.send(events.shutdown(&*clock).await);
    };
    app.driver.run_on_timers(end).await;
    left.await.unwrap_or_else(|error| Err(error.into()))
}
