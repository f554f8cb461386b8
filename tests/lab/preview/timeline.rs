//! Timeline of the environments: Init, invocation, freeze and thaw, reset and shutdown, and the version that
//! responded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::{for_people, page};
use crate::lambda::{EnvironmentChange, State};

/// Sizes in pixels.
const WIDTH: f64 = 1_180.0;
const LEFT: f64 = 170.0;
const BAR: f64 = 18.0;
const ROW: f64 = 44.0;
const TOP: f64 = 34.0;
/// Shortest and longest time shown.
const MIN_SHOWN: Duration = Duration::from_secs(2);
const MAX_SHOWN: Duration = Duration::from_secs(600);
/// Narrowest bar: shorter states are drawn this wide, and merged with an equal neighbour.
const MIN_BAR: f64 = 1.0;

/// Mean width of a letter.
const LETTER: f64 = 6.6;
/// Colours of successive versions.
const BANDS: [&str; 3] = ["#009e73", "#cc79a7", "#000000"];

/// Phase of an environment, as the legend names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Init,
    Invocation,
    Extensions,
    Idle,
    Frozen,
    Ending,
    Empty,
}

impl Phase {
    const ALL: [(Phase, &'static str, &'static str); 7] = [
        (Phase::Init, "Init or restore", "#e69f00"),
        (Phase::Invocation, "invocation", "#0072b2"),
        (
            Phase::Extensions,
            "extensions after the response",
            "#56b4e9",
        ),
        (Phase::Idle, "awake and idle", "#d5dbdb"),
        (Phase::Frozen, "frozen", "#5f6b7a"),
        (Phase::Ending, "reset or shutdown", "#d13212"),
        (Phase::Empty, "no process", "#ffffff"),
    ];

    fn of(change: &EnvironmentChange) -> Option<Self> {
        Some(match change.state {
            _ if change.is_frozen => Self::Frozen,
            State::Init | State::Restore => Self::Init,
            State::Invoke => Self::Invocation,
            State::Tail => Self::Extensions,
            State::Idle | State::Snapshot => Self::Idle,
            State::Ending => Self::Ending,
            State::Empty => Self::Empty,
            State::Gone => return None,
        })
    }

    fn colour(self) -> &'static str {
        let entry = Self::ALL.iter().find(|(phase, ..)| *phase == self);
        entry.map_or("#000", |(_, _, colour)| colour)
    }
}

/// Bar of a phase.
#[derive(Debug, PartialEq)]
struct Bar {
    phase: Phase,
    left: f64,
    right: f64,
}

/// Draws the last minutes before `now`, one row for each environment.
pub(super) fn svg(changes: &[EnvironmentChange], now: SystemTime) -> String {
    let mut environments: BTreeMap<usize, Vec<&EnvironmentChange>> = BTreeMap::new();
    for change in changes {
        environments
            .entry(change.environment)
            .or_default()
            .push(change);
    }
    let first = changes.iter().map(|change| change.at).min().unwrap_or(now);
    let last = changes.iter().map(|change| change.at).max().unwrap_or(now);
    // Without a running environment, time stands still at the last change.
    let is_over = environments
        .values()
        .all(|own| own.last().is_none_or(|change| change.state == State::Gone));
    let end = if is_over { last } else { now };
    let shown = end
        .duration_since(first)
        .unwrap_or_default()
        .clamp(MIN_SHOWN, MAX_SHOWN);
    let scale = Scale { end, shown };
    let mut body = legend();
    let mut y = TOP;
    for (number, own) in &environments {
        let _ = writeln!(
            body,
            "<text x=\"4\" y=\"{:.0}\" font-size=\"12\">environment {number}</text>",
            y + 14.0
        );
        for bar in bars(own, &scale) {
            let _ = writeln!(
                body,
                "<rect x=\"{:.1}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
                bar.left,
                bar.right - bar.left,
                bar.phase.colour()
            );
        }
        body.push_str(&bands(own, &scale, y));
        y += ROW;
    }
    let _ = writeln!(
        body,
        "<text x=\"{LEFT}\" y=\"{:.0}\" font-size=\"11\">{} ago</text>\
         <text x=\"{WIDTH}\" y=\"{0:.0}\" font-size=\"11\" text-anchor=\"end\">{}</text>",
        y + 8.0,
        for_people(shown),
        if is_over { "end" } else { "now" }
    );
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {:.0}\" font-family=\"sans-serif\" \
         fill=\"#16191f\">\n{body}</svg>",
        y + 14.0
    )
}

