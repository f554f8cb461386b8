//! Cost of a million requests, by the price table of `layer/deploy`.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;

/// Largest share of requests that may find every provisioned environment busy.
const MAX_BUSY: f64 = 0.01;
/// Megabytes of a gigabyte on Lambda's bill.
const MB_PER_GB: f64 = 1024.0;
const MILLION: f64 = 1e6;

/// Price table.
#[derive(Debug, Deserialize)]
pub(super) struct Prices {
    pub(super) source: String,
    pub(super) date: String,
    pub(super) region: String,
    million_requests: f64,
    architectures: BTreeMap<String, Price>,
}

/// Prices of an architecture in dollars.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(
    clippy::struct_field_names,
    reason = "the names of the price table, with their unit"
)]
pub(super) struct Price {
    gb_second: f64,
    provisioned_gb_second: f64,
    provisioned_duration_gb_second: f64,
}

/// Requests that are paid for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) memory_mb: u32,
    /// Billed time of a request, in milliseconds.
    pub(super) warm_ms: f64,
    /// Billed time of a request that starts an environment.
    pub(super) cold_ms: f64,
    /// Share of these requests.
    pub(super) cold_share: f64,
    /// Requests per second.
    pub(super) rate: f64,
}

impl Load {
    fn gb(&self) -> f64 {
        f64::from(self.memory_mb) / MB_PER_GB
    }
}

/// Name of this machine's architecture on Lambda.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    }
}

impl Prices {
    /// Returns the table that is part of the program.
    pub(super) fn embedded() -> anyhow::Result<Self> {
        let text = include_str!("../../../deploy/prices.json");
        serde_json::from_str(text).context("cannot read the price table")
    }

    /// Returns the prices of this machine's architecture.
    pub(super) fn of_this_machine(&self) -> anyhow::Result<Price> {
        let name = architecture();
        let price = self.architectures.get(name).copied();
        price.with_context(|| format!("cannot find prices of {name}: Lambda has x86_64 and arm64"))
    }

    /// Returns the dollars of a million requests on demand.
    pub(super) fn on_demand(&self, price: Price, load: &Load) -> f64 {
        let cold = load.cold_share;
        let seconds = ((1.0 - cold) * load.warm_ms + cold * load.cold_ms) / 1e3;
        self.million_requests + MILLION * load.gb() * seconds * price.gb_second
    }

    /// Returns the number of environments with provisioned concurrency, and the dollars of a million requests with
    /// them. The environments are paid for all the time.
    pub(super) fn provisioned(&self, price: Price, load: &Load) -> (u32, f64) {
        let seconds = load.warm_ms / 1e3;
        let environments = environments(load.rate * seconds);
        let capacity = f64::from(environments) * MILLION / load.rate;
        let dollars = self.million_requests
            + MILLION * load.gb() * seconds * price.provisioned_duration_gb_second
            + capacity * load.gb() * price.provisioned_gb_second;
        (environments, dollars)
    }
}

/// Returns the smallest number of environments that are all busy for at most [`MAX_BUSY`] of the requests. These
/// arrive at random times, and occupy `busy` environments on average. Source: Erlang's formula B.
fn environments(busy: f64) -> u32 {
    let mut blocked = 1.0;
    let mut count = 0;
    while blocked > MAX_BUSY {
        count += 1;
        blocked = busy * blocked / (f64::from(count) + busy * blocked);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }

    #[test]
    fn the_costs_are_those_of_the_table() {
        let prices = Prices::embedded().expect("a valid table");
        let price = prices.architectures["x86_64"];
        let load = Load {
            memory_mb: 2048,
            warm_ms: 10.0,
            cold_ms: 1_010.0,
            cold_share: 0.01,
            rate: 10.0,
        };
        // 2 GB for 20 ms, of which 10 ms are the cold starts' share.
        near(
            prices.on_demand(price, &load),
            0.2 + 2.0 * 20_000.0 * 0.000_016_666_7,
        );
        let (environments, dollars) = prices.provisioned(price, &load);
        assert_eq!(environments, 2);
        near(
            dollars,
            0.2 + 2.0 * 10_000.0 * 0.000_009_722_2 + 2.0 * 2.0 * 100_000.0 * 0.000_004_166_7,
        );
        let arm = prices.architectures["arm64"];
        assert!(prices.on_demand(arm, &load) < prices.on_demand(price, &load));
        assert!(prices.of_this_machine().is_ok());
    }

    #[test]
    fn environments_follow_erlangs_formula() {
        // Values of published tables for a blocking of 1 %.
        for (busy, expected) in [
            (0.01, 1),
            (0.1, 2),
            (0.45, 3),
            (4.46, 10),
            (12.03, 20),
            (84.06, 100),
        ] {
            assert_eq!(environments(busy), expected, "{busy}");
        }
    }
}
