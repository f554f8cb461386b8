//! Widgets as SVG.

use std::fmt::Write as _;

use super::{AlarmState, Evaluated, Line, TimeRange, Widget, WidgetKind};
use crate::cloudwatch::Points;

/// Size of a drawing in pixels.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// Colours that differ in lightness as well, for readers who do not see hues. Source: the palette of Okabe and Ito.
const COLOURS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#000000",
];
const INK: &str = "#16191f";
const FAINT: &str = "#5f6b7a";
const GRID: &str = "#e3e6ea";
const RED: &str = "#d13212";
const GREEN: &str = "#1d8102";
/// Space around the plot: left for numbers, top for the title.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 30.0;
/// Height of the times below the plot, and of a row of the legend.
const TIMES: f64 = 18.0;
const LEGEND: f64 = 15.0;
/// Mean width of a letter of the legend.
const LETTER: f64 = 6.9;

impl Widget {
    /// Draws the widget. `alarms` has the states by name.
    #[must_use]
    pub fn svg(
        &self,
        evaluated: &Evaluated,
        range: TimeRange,
        alarms: &[(String, AlarmState)],
        size: Size,
    ) -> String {
        let mut canvas = Canvas::new(size, &self.title);
        match &self.kind {
            WidgetKind::Text(markdown) => canvas.markdown(markdown),
            WidgetKind::Alarms(names) => canvas.alarms(names, alarms),
            WidgetKind::Numbers(_) => canvas.numbers(&evaluated.lines),
            WidgetKind::Chart {
                is_stacked, unit, ..
            } => canvas.chart(&evaluated.lines, range, *is_stacked, unit),
        }
        canvas.finish()
    }
}

struct Canvas {
    size: Size,
    body: String,
}

impl Canvas {
    fn new(size: Size, title: &str) -> Self {
        let mut canvas = Self {
            size,
            body: String::new(),
        };
        if !title.is_empty() {
            canvas.text([12.0, 19.0], "start", INK, 13.0, title);
        }
        canvas
    }

    fn finish(self) -> String {
        let Size { width, height } = self.size;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" font-family=\"sans-serif\">\n{}</svg>\n",
            self.body
        )
    }

    fn push(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    fn text(&mut self, [x, y]: [f64; 2], anchor: &str, fill: &str, size: f64, words: &str) {
        let words = escaped(words);
        self.push(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\" font-size=\"{size}\">{words}</text>"
        ));
    }

    fn chart(&mut self, lines: &[Line], range: TimeRange, is_stacked: bool, unit: &str) {
        let rows = self.legend(lines);
        let plot = Plot {
            left: LEFT,
            top: TOP,
            right: self.size.width - RIGHT,
            bottom: self.size.height - TIMES - rows * LEGEND - 6.0,
            range,
            most: ceiling(most(lines, is_stacked)),
        };
        for share in [0.0, 0.5, 1.0] {
            let y = plot.y(share * plot.most);
            let (left, right) = (plot.left, plot.right);
            self.push(&format!(
                "<path d=\"M{left} {y:.1}H{right}\" stroke=\"{GRID}\" fill=\"none\"/>"
            ));
            let number = short(share * plot.most);
            self.text([left - 6.0, y + 4.0], "end", FAINT, 10.0, &number);
        }
        self.text([self.size.width - RIGHT, 19.0], "end", FAINT, 10.0, unit);
        let below = plot.bottom + 14.0;
        self.text(
            [plot.left, below],
            "start",
            FAINT,
            10.0,
            &clock(range.start),
        );
        self.text([plot.right, below], "end", FAINT, 10.0, &clock(range.end));
        if lines.is_empty() {
            let middle = [
                f64::midpoint(plot.left, plot.right),
                f64::midpoint(plot.top, plot.bottom),
            ];
            self.text(middle, "middle", FAINT, 12.0, "no data");
        }
        if is_stacked {
            self.areas(lines, &plot);
        } else {
            for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
                self.line(line, colour, &plot);
            }
        }
    }

    fn line(&mut self, line: &Line, colour: &str, plot: &Plot) {
        for run in runs(line, plot.range.period) {
            let points: String = run.iter().fold(String::new(), |mut text, (time, value)| {
                let _ = write!(text, "{:.1},{:.1} ", plot.x(*time), plot.y(*value));
                text
            });
            self.push(&format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>",
                points.trim_end()
            ));
            // A value without neighbours has no line.
            if let [(time, value)] = run.as_slice() {
                let (x, y) = (plot.x(*time), plot.y(*value));
                self.push(&format!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.4\" fill=\"{colour}\"/>"
                ));
            }
        }
    }

    /// Bars of each period on top of each other: areas between periods without data would show what was not measured.
    fn areas(&mut self, lines: &[Line], plot: &Plot) {
        let mut floor = Points::new();
        for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            for (time, value) in &line.points {
                let from = floor.entry(*time).or_default();
                let (left, right) = (plot.x(*time), plot.x(*time + plot.range.period));
                let (low, high) = (plot.y(*from), plot.y(*from + value));
                let (width, height) = ((right - left).max(2.0), (low - high).max(0.0));
                self.push(&format!(
                    "<rect x=\"{left:.1}\" y=\"{high:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
                     fill=\"{colour}\" fill-opacity=\"0.75\"/>"
                ));
                *from += value;
            }
        }
    }

    /// Draws the legend at the bottom, and returns its number of rows.
    fn legend(&mut self, lines: &[Line]) -> f64 {
        let mut rows: Vec<Vec<(f64, &str, &str)>> = vec![Vec::new()];
        let mut x = 12.0;
        for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let width = 16.0 + LETTER * length(&line.label) + 12.0;
            if x + width > self.size.width && x > 12.0 {
                rows.push(Vec::new());
                x = 12.0;
            }
            if let Some(row) = rows.last_mut() {
                row.push((x, &line.label, colour));
            }
            x += width;
        }
        let mut y = self.size.height - 8.0;
        for row in rows.iter().rev() {
            for (x, label, colour) in row {
                let top = y - 9.0;
                self.push(&format!(
                    "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>"
                ));
                self.text([x + 14.0, y], "start", INK, 11.0, label);
            }
            y -= LEGEND;
        }
        u16::try_from(rows.len()).map_or(1.0, f64::from)
    }

    fn numbers(&mut self, lines: &[Line]) {
        let mut y = self.size.height / 2.0;
        for line in lines {
            let value = line.points.values().last().copied().unwrap_or_default();
            let middle = self.size.width / 2.0;
            self.text([middle, y], "middle", INK, 30.0, &short(value));
            self.text([middle, y + 22.0], "middle", FAINT, 12.0, &line.label);
            y += 70.0;
        }
    }

    /// One line for each alarm in columns, with a sign as well as a colour.
    fn alarms(&mut self, names: &[String], states: &[(String, AlarmState)]) {
        let columns = if self.size.width > 700.0 { 3 } else { 1 };
        let width = self.size.width / f64::from(columns);
        let (mut column, mut y) = (0.0, 44.0);
        for name in names {
            let state = states.iter().find(|(known, _)| known == name);
            let (sign, colour) = match state.map(|(_, state)| state) {
                Some(AlarmState::Alarm) => ("▲ ALARM", RED),
                Some(AlarmState::Ok) => ("● OK", GREEN),
                None => ("○ unknown", FAINT),
            };
            let x = 12.0 + column * width;
            self.text([x, y], "start", colour, 12.0, sign);
            self.text([x + 72.0, y], "start", INK, 12.0, name);
            column += 1.0;
            if column >= f64::from(columns) {
                (column, y) = (0.0, y + 20.0);
            }
        }
    }

    /// Headings, and text without its marks, in lines that fit.
    fn markdown(&mut self, markdown: &str) {
        let mut y = 20.0;
        for paragraph in markdown.lines() {
            let heading = paragraph.trim_start_matches('#');
            let level = paragraph.len() - heading.len();
            let (size, letter) = if level > 0 { (16.0, 8.2) } else { (12.0, 6.4) };
            let plain = heading.trim().replace(['*', '`'], "");
            for line in wrapped(&plain, (self.size.width - 24.0) / letter) {
                self.text([12.0, y], "start", INK, size, &line);
                y += size * 1.35;
            }
        }
    }
}

