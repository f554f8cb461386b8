//! The page, and the picture of the dashboard alone.

use std::fmt::Write as _;

use anyhow::Result;

use super::{Snapshot, timeline};
use crate::monitoring::{AlarmState, Size, WidgetKind};

/// Pixels of a column and of a row of the dashboard's grid.
const COLUMN: f64 = 50.0;
const ROW: f64 = 42.0;

const STYLE: &str = "
body { margin: 0; background: #f2f3f3; color: #16191f; font: 14px/1.45 sans-serif }
header { padding: .7em 1em; background: #16191f; color: #fff }
header span { color: #b6bec9; margin-left: 1em }
main { display: grid; grid-template-columns: repeat(24, 1fr); gap: 8px; padding: 8px }
section { background: #fff; border: 1px solid #d5dbdb; border-radius: 4px; overflow: hidden; min-width: 0 }
section.text { background: none; border: 0; padding: 0 .4em }
section.wide { grid-column: 1 / -1; padding: .6em }
section svg { display: block; width: 100%; height: auto }
h1 { font-size: 1.4em; margin: .3em 0 } h2 { font-size: 1.15em; margin: .5em 0 .2em } p { margin: .2em 0 }
ul { columns: 18em; list-style: none; margin: 0; padding: .7em } .alarm { color: #d13212 } .ok { color: #1d8102 }
code { background: #e9ebed; padding: 0 .2em } pre { margin: 0; overflow: auto; max-height: 24em; font-size: 12px }
@media (max-width: 760px) { section { grid-column: 1 / -1 !important } }
";

/// Replaces the content every two seconds, and keeps the place in the log.
const SCRIPT: &str = "
async function refresh() {
  const state = document.getElementById('state');
  try {
    const answer = await fetch('/dashboard' + location.search);
    const text = await answer.text();
    if (answer.ok) {
      document.querySelector('main').innerHTML = text;
      const log = document.querySelector('pre');
      if (log) log.scrollTop = log.scrollHeight;
    }
    state.textContent = answer.ok ? 'live, ' + new Date().toLocaleTimeString() : text;
  } catch { state.textContent = 'the lab has ended' }
  setTimeout(refresh, 2000);
}
refresh();
";

/// The frame, which loads its content.
pub(super) fn whole() -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Model endpoint</title><style>{STYLE}</style></head>\
         <body><header>Model endpoint, preview in the lab<span id=\"state\"></span></header>\
         <main></main><script>{SCRIPT}</script></body></html>\n"
    )
}

/// Widgets, timeline and log.
pub(super) fn content(snapshot: &Snapshot) -> Result<String> {
    let mut html = String::new();
    for widget in &snapshot.dashboard.widgets {
        let [width, height] = widget.size;
        let place = format!("style=\"grid-column: span {width}\"");
        let (class, inner) = match &widget.kind {
            WidgetKind::Text(markdown) => ("text", markdown_html(markdown)),
            WidgetKind::Alarms(names) => ("alarms", alarms_html(names, snapshot)),
            _ => ("chart", snapshot.draw(widget, pixels(width, height))?),
        };
        let _ = writeln!(html, "<section class=\"{class}\" {place}>{inner}</section>");
    }
    let timeline = timeline::svg(&snapshot.changes, snapshot.now);
    let _ = writeln!(
        html,
        "<section class=\"wide\"><h2>Environments</h2>{timeline}</section>\
         <section class=\"wide\"><h2>Log</h2><pre>{}</pre></section>",
        escaped(&snapshot.log.join("\n"))
    );
    Ok(html)
}

/// The dashboard as one picture.
pub(super) fn picture(snapshot: &Snapshot) -> Result<String> {
    let mut body = String::new();
    let mut bottom = 0.0_f64;
    for widget in &snapshot.dashboard.widgets {
        let ([x, y], [width, height]) = (widget.at, widget.size);
        let size = pixels(width, height);
        let (left, top) = (f64::from(x) * COLUMN, f64::from(y) * ROW);
        bottom = bottom.max(top + size.height);
        let inner = snapshot.draw(widget, size)?;
        if !matches!(widget.kind, WidgetKind::Text(_)) {
            let (width, height) = (size.width - 6.0, size.height - 6.0);
            let _ = writeln!(
                body,
                "<rect x=\"{:.0}\" y=\"{:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" fill=\"#fff\" \
                 stroke=\"#d5dbdb\" rx=\"4\"/>",
                left + 3.0,
                top + 3.0
            );
        }
        let _ = writeln!(
            body,
            "<svg x=\"{left:.0}\" y=\"{top:.0}\"{}",
            inner.trim_start_matches("<svg")
        );
    }
    let width = 24.0 * COLUMN;
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {bottom:.0}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#f2f3f3\"/>\n{body}</svg>\n"
    ))
}

fn pixels(width: u32, height: u32) -> Size {
    Size {
        width: f64::from(width) * COLUMN,
        height: f64::from(height) * ROW,
    }
}

/// States of alarms, with a sign as well as a colour.
fn alarms_html(names: &[String], snapshot: &Snapshot) -> String {
    let item = |name: &String| {
        let state = snapshot.alarms.iter().find(|(known, _)| known == name);
        let (class, sign) = match state.map(|(_, state)| state) {
            Some(AlarmState::Alarm) => ("alarm", "▲ ALARM"),
            Some(AlarmState::Ok) => ("ok", "● OK"),
            None => ("unknown", "○ unknown"),
        };
        format!("<li><b class=\"{class}\">{sign}</b> {}</li>", escaped(name))
    };
    let items: String = names.iter().map(item).collect();
    format!("<ul>{items}</ul>")
}

/// Headings, bold text, emphasis and code of the dashboard's texts.
fn markdown_html(markdown: &str) -> String {
    let mut html = String::new();
    for line in markdown.lines() {
        let text = line.trim_start_matches('#');
        let tag = match line.len() - text.len() {
            0 => "p",
            1 => "h1",
            _ => "h2",
        };
        let text = inline_html(&escaped(text.trim()));
        let _ = writeln!(html, "<{tag}>{text}</{tag}>");
    }
    html
}

/// Makes an element of each text between two marks. A mark without its counterpart stays, and code is taken literally.
fn inline_html(text: &str) -> String {
    let marks = [("`", "code"), ("**", "b"), ("*", "i")];
    let mut html = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(['`', '*']) {
        let (before, marked) = rest.split_at(start);
        html.push_str(before);
        let found = marks.iter().find_map(|(mark, tag)| {
            let inside = marked.strip_prefix(mark)?;
            let end = inside.find(mark).filter(|end| *end > 0)?;
            Some((*tag, &inside[..end], &inside[end + mark.len()..]))
        });
        rest = match found {
            Some((tag, inside, after)) => {
                let _ = match tag {
                    "code" => write!(html, "<{tag}>{inside}</{tag}>"),
                    _ => write!(html, "<{tag}>{}</{tag}>", inline_html(inside)),
                };
                after
            }
            None => {
                let (mark, after) = marked.split_at(1);
                html.push_str(mark);
                after
            }
        };
    }
    html + rest
}

/// Text in HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[test]
fn texts_become_html() {
    let html = markdown_html("## A & B\n**bold**, *soft*, `code_with*` and 2 ** 3");
    assert_eq!(
        html,
        "<h2>A &amp; B</h2>\n<p><b>bold</b>, <i>soft</i>, <code>code_with*</code> and 2 ** 3</p>\n"
    );
}
