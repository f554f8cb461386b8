//! The sidecar on a machine that is not Lambda: it runs until SIGTERM or Ctrl-C, with timers instead of events.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use super::startup_report::Phases;
use super::{App, EXIT_SUCCESS};
use crate::config::Environment;

/// Maximum time for running requests at the end.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// Maximum time of the last flush of metrics.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// Runs until a signal ends the process; returns the exit code.
pub(super) async fn run(environment: &Environment) -> i32 {
    let mut phases = Phases::new(Instant::now());
    // Signals count from the start: the first fetch may take minutes.
    let stop = termination();
    tokio::pin!(stop);
    let mut app = match App::build(environment, &mut phases).await {
        Ok(app) => app,
        Err(problem) => {
            error!("{problem}");
            return problem.exit_code();
        }
    };
    let mut startup = app.startup(phases, false);
    let started = tokio::select! {
        started = startup.within(app.config.init_budget) => Some(started),
        () = &mut stop => None,
    };
    let failure = match started {
        Some(Ok(())) => tokio::select! {
            () = run_on_timers(&app, stop) => None,
            problem = startup.failure() => Some(problem),
        },
        Some(Err(problem)) => Some(problem),
        None => {
            info!("stopped during the startup");
            app.shut_down(GRACE, LAST_FLUSH).await;
            return EXIT_SUCCESS;
        }
    };
    if let Some(problem) = failure {
        error!("{problem}");
        app.cache.close_loads();
        app.driver.lock().await.flush_finally(LAST_FLUSH).await;
        return problem.exit_code();
    }
    info!("shutting down");
    app.shut_down(GRACE, LAST_FLUSH).await;
    EXIT_SUCCESS
}

async fn run_on_timers(app: &App, end: impl Future<Output = ()>) {
    app.driver.lock().await.run_on_timers(end).await;
}

/// Waits for SIGTERM or Ctrl-C; SIGTERM counts from the call on.
fn termination() -> impl Future<Output = ()> {
    let terminate = signal(SignalKind::terminate());
    async {
        let terminated = async {
            match terminate {
                Ok(mut terminate) => {
                    terminate.recv().await;
                }
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = terminated => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
}
