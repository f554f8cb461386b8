//! Plot of latency against cost: a point for each memory size.

use std::fmt::Write as _;

use super::Row;

/// Sizes in the drawing's own units.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 80.0;
const TOP: f64 = 40.0;
const GAP: f64 = 90.0;
/// Space on the axes beyond the largest value.
const MARGIN: f64 = 1.15;

/// Values of one kind, with a colour.
struct Line {
    name: &'static str,
    colour: &'static str,
    of: fn(&Row) -> f64,
}

/// Draws warm and cold latencies against dollars per million requests, as SVG.
pub(super) fn draw(rows: &[Row], recommended: u32) -> String {
    let mut body = String::new();
    let warm = [
        Line {
            name: "p50",
            colour: "#1b7f5c",
            of: |row| row.measured.warm_p50,
        },
        Line {
            name: "p99",
            colour: "#c0762b",
            of: |row| row.measured.warm_p99,
        },
    ];
    let cold = [Line {
        name: "median",
        colour: "#3f6fb5",
        of: |row| row.measured.cold,
    }];
    chart(
        &mut body,
        TOP,
        "Warm requests, ms",
        rows,
        &warm,
        recommended,
    );
    let top = TOP + HEIGHT + GAP;
    chart(&mut body, top, "Cold starts, ms", rows, &cold, recommended);
    let (wide, high) = (LEFT + WIDTH + 40.0, top + HEIGHT + 60.0);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0} {high:.0}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
{body}</svg>
"##
    )
}

/// Draws one chart whose upper edge is at `top`.
fn chart(body: &mut String, top: f64, title: &str, rows: &[Row], lines: &[Line], recommended: u32) {
    let largest = |of: fn(&Row) -> f64| rows.iter().map(of).fold(f64::MIN_POSITIVE, f64::max);
    let most_x = MARGIN * largest(|row| row.on_demand);
    let most_y = lines.iter().map(|line| largest(line.of));
    let most_y = MARGIN * most_y.fold(f64::MIN_POSITIVE, f64::max);
    let bottom = top + HEIGHT;
    let end = LEFT + WIDTH;
    let _ = writeln!(
        body,
        r##"<path d="M{LEFT} {top}V{bottom}H{end}" fill="none" stroke="#000"/>"##
    );
    text(body, (LEFT, top - 12.0), "start", "#000", title);
    text(
        body,
        (end, bottom + 34.0),
        "end",
        "#000",
        "dollars per million requests",
    );
    for share in [0.0, 0.5, 1.0] {
        let (x, y) = (LEFT + share * WIDTH, bottom - share * HEIGHT);
        let dollars = format!("{:.2}", share * most_x);
        text(body, (x, bottom + 18.0), "middle", "#000", &dollars);
        let milliseconds = format!("{:.1}", share * most_y);
        text(body, (LEFT - 8.0, y + 4.0), "end", "#000", &milliseconds);
    }
    for (place, line) in (0_u8..).zip(lines) {
        let Line { name, colour, of } = line;
        let points: Vec<(f64, f64, u32)> = rows
            .iter()
            .map(|row| {
                let x = LEFT + row.on_demand / most_x * WIDTH;
                let y = bottom - of(row) / most_y * HEIGHT;
                (x, y, row.measured.memory_mb)
            })
            .collect();
        let path = points.iter().fold(String::new(), |mut path, (x, y, _)| {
            let _ = write!(path, "{x:.1},{y:.1} ");
            path
        });
        let _ = writeln!(
            body,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-opacity="0.4"/>"#,
            path.trim_end()
        );
        for (x, y, memory_mb) in points {
            let radius = if memory_mb == recommended { 6 } else { 3 };
            let _ = writeln!(
                body,
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" fill="{colour}"/>"#
            );
            if place == 0 {
                let label = format!("{memory_mb} MB");
                text(body, (x, y + 18.0), "middle", "#555", &label);
            }
        }
        let x = end - 60.0 * f64::from(place);
        text(body, (x, top - 12.0), "end", colour, name);
    }
}

fn text(body: &mut String, (x, y): (f64, f64), anchor: &str, colour: &str, words: &str) {
    let _ = writeln!(
        body,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{colour}">{words}</text>"#
    );
}
