//! Dashboard: widgets, and the values of their series.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use super::expression::{self, Operand};
use super::{Parameters, substitute};
use crate::cloudwatch::{Datapoint, Points, aggregate};

/// A dashboard body with values for its placeholders and variables.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// Widgets in order.
    pub widgets: Vec<Widget>,
}

/// Widget with its place on the grid of 24 columns.
#[derive(Clone, Debug)]
pub struct Widget {
    /// Column and row of the upper left corner.
    pub at: [u32; 2],
    /// Number of columns and rows.
    pub size: [u32; 2],
    /// Title, empty for a text.
    pub title: String,
    /// Content.
    pub kind: WidgetKind,
}

/// Content of a widget.
#[derive(Clone, Debug)]
pub enum WidgetKind {
    /// Text in Markdown.
    Text(String),
    /// States of alarms, by their names.
    Alarms(Vec<String>),
    /// Series over time.
    Chart {
        /// Series, hidden ones included.
        series: Vec<Series>,
        /// `true` for stacked areas.
        is_stacked: bool,
        /// Label of the left axis.
        unit: String,
    },
    /// Numbers over the whole range.
    Numbers(Vec<Series>),
}

/// One entry of a widget's array `metrics`.
#[derive(Clone, Debug)]
pub struct Series {
    path: Vec<String>,
    options: Options,
}

#[derive(Clone, Debug, Deserialize)]
struct Options {
    id: Option<String>,
    label: Option<String>,
    stat: Option<String>,
    expression: Option<String>,
    #[serde(default = "visible")]
    visible: bool,
}

fn visible() -> bool {
    true
}

/// Range of time in seconds since 1970, and the period of the points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// Start, a multiple of the period.
    pub start: u64,
    /// End.
    pub end: u64,
    /// Period in seconds.
    pub period: u64,
}

/// Line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Label of the legend.
    pub label: String,
    /// Values by time.
    pub points: Points,
}

/// Values of a widget.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluated {
    /// Visible lines with at least one value.
    pub lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    variables: Vec<Variable>,
    widgets: Vec<RawWidget>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Variable {
    pattern: Option<String>,
    default_value: Option<String>,
}

#[derive(Deserialize)]
struct RawWidget {
    #[serde(rename = "type")]
    kind: String,
    x: u32,
    y: u32,
    width: u32,
    height: u32,
    properties: Value,
}

impl Dashboard {
    /// Reads `dashboard.json`, substitutes its placeholders, and gives each pattern variable its default.
    ///
    /// # Errors
    /// A body that cannot be read, or a widget of an unknown type.
    pub fn read(text: &str, parameters: &Parameters) -> Result<Self> {
        let text = substitute(text, parameters);
        let body: Body = serde_json::from_str(&text).context("cannot read the dashboard")?;
        // The patterns are plain tokens, not regular expressions.
        let replaced = body.variables.iter().fold(text.clone(), |text, variable| {
            match (&variable.pattern, &variable.default_value) {
                (Some(pattern), Some(value)) => text.replace(pattern, value),
                _ => text,
            }
        });
        let body: Body = serde_json::from_str(&replaced).context("cannot read the dashboard")?;
        let widgets = body.widgets.iter().map(Widget::read);
        Ok(Self {
            widgets: widgets.collect::<Result<_>>()?,
        })
    }
}

impl Widget {
    fn read(raw: &RawWidget) -> Result<Self> {
        let text = |name: &str| raw.properties[name].as_str().unwrap_or_default().to_owned();
        let kind = match raw.kind.as_str() {
            "text" => WidgetKind::Text(text("markdown")),
            "alarm" => WidgetKind::Alarms(alarm_names(&raw.properties)),
            "metric" => {
                let series = series(&raw.properties)?;
                match text("view").as_str() {
                    "singleValue" => WidgetKind::Numbers(series),
                    _ => WidgetKind::Chart {
                        series,
                        is_stacked: raw.properties["stacked"] == true,
                        unit: raw.properties["yAxis"]["left"]["label"]
                            .as_str()
                            .unwrap_or_default()
                            .to_owned(),
                    },
                }
            }
            other => anyhow::bail!("the widget type {other} is not supported"),
        };
        Ok(Self {
            at: [raw.x, raw.y],
            size: [raw.width, raw.height],
            title: text("title"),
            kind,
        })
    }

