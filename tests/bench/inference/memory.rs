//! Memory of the sidecar over many requests and after an outsize one, and the duration of health
//! checks while a large body is decoded.

use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::CLIENTS;
use super::client::{self, Address, Client};
use super::contenders::ServerProcess;
use super::subject::Subject;
use lab::reference::WINE;
use lab::soak::usage::Usage;

/// Number of segments of the requests; memory is read after each.
const STRETCHES: usize = 20;
/// Rows of the outsize batch: about 10 MB of JSON.
const OUTSIZE: usize = 150_000;
/// Rows of about 60 MB of JSON.
const LARGE: usize = 900_000;
/// A health check.
const HEALTH: &[u8] = b"GET /v2/health/live HTTP/1.1\r\nhost: sidecar\r\n\r\n";
/// Number of ordinary requests before memory is read again.
const AFTER: usize = 1_000;

/// Resident memory, in MB.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) requests: usize,
    /// After each segment of the requests.
    pub(super) stretches: Vec<f64>,
    /// Peak, after the response to the outsize batch.
    pub(super) peak: f64,
    /// After the ordinary requests that follow it.
    pub(super) after: f64,
    /// Duration of each health check while a large body is received, decoded and run, in
    /// microseconds.
    pub(super) health: Vec<f64>,
}

pub(super) fn measure(
    subject: &Subject,
    sidecar: &ServerProcess,
    requests: usize,
) -> Result<Memory> {
    let address = &sidecar.addresses[0];
    let pid = sidecar.process.pid();
    let request = subject.plain("/models/small/predict");
    let mut clients = (0..CLIENTS)
        .map(|_| Client::connect(address))
        .collect::<Result<Vec<Client>>>()?;
    let each = requests.div_ceil(STRETCHES * CLIENTS);
    let mut stretches = Vec::new();
    for _ in 0..STRETCHES {
        thread::scope(|scope| {
            let threads: Vec<_> = clients
                .iter_mut()
                .map(|client| scope.spawn(|| ask(client, &request, each)))
                .collect();
            let mut threads = threads.into_iter();
            threads.try_for_each(|thread| thread.join().ok().context("a thread panicked")?)
        })?;
        stretches.push(resident(pid)?);
    }
    let rows: Vec<&Vec<f64>> = WINE.rows.iter().cycle().take(OUTSIZE).collect();
    let body = json!({ "features": rows }).to_string();
    let outsize = client::post("/models/small/predict", "", body.as_bytes());
    Client::connect(address)?.ask(&outsize)?;
    let peak = peak(pid)?;
    ask(&mut clients[0], &request, AFTER)?;
    let after = resident(pid)?;
    Ok(Memory {
        requests: each * STRETCHES * CLIENTS,
        stretches,
        peak,
        after,
        health: health(address)?,
    })
}

/// Sequential health checks for the duration of a large request.
fn health(address: &Address) -> Result<Vec<f64>> {
    let rows: Vec<&Vec<f64>> = WINE.rows.iter().cycle().take(LARGE).collect();
    let body = json!({ "features": rows }).to_string();
    let large = client::post("/models/small/predict", "", body.as_bytes());
    let (mut sender, mut checker) = (Client::connect(address)?, Client::connect(address)?);
    thread::scope(|scope| {
        let large = scope.spawn(move || sender.ask(&large).map(|_| ()));
        let mut times = Vec::new();
        while !large.is_finished() {
            let started = Instant::now();
            checker.ask(HEALTH)?;
            times.push(started.elapsed().as_secs_f64() * 1e6);
        }
        large.join().ok().context("a thread panicked")??;
        Ok(times)
    })
}

fn ask(client: &mut Client, request: &[u8], count: usize) -> Result<()> {
    for _ in 0..count {
        client.ask(request)?;
    }
    Ok(())
}

fn resident(pid: i32) -> Result<f64> {
    Ok(f64::from(Usage::of(pid)?.resident) / 1024.0)
}

/// Peak resident memory.
fn peak(pid: i32) -> Result<f64> {
    Ok(f64::from(Usage::of(pid)?.peak) / 1024.0)
}
