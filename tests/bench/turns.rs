//! Released sidecars that take turns, so that other load of the machine affects them equally.
//!
//! Each has one caller over the Unix socket. Processes differ by a few percent, so a bench starts new ones in each of
//! its rounds.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use lab::process::Process;
use lab::s3::S3Server;
use serde_json::Value;
use tempfile::TempDir;

use crate::inference::client::{Address, Client};

/// A sidecar with one caller.
pub(crate) struct MeasuredSidecar {
    process: Process,
    client: Client,
    microseconds: Vec<f64>,
    _folder: TempDir,
}

/// Requests to each sidecar.
pub(crate) struct Turns {
    /// Requests that are not measured.
    pub(crate) unmeasured: usize,
    /// Number of turns.
    pub(crate) count: usize,
    /// Requests of a turn.
    pub(crate) requests: usize,
}

impl MeasuredSidecar {
    /// Starts `program` with the library of ONNX Runtime and these variables. It runs one request at a time.
    pub(crate) async fn start(
        program: &Path,
        library: &Path,
        s3: &S3Server,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench").tempdir()?;
        let socket = folder.path().join("socket");
        let process = Process::of(program)
            .envs(s3.env())
            .env("ORT_DYLIB_PATH", library)
            .env("MODEL_THREADS", "1")
            .env("MODEL_SOCKET", &socket)
            .env("MODEL_PORT", "0")
            .env("MODEL_CACHE_DIR", folder.path().join("cache"))
            // Longer than the bench, so that no poll is due.
            .env("MODEL_REFRESH_INTERVAL", "1h")
            .envs(variables)
            .start()?;
        process.wait_for(" ready ").await?;
        Ok(Self {
            process,
            client: Client::connect(&Address::Unix(socket))?,
            microseconds: Vec::new(),
            _folder: folder,
        })
    }

    /// Returns the body of a response, which is not measured.
    pub(crate) fn response(&mut self, request: &[u8]) -> Result<Value> {
        Ok(serde_json::from_slice(self.client.ask(request)?)?)
    }

    fn ask(&mut self, request: &[u8], count: usize) -> Result<()> {
        for _ in 0..count {
            let started = Instant::now();
            self.client.ask(request)?;
            self.microseconds
                .push(started.elapsed().as_secs_f64() * 1e6);
        }
        Ok(())
    }

    /// Stops the sidecar, and returns the duration of each measured request in microseconds.
    pub(crate) async fn end(self) -> Result<Vec<f64>> {
        let status = self.process.terminate().await?;
        ensure!(status.success(), "the sidecar exited with {status}");
        Ok(self.microseconds)
    }
}

impl Turns {
    /// Sends the requests in turns, whose order alternates.
    pub(crate) fn take(&self, all: &mut [MeasuredSidecar], request: &[u8]) -> Result<()> {
        for one in all.iter_mut() {
            one.ask(request, self.unmeasured)?;
            one.microseconds.clear();
        }
        for turn in 0..self.count {
            for place in 0..all.len() {
                let place = if turn.is_multiple_of(2) {
                    place
                } else {
                    all.len() - 1 - place
                };
                all[place].ask(request, self.requests)?;
            }
        }
        Ok(())
    }
}
