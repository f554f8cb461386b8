//! Tables on the terminal.

use super::codec::Codec;
use super::memory::Memory;
use super::{CLIENTS, Rate, Times};
use crate::figures::{percentile, sparkline};

pub(super) fn print(times: &[Times], rates: &[Rate], codec: &Codec, memory: &Memory) {
    println!(
        "\n{:8}{:40}{:>10}{:>10}{:>10}{:>10}   sequential requests; microseconds",
        "model", "", "p50", "p90", "p99", "p99.9"
    );
    for one in times {
        let [p50, p90, p99, most] = [50.0, 90.0, 99.0, 99.9].map(|percent| one.at(percent));
        println!(
            "{:8}{:40}{p50:>10.1}{p90:>10.1}{p99:>10.1}{most:>10.1}",
            one.subject, one.contender
        );
    }
    println!("seldom: the small model, 20 ms after the last response");
    println!(
        "\n{:8}{:40}{:>10}   {CLIENTS} concurrent callers; responses per second, by round",
        "model", "", "median"
    );
    for rate in rates {
        let line = sparkline(&rate.per_second);
        println!(
            "{:8}{:40}{:>10.0}   {line}",
            rate.subject,
            rate.contender,
            rate.median()
        );
    }
    println!(
        "\nDecoding 1x3x224x224 numbers in JSON: {:.2} ms, serde_json's Value of them {:.2} ms",
        codec.ours / 1e6,
        codec.value / 1e6
    );
    for (what, allocated) in [
        ("the image in JSON", &codec.image),
        ("one row in JSON", &codec.row),
        ("one row for /predict", &codec.plain),
        ("a response of one label", &codec.answer),
    ] {
        println!(
            "  {what:24} {:>6} allocations, {:>9} bytes",
            allocated.allocations, allocated.bytes
        );
    }
    println!(
        "\nSampling a row for drift, microseconds: 256 inputs in one tensor {:.2}, 256 tensors {:.2}",
        codec.drift / 1e3,
        codec.drift_separate / 1e3
    );
    println!(
        "\nResident over {} requests, MB: {}",
        memory.requests,
        sparkline(&memory.stretches)
    );
    println!(
        "  with an outsize batch {:.1}, after it {:.1}",
        memory.peak, memory.after
    );
    let [p50, p99] = [50.0, 99.0].map(|percent| percentile(&memory.health, percent));
    println!(
        "\nHealth checks while 60 MB of JSON are decoded, microseconds: p50 {p50:.1}, p99 {p99:.1}, {} checks",
        memory.health.len()
    );
}