    /// Returns the values of the series from `data`.
    ///
    /// # Errors
    /// An unknown statistic, or an expression that cannot be evaluated.
    pub fn evaluate(&self, data: &[Datapoint], range: TimeRange) -> Result<Evaluated> {
        match &self.kind {
            WidgetKind::Text(_) | WidgetKind::Alarms(_) => Ok(Evaluated::default()),
            WidgetKind::Chart { series, .. } => evaluated(series, data, range),
            WidgetKind::Numbers(series) => {
                // One period, which covers the whole range.
                let period = range.end.max(range.start + 1);
                let whole = TimeRange {
                    start: 0,
                    end: period,
                    period,
                };
                evaluated(series, data, whole)
            }
        }
        .with_context(|| format!("cannot draw {:?}", self.title))
    }
}

/// Names at the ends of the alarms' ARNs.
fn alarm_names(properties: &Value) -> Vec<String> {
    let arns = properties["alarms"].as_array().into_iter().flatten();
    arns.filter_map(|arn| Some(arn.as_str()?.rsplit(':').next()?.to_owned()))
        .collect()
}

fn series(properties: &Value) -> Result<Vec<Series>> {
    let entries = properties["metrics"].as_array().into_iter().flatten();
    let read = |entry: &Value| {
        let (options, path) = entry
            .as_array()
            .and_then(|parts| parts.split_last())
            .context("an entry of `metrics` is not a list")?;
        let path = path
            .iter()
            .filter_map(|part| Some(part.as_str()?.to_owned()));
        Ok(Series {
            path: path.collect(),
            options: serde_json::from_value(options.clone())?,
        })
    };
    entries.map(read).collect()
}

fn evaluated(series: &[Series], data: &[Datapoint], range: TimeRange) -> Result<Evaluated> {
    let step = usize::try_from(range.period)?;
    let times: Vec<u64> = (range.start..range.end).step_by(step.max(1)).collect();
    let mut by_id = BTreeMap::new();
    for one in series.iter().filter(|one| !one.path.is_empty()) {
        if let Some(id) = &one.options.id {
            by_id.insert(id.clone(), one.points(data, range)?);
        }
    }
    let mut lines = Vec::new();
    for one in series.iter().filter(|one| one.options.visible) {
        match one.options.expression.as_deref() {
            None => lines.push(Line {
                label: one.label(),
                points: one.points(data, range)?,
            }),
            Some(text) if text.starts_with("SEARCH(") => lines.extend(search(text, data, range)?),
            Some(text) => {
                let points = match expression::evaluate(text, &by_id, &times)? {
                    Operand::Series(points) => points,
                    Operand::Scalar(number) => times.iter().map(|time| (*time, number)).collect(),
                };
                lines.push(Line {
                    label: one.label(),
                    points,
                });
            }
        }
    }
    lines.retain(|line| !line.points.is_empty());
    Ok(Evaluated { lines })
}

impl Series {
    /// Label of the legend; `None` for a hidden series. It is empty for a search, whose lines have labels of their
    /// own.
    #[must_use]
    pub fn visible_label(&self) -> Option<String> {
        self.options.visible.then(|| self.label())
    }

    fn label(&self) -> String {
        let label = self.options.label.as_ref().or_else(|| self.path.get(1));
        label.cloned().unwrap_or_default()
    }

    fn points(&self, data: &[Datapoint], range: TimeRange) -> Result<Points> {
        let [namespace, name, dimensions @ ..] = self.path.as_slice() else {
            anyhow::bail!("a series without a metric: {:?}", self.path);
        };
        let dimensions: BTreeMap<&String, &String> = dimensions
            .chunks_exact(2)
            .filter_map(|pair| Some((pair.first()?, pair.last()?)))
            .collect();
        let ours: Vec<&Datapoint> = data
            .iter()
            .filter(|one| one.namespace == *namespace && one.name == *name)
            .filter(|one| one.dimensions.iter().collect::<BTreeMap<_, _>>() == dimensions)
            .collect();
        let statistic = self
            .options
            .stat
            .as_deref()
            .context("a series without `stat`")?;
        Ok(within(
            aggregate(&ours, statistic.parse()?, range.period),
            range,
        ))
    }
}

fn within(points: Points, range: TimeRange) -> Points {
    let inside = |time: u64| (range.start..range.end).contains(&time);
    points
        .into_iter()
        .filter(|(time, _)| inside(*time))
        .collect()
}

