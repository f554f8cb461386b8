//! Widgets of the dashboard, without their position.

use serde_json::{Value, json};

use crate::series::Series;

/// Period of all charts, in seconds: the period of the alarms, so that both show the same values.
pub(crate) const PERIOD: u32 = 300;

/// One widget.
#[derive(Clone, Debug)]
pub(crate) struct Widget {
    kind: &'static str,
    properties: Value,
}

impl Widget {
    /// Returns a chart of lines over time. `unit` labels the left axis, which starts at zero.
    pub(crate) fn lines(title: &str, unit: &str, series: &[Series]) -> Self {
        Self::metric(json!({
            "title": title,
            "view": "timeSeries",
            "stacked": false,
            "yAxis": {"left": {"label": unit, "min": 0, "showUnits": false}},
            "metrics": rows(series),
        }))
    }

    /// Returns a chart of stacked areas over time.
    pub(crate) fn stacked(title: &str, unit: &str, series: &[Series]) -> Self {
        let mut widget = Self::lines(title, unit, series);
        widget.properties["stacked"] = true.into();
        widget
    }

    /// Returns numbers over the whole time range of the dashboard.
    pub(crate) fn numbers(title: &str, series: &[Series]) -> Self {
        Self::metric(json!({
            "title": title,
            "view": "singleValue",
            "setPeriodToTimeRange": true,
            "metrics": rows(series),
        }))
    }

    /// Sets the period of a chart, in seconds.
    pub(crate) fn period(mut self, seconds: u32) -> Self {
        self.properties["period"] = seconds.into();
        self
    }

    /// Returns a text in Markdown.
    pub(crate) fn text(markdown: &str) -> Self {
        Self {
            kind: "text",
            properties: json!({"markdown": markdown, "background": "transparent"}),
        }
    }

    /// Returns the states of alarms, given by their ARNs.
    pub(crate) fn alarms(title: &str, arns: &[String]) -> Self {
        Self {
            kind: "alarm",
            properties: json!({"title": title, "alarms": arns}),
        }
    }

    fn metric(mut properties: Value) -> Self {
        properties["region"] = "${Region}".into();
        properties["period"] = PERIOD.into();
        Self {
            kind: "metric",
            properties,
        }
    }

    /// Returns the widget at a position of the dashboard's grid, which has 24 columns.
    pub(crate) fn at(&self, [x, y]: [u32; 2], [width, height]: [u32; 2]) -> Value {
        json!({
            "type": self.kind,
            "x": x,
            "y": y,
            "width": width,
            "height": height,
            "properties": self.properties,
        })
    }
}

fn rows(series: &[Series]) -> Vec<Value> {
    series.iter().map(Series::json).collect()
}
