//! Line charts, one below the other, in `target/bench/NAME.svg`.

use std::fmt::Write as _;

use anyhow::Result;

use crate::svg;

/// Sizes in the chart's own units.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 60.0;
const GAP: f64 = 70.0;

/// A line: its colour, its name, and its points.
pub(crate) struct Line<'a> {
    pub(crate) colour: &'static str,
    pub(crate) name: &'a str,
    pub(crate) points: &'a [(f64, f64)],
}

/// A chart that grows downwards.
pub(crate) struct Charts {
    body: String,
    top: f64,
}

impl Charts {
    pub(crate) fn new() -> Self {
        Self {
            body: String::new(),
            top: 30.0,
        }
    }

    /// Adds lines on axes from zero to these maxima; points beyond are drawn at the edge.
    pub(crate) fn add(&mut self, title: &str, [most_x, most_y]: [f64; 2], lines: &[Line<'_>]) {
        let (top, bottom) = (self.top, self.top + HEIGHT);
        self.text(LEFT, top - 8.0, "start", title);
        let end = LEFT + WIDTH;
        let _ = writeln!(
            self.body,
            r##"<path d="M{LEFT} {top}V{bottom}H{end}" fill="none" stroke="#000"/>"##,
        );
        let places = [(0.0, bottom), (0.5, f64::midpoint(top, bottom)), (1.0, top)];
        for (share, y) in places {
            let label = format!("{:.1}", share * most_y);
            self.text(LEFT - 6.0, y + 4.0, "end", &label);
            let label = format!("{:.0}", share * most_x);
            self.text(LEFT + share * WIDTH, bottom + 16.0, "middle", &label);
        }
        for (place, line) in (1_u8..).zip(lines) {
            let Line {
                colour,
                name,
                points,
            } = line;
            let mut path = String::new();
            for (x, y) in *points {
                let [x, y] = [(x, most_x), (y, most_y)]
                    .map(|(value, most)| (value / most.max(f64::MIN_POSITIVE)).min(1.0));
                let (x, y) = (LEFT + x * WIDTH, bottom - y * HEIGHT);
                let _ = write!(path, "{x:.1},{y:.1} ");
            }
            let _ = writeln!(
                self.body,
                r#"<polyline points="{path}" fill="none" stroke="{colour}"/>"#
            );
            let y = top + 16.0 * f64::from(place);
            let _ = writeln!(
                self.body,
                r#"<text x="{}" y="{y}" fill="{colour}">{name}</text>"#,
                LEFT + 12.0
            );
        }
        self.top = bottom + GAP;
    }

    /// Writes the chart.
    pub(crate) fn write(self, name: &str) -> Result<()> {
        let (wide, high) = (LEFT + WIDTH + 30.0, self.top);
        svg::write(name, wide, high, &self.body)
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, words: &str) {
        let _ = writeln!(
            self.body,
            r#"<text x="{x:.0}" y="{y:.0}" text-anchor="{anchor}">{words}</text>"#
        );
    }
}
