//! Choice of a memory size.

use super::{ONE_CPU_MB, Row};

/// Factor of the lowest cost up to which a faster size is worth its price.
const WORTH: f64 = 1.1;

/// Recommended size.
pub(super) struct Choice<'a> {
    pub(super) row: &'a Row,
    /// `false` if no size keeps the limit of the latency.
    pub(super) keeps_target: bool,
}

/// Chooses among sizes that keep the limit: of those that cost at most [`WORTH`] times the cheapest, the fastest. If
/// none keeps the limit, the one with the lowest p99 is chosen. `rows` is not empty.
pub(super) fn choose(rows: &[Row], target: Option<f64>) -> Choice<'_> {
    let keeps = |row: &&Row| target.is_none_or(|target| row.measured.warm_p99 <= target);
    let candidates: Vec<&Row> = rows.iter().filter(keeps).collect();
    let lowest = candidates
        .iter()
        .map(|row| row.on_demand)
        .fold(f64::INFINITY, f64::min);
    let worth = candidates
        .into_iter()
        .filter(|row| row.on_demand <= WORTH * lowest);
    let by = |of: fn(&Row) -> f64| move |one: &&Row, other: &&Row| of(one).total_cmp(&of(other));
    let fastest = worth.min_by(by(|row| row.measured.warm_p50));
    let keeps_target = fastest.is_some();
    let row = fastest
        .or_else(|| rows.iter().min_by(by(|row| row.measured.warm_p99)))
        .unwrap_or(&rows[0]);
    Choice { row, keeps_target }
}

impl Choice<'_> {
    /// Describes the choice in lines.
    pub(super) fn describe(&self, cold_percent: f64, target: Option<f64>) -> Vec<String> {
        let measured = &self.row.measured;
        let memory_mb = measured.memory_mb;
        let mut lines = Vec::new();
        let dollars = self.row.on_demand;
        match target {
            Some(target) if !self.keeps_target => lines.push(format!(
                "no size keeps {target} ms: {memory_mb} MB has the lowest p99, {:.1} ms, for ${dollars:.3} per million \
                 requests; a smaller model or more memory may keep it",
                measured.warm_p99
            )),
            Some(target) => lines.push(format!(
                "recommended: {memory_mb} MB, ${dollars:.3} per million requests; p99 {:.1} ms keeps {target} ms",
                measured.warm_p99
            )),
            None => lines.push(format!(
                "recommended: {memory_mb} MB, ${dollars:.3} per million requests: the fastest of those that cost at \
                 most 10 % more than the cheapest"
            )),
        }
        let threads = memory_mb.div_ceil(ONE_CPU_MB);
        lines.push(format!(
            "threads: {threads}, the sidecar's default at this size"
        ));
        let misses = target.is_some_and(|target| measured.cold > target);
        let advice = if misses { "use" } else { "to avoid them, use" };
        lines.push(format!(
            "cold starts take {:.0} ms for {cold_percent} % of the requests; {advice} provisioned concurrency of {}, \
             ${:.3} per million requests, or SnapStart, which was not measured",
            measured.cold, self.row.environments, self.row.provisioned
        ));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::Measured;
    use super::*;

    fn row(memory_mb: u32, p50: f64, p99: f64, on_demand: f64) -> Row {
        Row {
            measured: Measured {
                memory_mb,
                cold: 900.0,
                init: 800.0,
                cold_billed: 900.0,
                warm_p50: p50,
                warm_p99: p99,
                warm_billed: p50,
                peak_mb: 100,
            },
            on_demand,
            environments: 1,
            provisioned: 2.0,
        }
    }

    #[test]
    fn the_fastest_of_the_cheap_sizes_is_chosen() {
        let rows = [
            row(512, 40.0, 90.0, 1.00),
            row(1024, 20.0, 40.0, 1.09),
            row(1769, 10.0, 12.0, 1.30),
        ];
        let chosen = |target| {
            let choice = choose(&rows, target);
            (choice.row.measured.memory_mb, choice.keeps_target)
        };
        assert_eq!(chosen(None), (1024, true));
        assert_eq!(chosen(Some(100.0)), (1024, true));
        assert_eq!(chosen(Some(39.0)), (1769, true));
        assert_eq!(chosen(Some(5.0)), (1769, false));
        let lines = choose(&rows, Some(5.0)).describe(1.0, Some(5.0));
        assert!(lines[0].starts_with("no size keeps 5 ms"), "{lines:?}");
        assert!(
            lines[2].contains("use provisioned concurrency of 1"),
            "{lines:?}"
        );
    }
}
