//! Measured values against the goals of this project.

use anyhow::{Context as _, Result};

use super::codec::Codec;
use super::memory::Memory;
use super::{
    ATTACHED, BARE, BENTOML, ECHO, FASTAPI, HANDLER, HANDLER_ECHO, MOSEC, NOTHING, PYTHON, RARE,
    Rate, TCP, Times, UNIX, UNIX_BUFFERED, UNIX_JSON, WITHIN,
};
use crate::figures::{Figures, Goal, percentile};

/// Maximum time of a small request above the model alone, in microseconds.
const SMALL_P50: f64 = 60.0;
const SMALL_P99: f64 = 250.0;
/// Maximum time above a handler that does nothing, in microseconds.
const HANDLER_P50: f64 = 150.0;
/// The same with the sidecar as the runtime.
const ATTACHED_P50: f64 = 45.0;
const ATTACHED_P99: f64 = 120.0;
/// Minimum ratio of the tutorials' Python to the sidecar as the runtime, on one CPU.
const OVER_TUTORIALS: f64 = 1.8;
/// Maximum ratio of the sidecar as the runtime to a handler with the model in its process, for an image in base64.
const OF_WITHIN: f64 = 1.15;
/// Maximum time of a binary image above the model alone, in microseconds.
const IMAGE_P50: f64 = 250.0;
/// Maximum ratios of a large body's p90 and p99 to its p50.
const TAIL_P90: f64 = 1.5;
const TAIL_P99: f64 = 3.0;
/// Minimum ratio of `serde_json`'s time for a `Value` to ours.
const OVER_VALUE: f64 = 1.5;
/// Minimum ratio to the bare program's throughput, where the model takes [`HEAVY`] or more.
const OF_BARE: f64 = 0.95;
/// Minimum ratio of the small model's throughput to that of a socket that is busy for the time of a run.
const OF_ECHO: f64 = 0.7;
/// In microseconds.
const HEAVY: f64 = 5_000.0;
/// Minimum ratio to the throughput of Python's best server, and of its time to ours.
const OVER_PYTHON: f64 = 5.0;
const OF_PYTHON: f64 = 0.25;
/// Maximum time of the sample for drift in a request, in microseconds.
const DRIFT: f64 = 5.0;
/// Maximum growth of memory in MB after the first tenth of the requests.
const GROWTH: f64 = 1.0;
/// Maximum share of the outsize batch's memory that may remain.
const STAYS: f64 = 0.1;

pub(super) fn figures(
    times: &[Times],
    rates: &[Rate],
    codec: &Codec,
    memory: &Memory,
) -> Result<Figures> {
    let mut figures = Figures::of("inference");
    latency(&mut figures, times)?;
    let ratio = codec.value / codec.ours;
    let name = "image: JSON decoded, serde_json's Value over ours";
    figures.add_with_goal(name, ratio, "×", Goal::AtLeast(OVER_VALUE));
    throughput(&mut figures, times, rates)?;

    let name = "image: bytes allocated to decode its JSON, over its numbers";
    figures.add(name, codec.image.bytes / codec.tensor_bytes, "×");
    figures.add(
        "small: allocations to decode a row",
        codec.row.allocations,
        "",
    );
    figures.add("small: the same for /predict", codec.plain.allocations, "");
    figures.add(
        "small: allocations to encode a label",
        codec.answer.allocations,
        "",
    );

    let name = "drift: sample of a row, 256 inputs in one tensor";
    figures.add_with_goal(name, codec.drift / 1e3, "µs", Goal::AtMost(DRIFT));
    let name = "drift: the same with a tensor for each input";
    figures.add(name, codec.drift_separate / 1e3, "µs");

    let begun = memory.stretches.len() / 10;
    let base = memory.stretches[..=begun]
        .iter()
        .copied()
        .fold(0.0, f64::max);
    let last = memory.stretches.last().copied().unwrap_or_default();
    let name = format!("resident, growth over {} requests", memory.requests);
    figures.add_with_goal(name, last - base, "MB", Goal::AtMost(GROWTH));
    let stays = (memory.after - last) / (memory.peak - last).max(f64::MIN_POSITIVE);
    let name = "share of an outsize batch's memory left after it";
    figures.add_with_goal(name, stays, "", Goal::AtMost(STAYS));
    Ok(figures)
}

