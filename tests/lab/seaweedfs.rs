//! `SeaweedFS`, an independent implementation of S3, as a separate process: it verifies behaviour
//! that our [own S3](crate::s3) might share with our client by mistake. It supports more, multipart
//! uploads above all, and counts its own responses. It cannot fail on demand.
//!
//! It runs in a sandbox with its files in memory, so that nothing remains after a test. The network
//! is the host's, and each of its ports is leased. Concurrent tests share one server, each with [a
//! bucket of its own](SeaweedFs::bucket). The server is killed after the last of them, because an
//! orderly stop takes seconds.

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
/// Options that disable unused features.
const WITHOUT: [&str; 5] = [
    "-webdav=false",
    "-admin.ui=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-master.telemetry=false",
];
/// Log line that reports readiness.
const READY: &str = "All enabled components are running";
/// Interval between reads of its counters.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// `SeaweedFS` did not start, or does not report its counters.
#[derive(Debug, thiserror::Error)]
pub enum SeaweedFsError {
    /// It must be fetched first.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// No port is free.
    #[error(transparent)]
    NoFreePort(#[from] NoFreePort),
    /// The sandbox program is not installed.
    #[error("no bwrap on the PATH: `apt-get install bubblewrap`")]
    NoBubblewrap,
    /// The sandbox could not be started.
    #[error("cannot start bwrap")]
    Sandbox(#[source] io::Error),
    /// It exited, or never reported readiness.
    #[error(transparent)]
    Stillborn(#[from] NoSuchLine),
    /// Its counters cannot be read.
    #[error(transparent)]
    Counters(#[from] CallError),
}

/// A running `SeaweedFS` on 127.0.0.1. It is killed when dropped.
#[derive(Debug)]
pub struct SeaweedFs {
    child: Child,
    /// Ports in the order of [`PORTS`].
    ports: Vec<Port>,
    _admin: Port,
    buckets: AtomicU64,
}

impl SeaweedFs {
    /// The server shared by this process's tests, started if there is none.
    ///
    /// # Errors
    /// [`SeaweedFsError`] if it cannot be started.
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

    /// Starts a server and waits until it is ready.
    ///
    /// # Errors
    /// [`SeaweedFsError`] if it cannot be started.
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

    /// Environment variables that make a process use this server: its address and the lab's keys.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        s3::client::env(&self.url())
    }

    /// An SDK client of this server, with the lab's keys. It never retries.
    #[must_use]
    pub fn client(&self) -> aws_sdk_s3::Client {
        s3::client::new(&self.url(), ACCESS_KEY, SECRET_KEY)
    }

    /// A unique name for a bucket; the bucket is not created.
    #[must_use]
    pub fn bucket(&self) -> String {
        let number = self.buckets.fetch_add(1, Ordering::Relaxed);
        format!("models-{number}")
    }

    /// Number of GETs on a bucket with this `status`, by the server's own counters. The server
    /// counts a response after its end, so this waits for `at_least` responses, at most
    /// [`WAIT_LIMIT`].
    ///
    /// # Errors
    /// [`SeaweedFsError::Counters`] if the counters cannot be read.
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
        // As with RIE, the end of the sandbox's first process kills all others.
        let first = processes::children(self.child.pid());
        if self.child.ended().is_none() && !first.is_empty() {
            for pid in first {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            }
            self.child.join();
        }
    }
}

/// Distance of the admin server's gRPC port from its HTTP port. An option sets the former, but one
/// of the server's components ignores it and would call another process's port.
const ADMIN_GRPC: u16 = 10_000;

/// A port for gRPC whose HTTP port is below the range of leased ports.
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
    // Without a configuration the server accepts these keys, for everything.
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
