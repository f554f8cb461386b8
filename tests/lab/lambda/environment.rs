//! An execution environment: its processes, its API and its states.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::api::Api;
use super::builder::{Builder, ON_DEMAND, SNAP_START};
use super::cgroup::Limits;
use super::command::{EnvironmentCommand, InvocationOutcome};
use super::function_state::FunctionState;
use super::machine::Event;
use super::role_credentials::RoleCredentials;
use super::sandbox::SizedTmp;
use super::state::{EnvironmentView, ShutdownReason, State};
use super::{ApiCall, LambdaError, SharedClock};
use crate::listener::{Listener, OpenConnections};
use crate::records::Records;
use crate::{NotSeen, WAIT_LIMIT};

mod driver;
mod processes;
mod setup;

use driver::Driver;
use processes::Processes;

/// An execution environment.
pub struct Environment {
    shared: Arc<SharedState>,
    commands: mpsc::UnboundedSender<EnvironmentCommand>,
    driver: JoinHandle<()>,
    /// Maximum number of concurrent invocations, and number of reserved ones.
    capacity: usize,
    reserved: Arc<AtomicUsize>,
    _api: Listener<Api>,
}

/// State shared by the driver and the readers.
#[derive(Debug)]
struct SharedState {
    number: usize,
    made: Instant,
    processes: Processes,
    clock: Option<SharedClock>,
    limits: Option<Limits>,
    /// Credentials of the role under `SnapStart`.
    credentials: Option<Arc<RoleCredentials>>,
    api_connections: OpenConnections,
    seen: watch::Sender<EnvironmentView>,
    /// Time of the last change of state.
    since: Mutex<Instant>,
    trace: Arc<Records<ApiCall>>,
    // Dropped, and so unmounted, before its folder.
    _sized: Option<SizedTmp>,
    tmp: Arc<TempDir>,
}

