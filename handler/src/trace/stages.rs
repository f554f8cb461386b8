//! Stages of a call, from the sidecar's header `Server-Timing`.
//!
//! The header has the duration of each stage. The stages of the request follow each other until its response, so that
//! they are placed backwards from the end of the call. The rest, at the beginning, is the transfer of the body and the
//! wait for a model. The steps of a load have the time of their end, since the load may precede the invocation.
//!
//! Format: <https://www.w3.org/TR/server-timing/>, with the parameter `end` in milliseconds since the Unix epoch.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Stages of a request, in the order of their execution.
const OF_REQUEST: [&str; 4] = ["decode", "queue", "infer", "encode"];
/// Steps of a load, in the order of their execution.
const OF_LOAD: [&str; 3] = ["fetch", "load", "warm_up"];

/// Part of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) name: &'static str,
    pub(super) started: SystemTime,
    pub(super) ended: SystemTime,
}

/// Parts of a call, in the order of their execution.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stages {
    /// Stages of the request.
    pub(super) request: Vec<Stage>,
    /// Steps of the load that a cold start waited for.
    pub(super) load: Vec<Stage>,
}

impl Stages {
    /// Reads the header of a call with these times. Unknown and malformed entries are omitted.
    pub(super) fn read(header: &str, started: SystemTime, ended: SystemTime) -> Self {
        let entries: Vec<Entry> = header.split(',').filter_map(Entry::read).collect();
        let find = |name: &&'static str| {
            let entry = entries.iter().find(|entry| entry.name == *name)?;
            Some((*name, entry))
        };
        let mut stages = Self::default();
        let mut end = ended;
        for (name, entry) in OF_REQUEST.iter().rev().filter_map(find) {
            let start = end
                .checked_sub(entry.duration)
                .unwrap_or(started)
                .max(started);
            stages.request.push(Stage {
                name,
                started: start,
                ended: end,
            });
            end = start;
        }
        stages.request.reverse();
        for (name, entry) in OF_LOAD.iter().filter_map(find) {
            if let Some(ended) = entry.end
                && let Some(started) = ended.checked_sub(entry.duration)
                && started >= UNIX_EPOCH
            {
                stages.load.push(Stage {
                    name,
                    started,
                    ended,
                });
            }
        }
        stages
    }
}

/// Entry of the header.
struct Entry<'a> {
    name: &'a str,
    duration: Duration,
    end: Option<SystemTime>,
}

impl<'a> Entry<'a> {
    /// Reads `NAME;dur=MILLISECONDS`, and `;end=MILLISECONDS`.
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next()?;
        let (mut duration, mut end) = (None, None);
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key {
                "dur" => {
                    let milliseconds: f64 = value.parse().ok()?;
                    duration = Duration::try_from_secs_f64(milliseconds / 1e3).ok();
                }
                "end" => {
                    let since = Duration::from_millis(value.parse().ok()?);
                    end = UNIX_EPOCH.checked_add(since);
                }
                _ => {}
            }
        }
        Some(Self {
            name,
            duration: duration?,
            end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn stage(name: &'static str, started: u64, ended: u64) -> Stage {
        Stage {
            name,
            started: at(started),
            ended: at(ended),
        }
    }

    #[test]
    fn the_stages_of_a_request_end_with_it_in_their_order() {
        let header = "queue;dur=2.000, decode;dur=1.000, infer;dur=30.000, encode;dur=4.000";
        let stages = Stages::read(header, at(1_000), at(1_050));
        let expected = [
            stage("decode", 1_013, 1_014),
            stage("queue", 1_014, 1_016),
            stage("infer", 1_016, 1_046),
            stage("encode", 1_046, 1_050),
        ];
        assert_eq!(stages.request, expected);
        assert_eq!(stages.load, []);
    }

    #[test]
    fn the_steps_of_a_load_have_their_own_times() {
        let header =
            "infer;dur=1, fetch;dur=800;end=900, load;dur=95;end=995, warm_up;dur=5;end=1000";
        let stages = Stages::read(header, at(5_000), at(5_010));
        assert_eq!(stages.request, [stage("infer", 5_009, 5_010)]);
        let expected = [
            stage("fetch", 100, 900),
            stage("load", 900, 995),
            stage("warm_up", 995, 1_000),
        ];
        assert_eq!(stages.load, expected);
    }

    #[test]
    fn stages_do_not_begin_before_their_call() {
        let stages = Stages::read("infer;dur=9,queue;dur=90,decode;dur=900", at(100), at(110));
        let expected = [
            stage("decode", 100, 100),
            stage("queue", 100, 101),
            stage("infer", 101, 110),
        ];
        assert_eq!(stages.request, expected);
    }

    #[test]
    fn malformed_entries_are_omitted() {
        for header in [
            "",
            "infer",
            "infer;dur=",
            "infer;dur=-1",
            "infer;dur=NaN",
            "infer;dur=inf",
            "infer;dur=1e300",
            "total;dur=1",
            "fetch;dur=1",
            "fetch;dur=1;end=x",
            "fetch;dur=1;end=99999999999999999999",
            "fetch;dur=1e18;end=5",
            ";;,;=,=",
        ] {
            let stages = Stages::read(header, at(100), at(110));
            assert_eq!(stages, Stages::default(), "{header}");
        }
    }
}