/// Evaluates `SEARCH('{namespace,dimensions…} name="value" …', 'statistic')`: one line for each metric found.
fn search(text: &str, data: &[Datapoint], range: TimeRange) -> Result<Vec<Line>> {
    let parts: Vec<&str> = text.split('\'').collect();
    let [_, query, _, statistic, _] = parts.as_slice() else {
        anyhow::bail!("cannot read the search {text}");
    };
    let (schema, terms) = query
        .strip_prefix('{')
        .and_then(|query| query.split_once('}'))
        .with_context(|| format!("the search {text} has no schema"))?;
    let mut schema = schema.split(',');
    let namespace = schema.next().unwrap_or_default();
    let mut names: Vec<&str> = schema.collect();
    names.sort_unstable();
    let terms: Vec<(&str, &str)> = terms
        .split_whitespace()
        .filter_map(|term| term.split_once('='))
        .map(|(name, value)| (name, value.trim_matches('"')))
        .collect();
    let matches = |one: &&Datapoint| {
        one.namespace == namespace
            && one
                .dimensions
                .keys()
                .map(String::as_str)
                .eq(names.iter().copied())
            && terms.iter().all(|(name, value)| match *name {
                "MetricName" => one.name == *value,
                dimension => one
                    .dimensions
                    .get(dimension)
                    .is_some_and(|found| found == value),
            })
    };
    // The dimensions that no term fixes tell the lines apart.
    let label = |one: &Datapoint| {
        let free = one
            .dimensions
            .iter()
            .filter(|(name, _)| terms.iter().all(|(term, _)| term != name));
        free.map(|(_, value)| value.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut found: BTreeMap<String, Vec<&Datapoint>> = BTreeMap::new();
    for one in data.iter().filter(matches) {
        found.entry(label(one)).or_default().push(one);
    }
    let statistic = statistic.parse()?;
    let lines = found.into_iter().map(|(label, data)| Line {
        label,
        points: within(aggregate(&data, statistic, range.period), range),
    });
    Ok(lines.collect())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::cloudwatch::Values;

    const RANGE: TimeRange = TimeRange {
        start: 0,
        end: 600,
        period: 300,
    };

    fn datum(name: &str, dimensions: &[(&str, &str)], second: u64, value: f64) -> Datapoint {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Datapoint {
            namespace: "N".into(),
            name: name.into(),
            dimensions: dimensions.iter().map(owned).collect(),
            timestamp: UNIX_EPOCH + Duration::from_secs(second),
            values: Values::Distribution(vec![(value, 1.0)]),
            unit: None,
            storage_resolution: 60,
        }
    }

    fn lines(metrics: &str, data: &[Datapoint]) -> Vec<(String, Vec<(u64, f64)>)> {
        let text = format!(
            r#"{{"variables": [{{"pattern": "__f__", "defaultValue": "${{F}}"}}],
                "widgets": [{{"type": "metric", "x": 0, "y": 0, "width": 8, "height": 6,
                              "properties": {{"title": "T", "metrics": {metrics}}}}}]}}"#
        );
        let dashboard = Dashboard::read(&text, &[("F".to_owned(), "fraud".to_owned())]).unwrap();
        let evaluated = dashboard.widgets[0].evaluate(data, RANGE).unwrap();
        let line = |line: Line| (line.label, line.points.into_iter().collect());
        evaluated.lines.into_iter().map(line).collect()
    }

    #[test]
    fn a_series_has_exactly_its_dimensions() {
        let data = [
            datum("M", &[("F", "fraud")], 10, 1.0),
            datum("M", &[("F", "fraud"), ("G", "x")], 10, 2.0),
            datum("M", &[("F", "other")], 10, 4.0),
            datum("M", &[("F", "fraud")], 700, 8.0),
        ];
        let found = lines(
            r#"[["N", "M", "F", "__f__", {"stat": "Sum", "label": "m"}]]"#,
            &data,
        );
        assert_eq!(found, [("m".to_owned(), vec![(0, 1.0)])]);
    }

    #[test]
    fn hidden_series_serve_expressions() {
        let data = [datum("M", &[("F", "fraud")], 300, 4.0)];
        let metrics = r#"[["N", "M", "F", "__f__", {"stat": "Sum", "id": "m", "visible": false}],
                          [{"expression": "10 * FILL(m, 1)", "label": "e"}]]"#;
        assert_eq!(
            lines(metrics, &data),
            [("e".to_owned(), vec![(0, 10.0), (300, 40.0)])]
        );
    }

    #[test]
    fn a_search_finds_each_value_of_a_free_dimension() {
        let data = [
            datum("M", &[("F", "fraud"), ("V", "7")], 10, 1.0),
            datum("M", &[("F", "fraud"), ("V", "8")], 310, 2.0),
            datum("M", &[("F", "other"), ("V", "9")], 10, 1.0),
            datum("M", &[("F", "fraud")], 10, 1.0),
        ];
        let metrics =
            r#"[[{"expression": "SEARCH('{N,F,V} MetricName=\"M\" F=\"__f__\"', 'Sum')"}]]"#;
        let expected = [
            ("7".to_owned(), vec![(0, 1.0)]),
            ("8".to_owned(), vec![(300, 2.0)]),
        ];
        assert_eq!(lines(metrics, &data), expected);
    }
}
