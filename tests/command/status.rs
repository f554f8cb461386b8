//! Rows of `lab status`.

use std::fmt::Write as _;
use std::sync::Arc;

use http::StatusCode;
use lab::lambda::Environment;
use serde::{Deserialize, Serialize};

/// Snapshot of an environment.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Row {
    /// Number of the environment.
    environment: usize,
    /// State, and `frozen` if it is.
    state: String,
    /// Time in that state, in milliseconds.
    since_ms: u64,
    /// Number of invocations so far.
    requests: usize,
    /// Current resident memory of its processes, in KB.
    memory_kb: u64,
    /// Host process ids.
    pids: Vec<i32>,
}

pub(crate) fn rows(environments: &[Arc<Environment>]) -> Vec<Row> {
    let rows = environments.iter().map(|environment| {
        let pids = environment.pids();
        let frozen = if environment.is_frozen() {
            ", frozen"
        } else {
            ""
        };
        let state = format!("{:?}", environment.state()).to_lowercase();
        Row {
            environment: environment.number(),
            state: format!("{state}{frozen}"),
            since_ms: u64::try_from(environment.in_state_for().as_millis()).unwrap_or(u64::MAX),
            requests: requests(environment),
            memory_kb: pids.iter().filter_map(|pid| resident_kb(*pid)).sum(),
            pids,
        }
    });
    rows.collect()
}

/// Number of events delivered to its runtimes.
fn requests(environment: &Environment) -> usize {
    let calls = environment.trace();
    let events = calls.iter().filter(|call| {
        call.path.ends_with("/runtime/invocation/next") && call.status == Some(StatusCode::OK)
    });
    events.count()
}

/// Resident memory of a process, `None` after its exit.
fn resident_kb(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Formats the rows as a table.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = [
        "ENVIRONMENT",
        "STATE",
        "SINCE",
        "REQUESTS",
        "MEMORY",
        "PIDS",
    ];
    let mut cells = vec![head.map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        let pids: Vec<_> = row.pids.iter().map(i32::to_string).collect();
        [
            row.environment.to_string(),
            row.state.clone(),
            since(row.since_ms),
            row.requests.to_string(),
            format!("{} MB", row.memory_kb.div_ceil(1024)),
            if pids.is_empty() {
                "-".to_owned()
            } else {
                pids.join(" ")
            },
        ]
    }));
    let mut widths = [0; 6];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut table = String::new();
    for row in &cells {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a `String` cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

fn since(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[test]
fn a_table_is_aligned() {
    let row = |environment, state: &str, pids: &[i32]| Row {
        environment,
        state: state.to_owned(),
        since_ms: 3_723_000,
        requests: 12,
        memory_kb: 2_049,
        pids: pids.to_vec(),
    };
    let rows = [row(0, "idle, frozen", &[10, 11]), row(10, "empty", &[])];
    let table = table(&rows);
    assert_eq!(
        table,
        "ENVIRONMENT  STATE         SINCE      REQUESTS  MEMORY  PIDS\n\
         0            idle, frozen  1 h 2 min  12        3 MB    10 11\n\
         10           empty         1 h 2 min  12        3 MB    -\n"
    );
}
