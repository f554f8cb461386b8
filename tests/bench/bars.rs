//! Bar charts in groups, in `target/bench/NAME.svg`.

use std::fmt::Write as _;

use anyhow::Result;

use crate::svg;

/// Sizes in the chart's own units.
const LEFT: f64 = 190.0;
const BARS: f64 = 560.0;
const LINE: f64 = 18.0;

/// One bar with a mark.
pub(crate) struct Bar<'a> {
    pub(crate) label: &'a str,
    pub(crate) value: f64,
    pub(crate) mark: f64,
    pub(crate) colour: &'static str,
    /// Formatted value, at the bar's end.
    pub(crate) words: String,
}

/// A chart that grows downwards. Each group has its own scale.
pub(crate) struct Bars {
    body: String,
    down: f64,
}

impl Bars {
    pub(crate) fn new() -> Self {
        Self {
            body: String::new(),
            down: 10.0,
        }
    }

    pub(crate) fn group(&mut self, title: &str, bars: &[Bar<'_>]) {
        self.down += 1.5 * LINE;
        self.text(10.0, self.down - 5.0, "bold", title);
        let longest = bars.iter().map(|bar| bar.value.max(bar.mark));
        let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
        for bar in bars {
            let Self { down, .. } = *self;
            let [width, mark] = [bar.value, bar.mark].map(|value| value / longest * BARS);
            self.text(30.0, down + 12.0, "normal", bar.label);
            let _ = writeln!(
                self.body,
                r##"<rect x="{LEFT}" y="{down:.0}" width="{width:.1}" height="14" fill="{}"/>
<rect x="{:.1}" y="{down:.0}" width="2" height="14" fill="#000"/>"##,
                bar.colour,
                LEFT + mark
            );
            let end = LEFT + width.max(mark) + 6.0;
            self.text(end, down + 12.0, "normal", &bar.words);
            self.down += LINE;
        }
    }

    /// Writes the chart, with a caption below.
    pub(crate) fn write(mut self, name: &str, about: &str) -> Result<()> {
        let (wide, high) = (LEFT + BARS + 90.0, self.down + 40.0);
        self.text(10.0, self.down + 24.0, "normal", about);
        svg::write(name, wide, high, &self.body)
    }

    fn text(&mut self, x: f64, y: f64, weight: &str, words: &str) {
        let _ = writeln!(
            self.body,
            r#"<text x="{x:.0}" y="{y:.0}" font-weight="{weight}">{words}</text>"#
        );
    }
}