impl Environment {
    pub(super) async fn make(
        builder: &Builder,
        number: usize,
        function: &Arc<FunctionState>,
    ) -> Result<Self, LambdaError> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let made = Instant::now();
        let trace = Arc::new(Records::default());
        let credentials = (builder.initialization_type == SNAP_START)
            .then(|| Arc::new(RoleCredentials::new(number)));
        let api = Api::new(
            commands.clone(),
            made,
            Arc::clone(&trace),
            credentials.clone(),
        );
        let api = Listener::start(0, Arc::new(api)).await?;
        let tmp = setup::tmp(builder, number)?;
        let sized = match builder.tmp_mb {
            Some(megabytes) => Some(SizedTmp::mount(tmp.path(), megabytes)?),
            None => None,
        };
        let shared = Arc::new(SharedState {
            number,
            made,
            processes: Processes::new(
                builder,
                tmp.path(),
                setup::facts(builder, api.port(), credentials.as_deref()),
            ),
            clock: SharedClock::new(builder.clock)?,
            limits: setup::limits(builder, &function.log),
            credentials,
            api_connections: api.connections(),
            seen: watch::Sender::new(EnvironmentView::default()),
            since: Mutex::new(made),
            trace,
            _sized: sized,
            tmp,
        });
        let reserved = Arc::new(AtomicUsize::new(0));
        let idle_limit = builder
            .idle_limit
            .filter(|_| builder.initialization_type == ON_DEMAND);
        let driver = Driver::new(
            setup::machine(builder)?,
            Arc::clone(&shared),
            Arc::clone(function),
            Arc::clone(&reserved),
            idle_limit,
            (commands.clone(), inbox),
        );
        Ok(Self {
            shared,
            commands,
            driver: tokio::spawn(driver.run()),
            capacity: builder.managed_instances.map_or(1, |most| most as usize),
            reserved,
            _api: api,
        })
    }

    /// Reserves capacity for an invocation; `false` if there is none. Callers are serialized.
    pub(super) fn reserve(&self) -> bool {
        let going = matches!(self.state(), State::Ending | State::Gone);
        let free = !going && self.reserved.load(Ordering::Acquire) < self.capacity;
        if free {
            self.reserved.fetch_add(1, Ordering::AcqRel);
        }
        free
    }

    /// Returns `true` if capacity will become free without a response: only extensions or a reset
    /// are pending.
    pub(super) fn is_winding_up(&self) -> bool {
        matches!(self.state(), State::Tail | State::Ending)
    }

    /// Runs an invocation for which capacity was reserved.
    pub(super) async fn invoke(&self, event: Event) -> InvocationOutcome {
        let (answer, outcome) = oneshot::channel();
        let _ = self
            .commands
            .send(EnvironmentCommand::Invoke { event, answer });
        outcome.await.unwrap_or(InvocationOutcome::NotAccepted)
    }

    /// Starts Init ahead of any invocation.
    pub(super) fn begin(&self) {
        let _ = self.commands.send(EnvironmentCommand::Begin);
    }

    /// Number of the environment, counted from 0 in the order of creation.
    #[must_use]
    pub fn number(&self) -> usize {
        self.shared.number
    }

    /// Current state.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.seen.borrow().state
    }

    /// Returns `true` if the processes are frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.shared.seen.borrow().frozen
    }

    /// Time since state and frozenness last changed.
    #[must_use]
    pub fn in_state_for(&self) -> Duration {
        let since = self.shared.since.lock();
        since.unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Freezes every process immediately and returns when all are stopped. The environment stays
    /// frozen until [`Self::thaw`] or the next event, and time limits stand still.
    ///
    /// # Errors
    /// [`LambdaError::Gone`] after a shutdown, [`LambdaError::NotFrozen`] if a process keeps
    /// running.
    pub async fn freeze(&self) -> Result<(), LambdaError> {
        Ok(self.order(EnvironmentCommand::Freeze).await??)
    }

    /// Thaws every process.
    ///
    /// # Errors
    /// [`LambdaError::Gone`] after a shutdown.
    pub async fn thaw(&self) -> Result<(), LambdaError> {
        self.order(EnvironmentCommand::Thaw).await
    }

    /// Restores the snapshot of Init, ahead of an invocation: other credentials, closed connections
    /// to the API, and the end of `restore/next`. An environment that was restored before stands for
    /// another restore of the snapshot. Its processes continue where they are, so that the runtime
    /// gets no second end of `restore/next`.
    ///
    /// # Errors
    /// [`LambdaError::Gone`] after a shutdown.
    pub async fn restore(&self) -> Result<(), LambdaError> {
        self.order(EnvironmentCommand::Restore).await
    }

    /// Access key of the current credentials under `SnapStart`; `None` without it.
    #[must_use]
    pub fn access_key(&self) -> Option<String> {
        let credentials = self.shared.credentials.as_ref()?;
        Some(credentials.access_key())
    }

    /// Lets time pass while the environment is frozen, on a clock that jumps or stands still.
    ///
    /// # Errors
    /// [`LambdaError::NoTimePasses`] if it is not frozen or uses the machine's clock,
    /// [`LambdaError::Gone`] after a shutdown.
    pub async fn let_pass(&self, time: Duration) -> Result<(), LambdaError> {
        self.order(|done| EnvironmentCommand::LetPass(time, done))
            .await?
    }

    /// Ends all processes, with SHUTDOWN and 2 s, and returns when they have exited. `/tmp` is
    /// preserved; the next invocation begins with an Init. An invocation in progress fails.
    ///
    /// # Errors
    /// [`LambdaError::Gone`] after a shutdown.
    pub async fn reset(&self, reason: ShutdownReason) -> Result<(), LambdaError> {
        self.order(|done| EnvironmentCommand::Reset(reason, done))
            .await
    }

    /// Ends all processes as [`Self::reset`] does, and removes the environment.
    ///
    /// # Errors
    /// [`LambdaError::Gone`] after another shutdown.
    pub async fn shutdown(&self, reason: ShutdownReason) -> Result<(), LambdaError> {
        self.order(|done| EnvironmentCommand::Shutdown(reason, done))
            .await
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<T>) -> EnvironmentCommand,
    ) -> Result<T, LambdaError> {
        let (done, answer) = oneshot::channel();
        let _ = self.commands.send(order(done));
        answer.await.map_err(|_| LambdaError::Gone(self.number()))
    }

    /// Waits until the processes are frozen.
    ///
    /// # Errors
    /// [`NotSeen`] if they are not frozen within [`WAIT_LIMIT`].
    pub async fn wait_until_frozen(&self) -> Result<(), NotSeen> {
        self.wait("all processes frozen", |seen| seen.frozen).await
    }

    /// Waits for a state.
    ///
    /// # Errors
    /// [`NotSeen`] if it is not reached within [`WAIT_LIMIT`].
    pub async fn wait_until(&self, state: State) -> Result<(), NotSeen> {
        let wanted = format!("the state {state:?}");
        self.wait(&wanted, |seen| seen.state == state).await
    }

    /// Waits for any of several states.
    ///
    /// # Errors
    /// [`NotSeen`] if none is reached within [`WAIT_LIMIT`].
    pub async fn wait_until_one_of(&self, states: &[State]) -> Result<(), NotSeen> {
        let wanted = format!("one of the states {states:?}");
        self.wait(&wanted, |seen| states.contains(&seen.state))
            .await
    }

    async fn wait(
        &self,
        wanted: &str,
        holds: impl Fn(&EnvironmentView) -> bool,
    ) -> Result<(), NotSeen> {
        let mut seen = self.shared.seen.subscribe();
        let wait = seen.wait_for(|seen| holds(seen));
        if let Ok(Ok(_)) = tokio::time::timeout(WAIT_LIMIT, wait).await {
            return Ok(());
        }
        let instead = format!("{:?}", *self.shared.seen.borrow());
        Err(NotSeen::new(wanted, &instead))
    }

    /// Host process ids of the environment's processes with this name, `model-sidecar` or
    /// `bootstrap`.
    #[must_use]
    pub fn processes(&self, name: &str) -> Vec<i32> {
        self.shared.processes.named(name)
    }

    /// Host process ids of all the environment's processes.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        self.shared.processes.pids()
    }

    /// Sends a signal to every process of the environment with this name.
    ///
    /// # Errors
    /// [`LambdaError::NoSuchProcess`] if there is none.
    pub fn kill(&self, name: &str, signal: Signal) -> Result<(), LambdaError> {
        let pids = self.processes(name);
        for pid in &pids {
            // An error means that the process has exited since.
            let _ = kill(Pid::from_raw(*pid), signal);
        }
        if pids.is_empty() {
            return Err(LambdaError::NoSuchProcess {
                name: name.to_owned(),
                present: self.shared.processes.names(),
            });
        }
        Ok(())
    }

    /// Host folder that is mounted at `/tmp`.
    #[must_use]
    pub fn tmp(&self) -> &Path {
        self.shared.tmp.path()
    }

    /// The same folder, shared for [`super::Builder::tmp`] of another function.
    #[must_use]
    pub fn keep_tmp(&self) -> Arc<TempDir> {
        Arc::clone(&self.shared.tmp)
    }

    /// All API calls so far with their responses, in order of arrival.
    #[must_use]
    pub fn trace(&self) -> Vec<ApiCall> {
        self.shared.trace.all()
    }

    /// Waits until `holds` is true for the API calls so far, and returns them.
    ///
    /// # Errors
    /// [`NotSeen`] if it is not true within [`WAIT_LIMIT`].
    pub async fn wait_for_trace(
        &self,
        wanted: &str,
        holds: impl FnMut(&[ApiCall]) -> bool,
    ) -> Result<Vec<ApiCall>, NotSeen> {
        self.shared.trace.wait_until(wanted, holds).await
    }

    /// Kills all processes immediately, without SHUTDOWN.
    pub(super) fn destroy(&self) {
        self.driver.abort();
        self.shared.processes.kill_all();
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Environment")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.destroy();
    }
}