/// Area of a chart and its scales.
struct Plot {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
    range: TimeRange,
    most: f64,
}

impl Plot {
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds of a range, far below 2^53"
    )]
    fn x(&self, time: u64) -> f64 {
        let length = (self.range.end - self.range.start).max(1) as f64;
        let share = time.saturating_sub(self.range.start) as f64 / length;
        self.left + share.min(1.0) * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value / self.most).clamp(0.0, 1.0);
        self.bottom - share * (self.bottom - self.top)
    }
}

/// Neighbouring values; a period without a value ends a run.
fn runs(line: &Line, period: u64) -> Vec<Vec<(u64, f64)>> {
    let mut runs: Vec<Vec<(u64, f64)>> = Vec::new();
    for (time, value) in &line.points {
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|(last, _)| last + period >= *time) => {
                run.push((*time, *value));
            }
            _ => runs.push(vec![(*time, *value)]),
        }
    }
    runs
}

fn most(lines: &[Line], is_stacked: bool) -> f64 {
    let mut totals = Points::new();
    for (time, value) in lines.iter().flat_map(|line| &line.points) {
        let total = totals.entry(*time).or_default();
        *total = if is_stacked {
            *total + value
        } else {
            total.max(*value)
        };
    }
    totals.into_values().fold(0.0, f64::max)
}

/// Smallest number of the form 1, 2 or 5 times a power of ten that is not below `value`; 1 for 0.
fn ceiling(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| *step >= value)
        .unwrap_or(value)
}

/// A number with at most three significant digits, and a prefix from thousands on.
fn short(value: f64) -> String {
    for (size, prefix) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value.abs() >= size {
            return format!("{}{prefix}", digits(value / size));
        }
    }
    digits(value)
}

fn digits(value: f64) -> String {
    let magnitude = value.abs();
    let text = match magnitude {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        1e-3.. => format!("{value:.4}"),
        0.0 => return "0".to_owned(),
        _ => format!("{value:.2e}"),
    };
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Time of day in UTC.
fn clock(seconds: u64) -> String {
    let minutes = seconds / 60 % 1440;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

fn length(text: &str) -> f64 {
    u16::try_from(text.chars().count()).map_or(0.0, f64::from)
}

/// Breaks words into lines of at most `most` letters.
fn wrapped(text: &str, most: f64) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if length(line) + 1.0 + length(word) <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Text in XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (0.25, "0.25"),
            (1.0, "1"),
            (12.34, "12.3"),
            (1500.0, "1.5k"),
            (8.0e9, "8G"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn a_scale_ends_at_a_round_number() {
        for (value, expected) in [
            (0.0, 1.0),
            (0.3, 0.5),
            (1.0, 1.0),
            (7.0, 10.0),
            (120.0, 200.0),
        ] {
            assert!((ceiling(value) - expected).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn a_period_without_data_interrupts_the_line() {
        let line = Line {
            label: String::new(),
            points: [(0, 1.0), (60, 1.0), (180, 2.0)].into(),
        };
        let lengths: Vec<usize> = runs(&line, 60).iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 1]);
    }
}
