//! Processes of an environment, each in its sandbox.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::SharedClock;
use super::super::builder::Builder;
use super::super::cgroup::Limits;
use super::super::machine::ProcessRole;
use super::super::sandbox::environment::{self, Facts};
use super::super::sandbox::{NotFrozen, Running, Sandbox};
use crate::log_capture::LogCapture;

/// Paths of a runtime in the sandbox, in order of preference.
const BOOTSTRAPS: [&str; 2] = ["/var/task/bootstrap", "/opt/bootstrap"];

#[derive(Debug)]
pub(super) struct Processes {
    layer: PathBuf,
    function: PathBuf,
    tmp: PathBuf,
    facts: Facts,
    running: Mutex<BTreeMap<ProcessRole, Arc<Running>>>,
}

impl Processes {
    pub(super) fn new(builder: &Builder, tmp: &Path, facts: Facts) -> Self {
        Self {
            layer: builder.layer.clone(),
            function: builder.function.clone(),
            tmp: tmp.to_owned(),
            facts,
            running: Mutex::default(),
        }
    }

    /// Starts the runtime or an extension.
    ///
    /// # Errors
    /// The reason of the failure, in the platform's wording where it has one.
    pub(super) fn start(
        &self,
        role: ProcessRole,
        name: &str,
        limits: Option<&Limits>,
        clock: Option<&SharedClock>,
        log: &LogCapture,
    ) -> Result<Arc<Running>, String> {
        let (program, variables) = match role {
            ProcessRole::Runtime => (self.bootstrap()?, environment::runtime(&self.facts)),
            ProcessRole::Extension(_) => {
                if !is_executable(&self.layer.join("extensions").join(name)) {
                    return Err("PermissionDenied".to_owned());
                }
                let program = format!("/opt/extensions/{name}");
                (program, environment::extension(&self.facts))
            }
        };
        let running = Sandbox::new(&program, &self.layer, &self.function, &self.tmp)
            .envs(variables)
            .limits(limits)
            .clock(clock)
            .spawn(log)
            .map_err(|error| error.to_string())?;
        let running = Arc::new(running);
        self.running().insert(role, Arc::clone(&running));
        Ok(running)
    }

    /// Path of the runtime: in the function, or else in a layer.
    fn bootstrap(&self) -> Result<String, String> {
        let folders = [&self.function, &self.layer];
        let found = BOOTSTRAPS
            .iter()
            .zip(folders)
            .find(|(_, folder)| is_executable(&folder.join("bootstrap")));
        match found {
            Some((program, _)) => Ok((*program).to_owned()),
            None => Err(format!(
                "Couldn't find valid bootstrap(s): [{}]",
                BOOTSTRAPS.join(" ")
            )),
        }
    }

    pub(super) fn of(&self, role: ProcessRole) -> Option<Arc<Running>> {
        self.running().get(&role).cloned()
    }

    /// Removes an exited process, unless it was already replaced.
    pub(super) fn forget(&self, role: ProcessRole) {
        let mut running = self.running();
        let ended = match running.get(&role) {
            Some(one) if one.ended().is_some() => running.remove(&role),
            _ => None,
        };
        drop(running);
        drop(ended);
    }

    pub(super) fn terminate(&self, role: ProcessRole) {
        // The sandbox's first child is the program itself.
        let program = self
            .of(role)
            .and_then(|running| running.pids().into_iter().min());
        if let Some(pid) = program {
            // An error means that the process has exited since.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    pub(super) fn freeze(&self) -> Result<(), NotFrozen> {
        self.all().iter().try_for_each(|running| running.freeze())
    }

    pub(super) fn thaw(&self) {
        for running in self.all() {
            running.thaw();
        }
    }

    /// Kills all processes and returns when they have exited.
    pub(super) fn kill_all(&self) {
        for running in self.all() {
            running.kill();
        }
        let ended = std::mem::take(&mut *self.running());
        drop(ended);
    }

    pub(super) fn named(&self, name: &str) -> Vec<i32> {
        self.all()
            .iter()
            .flat_map(|running| running.named(name))
            .collect()
    }

    pub(super) fn pids(&self) -> Vec<i32> {
        self.all()
            .iter()
            .flat_map(|running| running.pids())
            .collect()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.all()
            .iter()
            .flat_map(|running| running.names())
            .collect()
    }

    /// Peak resident memory of all processes together, in bytes.
    pub(super) fn peak_resident_bytes(&self) -> u64 {
        self.all()
            .iter()
            .map(|running| running.peak_resident_bytes())
            .sum()
    }

    fn all(&self) -> Vec<Arc<Running>> {
        self.running().values().cloned().collect()
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<ProcessRole, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
