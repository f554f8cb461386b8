//! Prints the log to standard output, each line with its time, as CloudWatch shows it.

use std::time::SystemTime;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use lab::log_capture::LogCapture;

/// Prints lines as they arrive, until the end of the log.
pub(crate) async fn print(log: &LogCapture) {
    let mut printed = 0;
    loop {
        let lines = log.lines_after(printed).await;
        if lines.is_empty() {
            return;
        }
        printed += lines.len();
        for line in lines {
            println!("{}  {line}", now());
        }
    }
}

fn now() -> String {
    let seconds_and_nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = seconds_and_nanos.unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    // In milliseconds, CloudWatch's resolution, always with three digits.
    let whole = DateTime::from_secs(seconds).fmt(Format::DateTime);
    let whole = whole.unwrap_or_default();
    format!(
        "{}.{:03}Z",
        whole.trim_end_matches('Z'),
        since.subsec_millis()
    )
}

#[test]
fn a_line_has_its_time_to_the_millisecond() {
    let now = now();
    assert_eq!(now.len(), "2026-01-02T03:04:05.678Z".len(), "{now}");
    assert_eq!((&now[10..11], &now[19..20], &now[23..]), ("T", ".", "Z"));
}
