//! `SeaweedFS`, an S3 that no one here wrote, as a process of its own: a second opinion on what our
//! [own S3](crate::s3) was written to show. It can do what that one leaves out, multipart uploads above
//! all, and counts by itself what it answered; it cannot fail on demand.
//!
//! It runs in a sandbox whose files are in memory, so that nothing of it is left, however a test
//! ends. The network is the host's, and each of its ports is leased. Tests that run at once share
//! one server, each with [a bucket of its own](SeaweedFs::bucket); it ends with the last of them, killed:
//! asked to stop it would take seconds.

use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::sync::Mutex;

use crate::artifacts::ArtifactError;
use crate::child::Child;
use crate::credentials::{ACCESS_KEY, SECRET_KEY};
use crate::http::{CallError, Client};
use crate::log_capture::NoSuchLine;
use crate::ports::{NoFreePort, Port, RANGE};
use crate::{WAIT_LIMIT, artifacts, bubblewrap, processes, s3};

/// Options that name a port to listen on.
const PORTS: [&str; 9] = [
    "s3.port",
    "metricsPort",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
];
/// What it has besides and the lab has no use for: off.
const WITHOUT: [&str; 5] = [
    "-webdav=false",
    "-admin.ui=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-master.telemetry=false",
];
/// Its last word before it can be used.
const READY: &str = "All enabled components are running";
/// How often its counters are read while one is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// `SeaweedFS` did not start, or does not tell what it counted.
#[derive(Debug, thiserror::Error)]
pub enum SeaweedFsError {
    /// It must be fetched first.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// No port is free.
    #[error(transparent)]
    NoFreePort(#[from] NoFreePort),
    /// The sandbox's program is not installed.
    #[error("no bwrap on the PATH: `apt-get install bubblewrap`")]
    NoBubblewrap,
    /// The sandbox could not be started.
    #[error("cannot start bwrap")]
    Sandbox(#[source] io::Error),
    /// It ended, or never said that it is ready.
    #[error(transparent)]
    Stillborn(#[from] NoSuchLine),
    /// It does not tell what it counted.
    #[error(transparent)]
    Counters(#[from] CallError),
}

/// A running `SeaweedFS` on 127.0.0.1. It is killed when dropped.
#[derive(Debug)]
pub struct SeaweedFs {
    child: Child,
    /// In the order of [`PORTS`].
    ports: Vec<Port>,
    _admin: Port,
    buckets: AtomicU64,
}

impl SeaweedFs {
    /// The one that other tests of this process use at the moment, or else a new one.
    ///
    /// # Errors
    /// [`SeaweedFsError`] when it cannot be started.
    pub async fn shared() -> Result<Arc<Self>, SeaweedFsError> {
        static RUNNING: Mutex<Weak<SeaweedFs>> = Mutex::const_new(Weak::new());
        let mut running = RUNNING.lock().await;
        if let Some(server) = running.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(Self::start().await?);
        *running = Arc::downgrade(&server);
        Ok(server)
    }

    /// Starts one and waits until it can be used.
    ///
    /// # Errors
    /// [`SeaweedFsError`] when it cannot be started.
    pub async fn start() -> Result<Self, SeaweedFsError> {
        let ports = PORTS.iter().map(|_| Port::lease());
        let ports = ports.collect::<Result<Vec<_>, _>>()?;
        let admin = admin_port()?;
        let command = command(&ports, &admin)?;
        let child = Child::spawn(command, "seaweedfs", false).map_err(SeaweedFsError::Sandbox)?;
        let server = Self {
            child,
            ports,
            _admin: admin,
            buckets: AtomicU64::new(0),
        };
        server.child.log().wait_for(READY).await?;
        Ok(server)
    }

    /// `http://127.0.0.1:PORT`, for `AWS_ENDPOINT_URL_S3`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0].number())
    }

    /// The environment that makes a process use this server: its address and the lab's keys.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        s3::client::env(&self.url())
    }

    /// An SDK client of this server, with the lab's keys. It never retries.
    #[must_use]
    pub fn client(&self) -> aws_sdk_s3::Client {
        s3::client::new(&self.url(), ACCESS_KEY, SECRET_KEY)
    }

    /// A name for a bucket that no one else uses; it is not made.
    #[must_use]
    pub fn bucket(&self) -> String {
        let number = self.buckets.fetch_add(1, Ordering::Relaxed);
        format!("models-{number}")
    }

    /// How many GETs on a bucket it has answered with `status`, by its own count: waits until there
    /// are `at_least` so many, since it counts once an answer is over, or gives the count of [`WAIT_LIMIT`]
    /// later.
    ///
    /// # Errors
    /// [`SeaweedFsError::Counters`] when it does not tell.
    pub async fn gets(
        &self,
        bucket: &str,
        status: u16,
        at_least: u64,
    ) -> Result<u64, SeaweedFsError> {
        let name = format!(
            r#"SeaweedFS_s3_request_total{{bucket="{bucket}",code="{status}",type="GET"}}"#
        );
        let started = Instant::now();
        loop {
            let count = self.counter(&name).await?;
            if count >= at_least || started.elapsed() > WAIT_LIMIT {
                return Ok(count);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn counter(&self, name: &str) -> Result<u64, SeaweedFsError> {
        let counters = Client::tcp(self.ports[1].number()).get("/metrics").await?;
        let text = counters.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        Ok(line
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or_default())
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        // As with RIE: the first process of the sandbox takes all the others with it.
        let first = processes::children(self.child.pid());
        if self.child.ended().is_none() && !first.is_empty() {
            for pid in first {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            }
            self.child.join();
        }
    }
}

/// How far its administration's port for gRPC is above the one for HTTP. There is an option for the former, which
/// one of its own parts does not know of: it would go on calling at a port that is somebody else's.
const ADMIN_GRPC: u16 = 10_000;

/// A port for gRPC whose neighbour for HTTP is below all that the lab leases.
fn admin_port() -> Result<Port, NoFreePort> {
    loop {
        let port = Port::lease()?;
        if port.number() - ADMIN_GRPC < RANGE.start {
            return Ok(port);
        }
    }
}

fn command(ports: &[Port], admin: &Port) -> Result<Command, SeaweedFsError> {
    let mut command = Command::new(bubblewrap::program().ok_or(SeaweedFsError::NoBubblewrap)?);
    command.env_clear();
    command.args(["--die-with-parent", "--unshare-pid", "--unshare-ipc"]);
    command.args(["--proc", "/proc", "--dev", "/dev"]);
    // It leaves sockets in /tmp.
    command.args(["--dir", "/tmp", "--dir", "/data"]);
    command.arg("--ro-bind").arg(artifacts::seaweedfs()?);
    command.args(["/weed", "--chdir", "/data"]);
    // Without a configuration these are the keys that it accepts, and for everything.
    command.args(["--setenv", "AWS_ACCESS_KEY_ID", ACCESS_KEY]);
    command.args(["--setenv", "AWS_SECRET_ACCESS_KEY", SECRET_KEY]);
    command.args(["/weed", "mini", "-dir=/data", "-ip=127.0.0.1"]);
    command.arg("-ip.bind=127.0.0.1").args(WITHOUT);
    for (option, port) in PORTS.iter().zip(ports) {
        command.arg(format!("-{option}={}", port.number()));
    }
    command.arg(format!("-admin.port.grpc={}", admin.number()));
    command.arg(format!("-admin.port={}", admin.number() - ADMIN_GRPC));
    Ok(command)
}