fn latency(figures: &mut Figures, times: &[Times]) -> Result<()> {
    let at = |subject: &str, contender: &str, percent| find(times, subject, contender, percent);
    for contender in [UNIX, TCP] {
        for (percent, most) in [(50.0, SMALL_P50), (99.0, SMALL_P99)] {
            let above = at("small", contender, percent)? - at("small", BARE, percent)?;
            let name = format!("small: {contender}, p{percent} above the model alone");
            figures.add_with_goal(name, above, "µs", Goal::AtMost(most));
        }
    }
    socket(figures, times, "small")?;
    let above = at("small", HANDLER, 50.0)? - at("small", NOTHING, 50.0)?;
    let name = "small: through handler and Runtime API, p50 above doing nothing";
    figures.add_with_goal(name, above, "µs", Goal::AtMost(HANDLER_P50));
    for (percent, most) in [(50.0, ATTACHED_P50), (99.0, ATTACHED_P99)] {
        let above = at("small", ATTACHED, percent)? - at("small", NOTHING, percent)?;
        let name = format!("small: {ATTACHED}, p{percent} above doing nothing");
        figures.add_with_goal(name, above, "µs", Goal::AtMost(most));
    }
    let above = at("small", HANDLER_ECHO, 50.0)? - at("small", NOTHING, 50.0)?;
    let name = "small: the same with the handler calling such a socket";
    figures.add(name, above, "µs");
    let above = at("small", WITHIN, 50.0)? - at("small", NOTHING, 50.0)?;
    let name = "small: the same with the model in the handler's process";
    figures.add(name, above, "µs");
    let ratio = at("small", PYTHON, 50.0)? / at("small", HANDLER, 50.0)?;
    figures.add(
        "small: the tutorials' Python over the sidecar, p50",
        ratio,
        "×",
    );
    for percent in [50.0, 99.0] {
        let ratio = at("small", PYTHON, percent)? / at("small", ATTACHED, percent)?;
        let name = format!("small: the tutorials' Python over the {ATTACHED}, p{percent}");
        figures.add_with_goal(name, ratio, "×", Goal::AtLeast(OVER_TUTORIALS));
    }
    let ratio = at("image", HANDLER, 50.0)? / at("image", WITHIN, 50.0)?;
    let name = format!("image in base64: {HANDLER}, p50 over the model in the handler");
    figures.add(name, ratio, "×");
    for percent in [50.0, 99.0] {
        let ratio = at("image", ATTACHED, percent)? / at("image", WITHIN, percent)?;
        let name = format!("image in base64: {ATTACHED}, p{percent} over the model in the handler");
        figures.add_with_goal(name, ratio, "×", Goal::AtMost(OF_WITHIN));
    }
    for (contender, name) in [
        (ECHO, "seldom: such a socket, p50 above the model alone"),
        (
            UNIX,
            "seldom: sidecar, Unix socket, p50 above the model alone",
        ),
        (TCP, "seldom: sidecar, TCP, p50 above the model alone"),
        (
            FASTAPI,
            "seldom: FastAPI on uvicorn, p50 above the model alone",
        ),
    ] {
        figures.add(
            name,
            at(RARE, contender, 50.0)? - at(RARE, BARE, 50.0)?,
            "µs",
        );
    }
    for contender in [UNIX, UNIX_BUFFERED, TCP] {
        let above = at("image", contender, 50.0)? - at("image", BARE, 50.0)?;
        let name = format!("image: {contender}, binary, p50 above the model alone");
        figures.add_with_goal(name, above, "µs", Goal::AtMost(IMAGE_P50));
        for (percent, most) in [(90.0, TAIL_P90), (99.0, TAIL_P99)] {
            let ratio = at("image", contender, percent)? / at("image", contender, 50.0)?;
            let name = format!("image: {contender}, binary, p{percent} over p50");
            figures.add_with_goal(name, ratio, "×", Goal::AtMost(most));
        }
    }
    socket(figures, times, "image")?;
    let ratio = at("image", UNIX_JSON, 50.0)? / at("image", UNIX, 50.0)?;
    figures.add("image: JSON over binary, p50", ratio, "×");
    Ok(())
}

