//! One process of an execution environment, started as Lambda starts it: the runtime or an
//! extension, in a bubblewrap sandbox of its own.
//!
//! - The sandbox has its own process-id namespace. All is read-only, `/opt` and `/var/task`
//!   included, except `/tmp`: a folder of the host that all processes of an environment share.
//! - The process is user 993 of group 990 without capabilities, where user namespaces can be
//!   created. Otherwise it runs as the user of the lab, which is logged once. The network is the
//!   host's.
//! - The process may open 1,024 files, and its [`Limits`] apply from its first instruction on.
//! - [`Running::freeze`] stops everything inside and returns when all of it is stopped. The
//!   sandbox's own two processes continue; they only wait.
//! - The sandbox ends with the lab, with [`Running::kill`] and with its value, and leaves nothing
//!   behind.
//!
//! The module [`environment`] defines the variables of the process. The platform decides when it is
//! started or frozen.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::cgroup::Limits;
use super::clock::SharedClock;
use crate::bubblewrap;
use crate::child::Child;
use crate::log_capture::LogCapture;

pub mod environment;
mod running;
mod tmp;

pub use running::{NotFrozen, Running};
pub use tmp::{NoSizeLimit, SizedTmp};

/// User and group of Lambda's processes.
const USER: &str = "993";
const GROUP: &str = "990";

/// Log line for sandboxes without a user of their own.
const SAME_USER: &str = "lab: no user namespace may be made here: processes run as the lab's own \
                         user, not as user 993";

/// Joins the control groups whose files are named before `--`, then executes the sandbox, so that
/// none of it runs outside them.
const JOIN: &str = r#"ulimit -n 1024
while [ "$1" != -- ]; do echo $$ >"$1" || exit 1; shift; done
shift
exec "$@""#;

/// Configuration of a process.
#[derive(Debug)]
pub struct Sandbox<'a> {
    program: String,
    layer: PathBuf,
    function: PathBuf,
    tmp: PathBuf,
    variables: BTreeMap<String, String>,
    limits: Option<&'a Limits>,
    clock: Option<&'a SharedClock>,
}

impl<'a> Sandbox<'a> {
    /// Configures `program`, a path inside (`/var/task/bootstrap`), with the host's folders `layer`
    /// at `/opt`, `function` at `/var/task` and `tmp` at `/tmp`.
    #[must_use]
    pub fn new(program: &str, layer: &Path, function: &Path, tmp: &Path) -> Self {
        Self {
            program: program.to_owned(),
            layer: layer.to_owned(),
            function: function.to_owned(),
            tmp: tmp.to_owned(),
            variables: BTreeMap::new(),
            limits: None,
            clock: None,
        }
    }

    /// Sets a variable; the process inherits none.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Sets several variables.
    #[must_use]
    pub fn envs<N: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        for (name, value) in variables {
            self = self.env(name, value);
        }
        self
    }

    /// Sets the resource limits of the environment.
    #[must_use]
    pub fn limits(mut self, limits: Option<&'a Limits>) -> Self {
        self.limits = limits;
        self
    }

    /// Replaces the machine's clock.
    #[must_use]
    pub fn clock(mut self, clock: Option<&'a SharedClock>) -> Self {
        self.clock = clock;
        self
    }

    /// Starts the process; its output goes to `log` line by line. A program that cannot be executed
    /// exits at once, with bubblewrap's error in the log.
    ///
    /// # Errors
    /// If the sandbox cannot be started.
    pub fn spawn(self, log: &LogCapture) -> io::Result<Running> {
        let bwrap = bubblewrap::program().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "no bwrap on the PATH: `apt-get install bubblewrap`",
            )
        })?;
        let own_user = may_be_another(&bwrap);
        if !own_user && !log.lines().iter().any(|line| line == SAME_USER) {
            log.push(SAME_USER);
        }
        let command = self.command(&bwrap, own_user);
        let name = self.program.rsplit('/').next().unwrap_or_default();
        Ok(Running::new(Child::spawn_into(command, name, log)?))
    }

    fn command(&self, bwrap: &Path, own_user: bool) -> Command {
        let mut command = Command::new("/bin/sh");
        command.env_clear().args(["-c", JOIN, "sh"]);
        command.args(self.limits.into_iter().flat_map(Limits::joined_through));
        command.arg("--").arg(bwrap);
        command.args(["--die-with-parent", "--unshare-pid", "--unshare-ipc"]);
        if own_user {
            command.args(["--unshare-user", "--uid", USER, "--gid", GROUP]);
        }
        command.args(["--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc"]);
        for folder in ["bin", "lib", "lib64"] {
            let target = format!("usr/{folder}");
            command.args(["--symlink", &target, &format!("/{folder}")]);
        }
        command.args(["--proc", "/proc", "--dev", "/dev"]);
        let binds = [
            ("--ro-bind", self.layer.as_path(), "/opt"),
            ("--ro-bind", &self.function, "/var/task"),
            ("--bind", &self.tmp, "/tmp"),
        ];
        for (how, from, to) in binds {
            command.arg(how).arg(from).arg(to);
        }
        if let Some(clock) = self.clock {
            command
                .arg("--ro-bind")
                .arg(clock.folder())
                .arg(super::clock::INSIDE);
        }
        command.args(["--remount-ro", "/dev", "--remount-ro", "/"]);
        command.args(["--chdir", "/var/task", "--clearenv"]);
        let clock = self.clock.map(|_| super::clock::VARIABLE);
        let own = self
            .variables
            .iter()
            .map(|(name, value)| (&**name, &**value));
        for (name, value) in own.chain(clock) {
            command.args(["--setenv", name, value]);
        }
        command.arg("--").arg(&self.program);
        command
    }
}

/// Returns `true` if the sandbox can have users of its own; probed once.
fn may_be_another(bwrap: &Path) -> bool {
    static TRIED: OnceLock<bool> = OnceLock::new();
    *TRIED.get_or_init(|| {
        let mut command = Command::new(bwrap);
        command.args(["--unshare-user", "--uid", USER, "--gid", GROUP]);
        command.args(["--ro-bind", "/", "/", "--", "/bin/true"]);
        command.output().is_ok_and(|output| output.status.success())
    })
}
