//! The sidecar as a Lambda extension: registration, Init, events and SHUTDOWN.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{error, info};

use super::start_error::{EXIT_FAILURE, StartError};
use super::startup::Startup;
use super::startup_report::Phases;
use super::{App, EXIT_SUCCESS};
use crate::config::{Config, Environment, HandlerMode, InitializationType};
use crate::lifecycle::lambda::{Error, Events, Registration, register};
use crate::runtime::FunctionRuntime;

/// Maximum time for running requests at SHUTDOWN; the whole shutdown has 2 s.
pub(super) const GRACE: Duration = Duration::from_millis(300);
/// Maximum time of the last flush if the startup failed within its limit of 10 s, or if the platform does not respond.
const LAST_FLUSH: Duration = Duration::from_secs(1);

/// Limits on the time that Init waits for the function's process to attach. Lambda starts it once all extensions have
/// registered, and aborts an Init of 10 s.
const ATTACH_TIME: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(8);
/// Maximum time between the end of the function's process and SHUTDOWN, if both are part of one shutdown.
const SHUTDOWN_DELAY: Duration = Duration::from_secs(2);

/// Runs until SHUTDOWN; returns the exit code.
pub(super) async fn run(environment: &Environment) -> i32 {
    let mut phases = Phases::new(Instant::now());
    let initialization = Config::initialization(environment);
    let is_managed = initialization == InitializationType::ManagedInstances;
    let is_runtime = Config::handler_mode(environment) == HandlerMode::Attach;
    let events: &[&str] = if is_managed || is_runtime {
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
    if let Err(problem) = begin(&mut app, &mut startup).await {
        app.cache.close_loads();
        // After `init/error` the platform may end the process at once.
        app.driver.lock().await.flush_finally(LAST_FLUSH).await;
        return fail_init(registration, &problem).await;
    }
    app.runner.status.ready_for_snapshot();
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

/// Waits until Init may end: for the models and, with `MODEL_HANDLER=attach`, for the function's process.
async fn begin(app: &mut App, startup: &mut Startup) -> Result<(), StartError> {
    let App {
        config,
        cache,
        function,
        ..
    } = app;
    let budget = config.init_budget;
    let models = async {
        if cache.is_restart() {
            Startup::skip_wait();
            return Ok(());
        }
        startup.within(budget).await
    };
    let process = async {
        let Some(function) = function else {
            return Ok(());
        };
        let limit = budget.clamp(*ATTACH_TIME.start(), *ATTACH_TIME.end());
        let process = function.attached(limit).await;
        let process = process.ok_or(StartError::NotAttached(limit))?;
        let variable = |name: &str| process.variables.get(name).map(String::as_str);
        info!(
            version = process.version,
            handler = variable("_HANDLER"),
            log_stream = variable("AWS_LAMBDA_LOG_STREAM_NAME"),
            "the function's bootstrap is attached"
        );
        Ok(())
    };
    tokio::try_join!(models, process).map(drop)
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
    if let Some(function) = app.function.take() {
        return follow_as_runtime(app, function, events, is_managed).await;
    }
    let mut driver = app.driver.lock().await;
    if !is_managed {
        return events.invocations(&mut driver, &*clock).await;
    }
    let (over, left) = oneshot::channel();
    let end = async {
        let _ = over.send(events.shutdown(&*clock).await);
    };
    driver.run_on_timers(end).await;
    left.await.unwrap_or_else(|error| Err(error.into()))
}

/// Polls for events as the function's runtime until SHUTDOWN; returns the time that is left for the shutdown.
async fn follow_as_runtime(
    app: &App,
    function: FunctionRuntime,
    events: &Events,
    is_managed: bool,
) -> Result<Duration, Error> {
    let clock = Arc::clone(&app.runner.clock);
    let driver = Arc::clone(&app.driver).lock_owned().await;
    let (mut by_timers, by_invocations) = if is_managed {
        (Some(driver), None)
    } else {
        (None, Some(driver))
    };
    let mut polls = function.poll(by_invocations);
    let timers = async {
        if let Some(driver) = &mut by_timers {
            driver.run_on_timers(std::future::pending()).await;
        }
        std::future::pending::<Infallible>().await
    };
    let shutdown = events.shutdown(&*clock);
    tokio::pin!(shutdown, timers);
    let ended = tokio::select! {
        ended = &mut shutdown => ended,
        problem = polls.failure() => {
            // A shutdown ends the function's process first.
            let shutdown = tokio::time::timeout(SHUTDOWN_DELAY, shutdown).await;
            shutdown.unwrap_or_else(|_| Err(problem.into()))
        }
        never = &mut timers => match never {},
    };
    // Ends the running invocation, if there is one: the platform does not wait for its answer.
    drop(polls);
    if !is_managed {
        app.driver.lock().await.shut_down();
    }
    ended
}
