//! Body of the dashboard.
//!
//! Structure: CloudWatch API Reference, "Dashboard Body Structure and Syntax".
//!
//! The body contains a token for function, alias and model. A *pattern* variable replaces its token in the whole
//! body. One dashboard thus shows any function and model, and the dimension `Resource` with `function:alias`. Tokens
//! are unlike any name: the pattern `wine` would also replace a part of the function `wine-endpoint`.

use serde_json::{Value, json};

use crate::rows;
use crate::widget::Widget;

/// Token of the function's name.
pub const FUNCTION: &str = "__function__";
/// Token of the function's alias.
pub const ALIAS: &str = "__alias__";
/// Token of the model's name.
pub const MODEL: &str = "__model__";

/// Columns of the dashboard's grid.
const COLUMNS: u32 = 24;
/// Height of a row of charts, in units of the grid.
pub(crate) const CHART: u32 = 6;

/// Row of the dashboard: a text that says what to do, and charts of equal width below it.
pub(crate) struct Row {
    pub(crate) markdown: String,
    /// Height of the text, in units of the grid.
    pub(crate) text_height: u32,
    pub(crate) charts: Vec<Widget>,
    /// Height of the charts, in units of the grid.
    pub(crate) chart_height: u32,
}

/// Returns the body, with the placeholders of [`crate::parameters`].
#[must_use]
pub fn body() -> Value {
    let mut widgets = Vec::new();
    let mut y = 0;
    for row in rows::all() {
        let text = Widget::text(&row.markdown);
        widgets.push(text.at([0, y], [COLUMNS, row.text_height]));
        y += row.text_height;
        let Some(count) = u32::try_from(row.charts.len())
            .ok()
            .filter(|count| *count > 0)
        else {
            continue;
        };
        let width = COLUMNS / count;
        for (place, chart) in (0..).zip(&row.charts) {
            widgets.push(chart.at([place * width, y], [width, row.chart_height]));
        }
        y += row.chart_height;
    }
    json!({
        "start": "-PT3H",
        "periodOverride": "inherit",
        "variables": variables(),
        "widgets": widgets,
    })
}

fn variables() -> Value {
    // Offers the functions and models for which the sidecar has sent metrics.
    let search = "{${Namespace},FunctionName,ModelName} MetricName=\"Inferences\"";
    let select = |id: &str, label: &str, token: &str, dimension: &str, default: &str| {
        json!({
            "type": "pattern",
            "pattern": token,
            "inputType": "select",
            "id": id,
            "label": label,
            "search": search,
            "populateFrom": dimension,
            "defaultValue": default,
            "visible": true,
        })
    };
    json!([
        select("function", "Function", FUNCTION, "FunctionName", "${FunctionName}"),
        {
            "type": "pattern",
            "pattern": ALIAS,
            "inputType": "input",
            "id": "alias",
            "label": "Alias",
            "defaultValue": "${Alias}",
            "visible": true,
        },
        select("model", "Model", MODEL, "ModelName", "${ModelName}"),
    ])
}