/// The socket's share of the time over the Unix socket, and the sidecar's.
fn socket(figures: &mut Figures, times: &[Times], subject: &str) -> Result<()> {
    let at = |contender: &str| find(times, subject, contender, 50.0);
    let name = format!("{subject}: {ECHO}, p50 above the model alone");
    figures.add(name, at(ECHO)? - at(BARE)?, "µs");
    let name = format!("{subject}: {UNIX}, p50 above that socket");
    figures.add(name, at(UNIX)? - at(ECHO)?, "µs");
    Ok(())
}

fn throughput(figures: &mut Figures, times: &[Times], rates: &[Rate]) -> Result<()> {
    let rate = |subject: &str, contender: &str| {
        let mut rates = rates.iter();
        let rate = rates.find(|one| one.subject == subject && one.contender == contender);
        rate.map(Rate::median)
            .with_context(|| format!("no rate of {contender} with {subject}"))
    };
    let pace = 1e6 * cpus()? / rate("heavy", BARE)?;
    let name = "heavy: CPU time of a run";
    figures.add_with_goal(name, pace, "µs", Goal::AtLeast(HEAVY));
    let ratio = rate("heavy", UNIX)? / rate("heavy", BARE)?;
    let name = "heavy: throughput, of the model alone with as many threads";
    figures.add_with_goal(name, ratio, "×", Goal::AtLeast(OF_BARE));
    let ratio = rate("small", UNIX)? / rate("small", BARE)?;
    figures.add("small: throughput, of the model alone", ratio, "×");
    let ratio = rate("small", UNIX)? / rate("small", ECHO)?;
    let name = "small: throughput, of such a socket with eight callers";
    figures.add_with_goal(name, ratio, "×", Goal::AtLeast(OF_ECHO));

    let servers = [FASTAPI, BENTOML, MOSEC];
    let rates = servers
        .iter()
        .filter_map(|server| rate("small", server).ok());
    let ratio = rate("small", UNIX)? / rates.fold(0.0, f64::max);
    let name = "small: throughput over the best of Python's servers";
    figures.add_with_goal(name, ratio, "×", Goal::AtLeast(OVER_PYTHON));
    for percent in [50.0, 99.0] {
        let of_servers = servers
            .iter()
            .filter_map(|server| find(times, "small", server, percent).ok());
        let ratio = find(times, "small", UNIX, percent)? / of_servers.fold(f64::INFINITY, f64::min);
        let name = format!("small: p{percent}, of the best of Python's servers");
        figures.add_with_goal(name, ratio, "×", Goal::AtMost(OF_PYTHON));
    }
    Ok(())
}

/// Percentile of the measured times, in microseconds.
pub(super) fn find(times: &[Times], subject: &str, contender: &str, percent: f64) -> Result<f64> {
    let mut times = times.iter();
    let one = times.find(|one| one.subject == subject && one.contender == contender);
    let one = one.with_context(|| format!("no times of {contender} with {subject}"))?;
    Ok(percentile(&one.microseconds, percent))
}

fn cpus() -> Result<f64> {
    let cpus = std::thread::available_parallelism()?;
    Ok(f64::from(u32::try_from(cpus.get())?))
}
