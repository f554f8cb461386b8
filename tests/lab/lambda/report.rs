//! Report of an invocation: the lines that Lambda writes, and their numbers.

use std::time::Duration;

/// Numbers of an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Id of the invocation.
    pub request_id: String,
    /// Duration of Init, in the first invocation of an environment. Set also if Init was abandoned
    /// or failed and was repeated as part of the invocation.
    pub init: Option<Duration>,
    /// Under `SnapStart`: duration of the restore, in the first invocation after it.
    pub restore: Option<Duration>,
    /// Time from the event to the end, including the extensions' tail and an Init within the
    /// invocation.
    pub duration: Duration,
    /// Billed duration: Init and duration, in whole milliseconds.
    pub billed: Duration,
    /// Time from the runtime's call of `next` to the last extension's, to the microsecond. Zero if
    /// the extensions called first or there are none. AWS measures the same: `extensionOverhead` in
    /// RIE's `rapid/handlers.go`.
    pub post_runtime_extensions: Duration,
    /// Peak memory use since the environment was created, in MB.
    pub max_memory_mb: u64,
    /// Memory size of the function, in MB.
    pub memory_mb: u32,
    /// Status at the end.
    pub status: Status,
}

/// Status of an ended invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The function responded; its own errors count as responses.
    Success,
    /// The invocation exceeded its timeout.
    Timeout,
    /// A process exited, or Init failed; with the error type, such as `Runtime.ExitError`.
    Error(String),
}

impl Report {
    /// The REPORT line, with tabs as on Lambda.
    #[must_use]
    pub fn line(&self) -> String {
        let mut fields = vec![
            format!("REPORT RequestId: {}", self.request_id),
            format!("Duration: {} ms", milliseconds(self.duration)),
            format!("Billed Duration: {} ms", self.billed.as_millis()),
            format!("Memory Size: {} MB", self.memory_mb),
            format!("Max Memory Used: {} MB", self.max_memory_mb),
        ];
        if let Some(init) = self.init {
            fields.push(format!("Init Duration: {} ms", milliseconds(init)));
        }
        if let Some(restore) = self.restore {
            let billed = billed(restore).as_millis();
            fields.push(format!("Restore Duration: {} ms", milliseconds(restore)));
            fields.push(format!("Billed Restore Duration: {billed} ms"));
        }
        let tail = milliseconds(self.post_runtime_extensions);
        fields.push(format!("Post Runtime Extensions Duration: {tail} ms"));
        match &self.status {
            Status::Success => {}
            Status::Timeout => fields.push("Status: timeout".to_owned()),
            Status::Error(kind) => {
                fields.push("Status: error".to_owned());
                fields.push(format!("Error Type: {kind}"));
            }
        }
        fields.join("\t") + "\t"
    }
}

/// A time in Lambda's format, in milliseconds with two digits.
pub(super) fn milliseconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0)
}

/// Billed time: milliseconds, rounded up.
pub(super) fn billed(time: Duration) -> Duration {
    let whole = time.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(whole).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_on_lambda() {
        let mut report = Report {
            request_id: "1f".into(),
            init: Some(Duration::from_micros(5_004)),
            restore: None,
            duration: Duration::from_micros(1_234),
            billed: Duration::from_millis(7),
            post_runtime_extensions: Duration::from_micros(120),
            max_memory_mb: 40,
            memory_mb: 128,
            status: Status::Success,
        };
        assert_eq!(
            report.line(),
            "REPORT RequestId: 1f\tDuration: 1.23 ms\tBilled Duration: 7 ms\t\
             Memory Size: 128 MB\tMax Memory Used: 40 MB\tInit Duration: 5.00 ms\t\
             Post Runtime Extensions Duration: 0.12 ms\t"
        );
        report.status = Status::Error("Runtime.ExitError".into());
        report.init = None;
        report.restore = Some(Duration::from_micros(20_500));
        let line = report.line();
        assert!(line.contains("\tRestore Duration: 20.50 ms\tBilled Restore Duration: 21 ms\t"));
        assert!(line.ends_with("0.12 ms\tStatus: error\tError Type: Runtime.ExitError\t"));
        assert!(!line.contains("Init"));
    }

    #[test]
    fn every_millisecond_that_has_begun_is_billed() {
        assert_eq!(billed(Duration::from_micros(1_001)).as_millis(), 2);
        assert_eq!(billed(Duration::from_millis(1)).as_millis(), 1);
    }
}
