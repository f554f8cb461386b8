//! CloudWatch dashboard and alarms of a model endpoint, generated from the sidecar's metric table.
//!
//! [`files`] returns three files for `layer/deploy`:
//!
//! | file | content |
//! |---|---|
//! | `dashboard.json` | body of the dashboard |
//! | `alarms.json` | properties of each alarm, in the names of `AWS::CloudWatch::Alarm` |
//! | `monitoring.template.json` | `CloudFormation` template with both and their parameters |
//!
//! The first two contain placeholders such as `${FunctionName}`. `Fn::Sub`, Terraform's `templatefile` and CDK's
//! `Fn.sub` share this syntax, and [`parameters`] lists the names.

pub mod alarms;
pub mod dashboard;
pub mod lambda;
pub mod parameters;
pub mod series;
pub mod template;

mod rows;
mod widget;

use serde_json::Value;

/// Name and content of each generated file.
#[must_use]
pub fn files() -> [(&'static str, String); 3] {
    [
        ("dashboard.json", text(&dashboard::body())),
        ("alarms.json", text(&alarms::properties())),
        ("monitoring.template.json", text(&template::template())),
    ]
}

/// JSON with indentation and a line break at the end.
fn text(value: &Value) -> String {
    format!("{value:#}\n")
}