fn legend() -> String {
    let mut text = String::new();
    let mut x = LEFT;
    for (_, name, colour) in Phase::ALL {
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"4\" width=\"12\" height=\"12\" fill=\"{colour}\" stroke=\"#aab7b8\"/>\
             <text x=\"{}\" y=\"14\" font-size=\"11\">{name}</text>",
            x + 16.0
        );
        x += 38.0 + 6.0 * f64::from(u8::try_from(name.len()).unwrap_or(u8::MAX));
    }
    text
}

/// Position of times.
struct Scale {
    end: SystemTime,
    shown: Duration,
}

impl Scale {
    fn x(&self, time: SystemTime) -> f64 {
        let before = self.end.duration_since(time).unwrap_or_default();
        let share = before.as_secs_f64() / self.shown.as_secs_f64();
        WIDTH - share.min(1.0) * (WIDTH - LEFT)
    }
}

fn bars(changes: &[&EnvironmentChange], scale: &Scale) -> Vec<Bar> {
    let ends = changes
        .iter()
        .skip(1)
        .map(|change| change.at)
        .chain([scale.end]);
    let mut bars: Vec<Bar> = Vec::new();
    for (change, end) in changes.iter().zip(ends) {
        let Some(phase) = Phase::of(change) else {
            continue;
        };
        let (left, right) = (scale.x(change.at), scale.x(end));
        if right <= LEFT {
            continue;
        }
        match bars.last_mut() {
            Some(last) if last.phase == phase => last.right = right,
            // Too short for a bar of its own, next to a bar that is as short.
            Some(last) if right - last.left < MIN_BAR => last.right = right,
            _ => bars.push(Bar {
                phase,
                left,
                right: right.max(left + MIN_BAR),
            }),
        }
    }
    bars
}

/// A band for each version below the bars, with its name where there is room, and the last version below the number of
/// the environment.
fn bands(own: &[&EnvironmentChange], scale: &Scale, y: f64) -> String {
    let versions = versions(own, scale);
    let ends = versions.iter().skip(1).map(|(x, _)| *x).chain([WIDTH]);
    let mut text = String::new();
    for ((place, (x, version)), end) in versions.iter().enumerate().zip(ends) {
        let colour = BANDS.get(place % BANDS.len()).unwrap_or(&"#000");
        let name = page::escaped(version);
        let (width, top) = ((end - x).max(MIN_BAR), y + BAR + 2.0);
        let _ = writeln!(
            text,
            "<rect x=\"{x:.1}\" y=\"{top:.0}\" width=\"{width:.1}\" height=\"4\" fill=\"{colour}\">\
             <title>version {name}</title></rect>"
        );
        let letters = f64::from(u8::try_from(version.len() + 8).unwrap_or(u8::MAX));
        if width > letters * LETTER {
            let _ = writeln!(
                text,
                "<text x=\"{x:.1}\" y=\"{:.0}\" font-size=\"11\">version {name}</text>",
                y + BAR + 17.0
            );
        }
    }
    if let Some((_, version)) = versions.last() {
        let _ = writeln!(
            text,
            "<text x=\"4\" y=\"{:.0}\" font-size=\"10\">version {}</text>",
            y + 28.0,
            page::escaped(version)
        );
    }
    text
}

/// Places at which the version of the responses changes.
fn versions(changes: &[&EnvironmentChange], scale: &Scale) -> Vec<(f64, String)> {
    let mut found: Vec<(f64, String)> = Vec::new();
    for change in changes {
        let Some(version) = &change.version else {
            continue;
        };
        if found.last().is_none_or(|(_, last)| last != version) {
            found.push((scale.x(change.at), version.clone()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(
        second: u64,
        state: State,
        is_frozen: bool,
        version: Option<&str>,
    ) -> EnvironmentChange {
        EnvironmentChange {
            environment: 0,
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            state,
            is_frozen,
            version: version.map(str::to_owned),
        }
    }

    #[test]
    fn bars_follow_the_states() {
        let changes = [
            change(0, State::Init, false, None),
            change(10, State::Invoke, false, None),
            change(20, State::Invoke, false, Some("1")),
            change(30, State::Idle, true, Some("1")),
            change(80, State::Gone, false, Some("1")),
        ];
        let changes: Vec<&EnvironmentChange> = changes.iter().collect();
        let scale = Scale {
            end: SystemTime::UNIX_EPOCH + Duration::from_secs(100),
            shown: Duration::from_secs(100),
        };
        let phases: Vec<Phase> = bars(&changes, &scale).iter().map(|bar| bar.phase).collect();
        assert_eq!(phases, [Phase::Init, Phase::Invocation, Phase::Frozen]);
        let found = versions(&changes, &scale);
        assert_eq!(found.len(), 1);
        assert!((found[0].0 - (LEFT + 0.2 * (WIDTH - LEFT))).abs() < 1e-6);
    }
}
