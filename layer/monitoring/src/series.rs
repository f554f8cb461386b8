//! Series: a metric with its statistic, a metric search, or an expression over other series.

use std::fmt::Write as _;

use model_sidecar::metrics::defs;
use serde_json::{Map, Value, json};

use crate::{dashboard, lambda};

/// Namespace of the sidecar's metrics.
pub const NAMESPACE: &str = "${Namespace}";

/// Aggregation of a metric over a period, in CloudWatch's notation: `Sum`, `Maximum`, `p99`.
pub type Statistic = &'static str;

/// Values of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Namespace, which may be a placeholder.
    pub namespace: &'static str,
    /// Name of the metric.
    pub name: &'static str,
    /// Names and values of the dimensions. The values are tokens of the dashboard's variables.
    pub dimensions: Vec<(&'static str, String)>,
}

impl Metric {
    /// Returns a metric of Lambda.
    #[must_use]
    pub fn lambda(name: &'static str) -> Self {
        Self {
            namespace: lambda::NAMESPACE,
            name,
            dimensions: vec![(defs::FUNCTION_LABEL, dashboard::FUNCTION.to_owned())],
        }
    }

    /// Returns a metric of Lambda about the function's alias.
    #[must_use]
    pub fn alias(name: &'static str) -> Self {
        let resource = format!("{}:{}", dashboard::FUNCTION, dashboard::ALIAS);
        let mut metric = Self::lambda(name);
        metric.dimensions.push((lambda::RESOURCE, resource));
        metric
    }

    /// Returns a metric of the sidecar with the dimensions of its definition. A dimension without a variable, such as
    /// `ModelVersion`, needs a search and is left out.
    #[must_use]
    pub fn sidecar(name: &'static str) -> Self {
        let definition = defs::find(name);
        let dimensions = definition.map_or(&[][..], |metric| metric.dimensions());
        Self {
            namespace: NAMESPACE,
            name,
            dimensions: dimensions
                .iter()
                .filter_map(|dimension| Some((*dimension, token(dimension)?.to_owned())))
                .collect(),
        }
    }
}

/// Returns the token of the variable for a dimension.
fn token(dimension: &str) -> Option<&'static str> {
    match dimension {
        defs::FUNCTION_LABEL => Some(dashboard::FUNCTION),
        defs::MODEL_LABEL => Some(dashboard::MODEL),
        _ => None,
    }
}

/// Origin of the values of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Metric(Metric, Statistic),
    Expression(String),
}

/// One entry in the array `metrics` of a widget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Series {
    source: Source,
    label: &'static str,
    id: Option<&'static str>,
    is_visible: bool,
}

impl Series {
    pub(crate) fn of(metric: Metric, statistic: Statistic, label: &'static str) -> Self {
        Self {
            source: Source::Metric(metric, statistic),
            label,
            id: None,
            is_visible: true,
        }
    }

    /// Returns an expression of CloudWatch's metric math.
    pub(crate) fn expression(expression: &str, label: &'static str) -> Self {
        Self {
            source: Source::Expression(expression.to_owned()),
            label,
            id: None,
            is_visible: true,
        }
    }

    /// Returns one series for each value of the dimension that has no variable, found by a metric search.
    pub(crate) fn search(name: &'static str, statistic: Statistic) -> Self {
        let schema = defs::find(name).map_or(&[][..], |metric| metric.dimensions());
        let filters = Metric::sidecar(name).dimensions;
        let mut conditions = String::new();
        for (dimension, value) in filters {
            let _ = write!(conditions, " {dimension}=\"{value}\"");
        }
        let schema = schema.join(",");
        Self::expression(
            &format!(
                "SEARCH('{{{NAMESPACE},{schema}}} MetricName=\"{name}\"{conditions}', '{statistic}')"
            ),
            "",
        )
    }

    /// Names the series for expressions.
    pub(crate) fn id(mut self, id: &'static str) -> Self {
        self.id = Some(id);
        self
    }

    /// Keeps the series out of the chart: it serves expressions only.
    pub(crate) fn hidden(mut self) -> Self {
        self.is_visible = false;
        self
    }

    pub(crate) fn json(&self) -> Value {
        let mut rendering = Map::new();
        if let Some(id) = self.id {
            rendering.insert("id".to_owned(), id.into());
        }
        if !self.label.is_empty() {
            rendering.insert("label".to_owned(), self.label.into());
        }
        if !self.is_visible {
            rendering.insert("visible".to_owned(), false.into());
        }
        let mut entry = Vec::new();
        match &self.source {
            Source::Metric(metric, statistic) => {
                entry.extend([metric.namespace.into(), metric.name.into()]);
                for (name, value) in &metric.dimensions {
                    entry.extend([json!(name), json!(value)]);
                }
                rendering.insert("stat".to_owned(), json!(statistic));
            }
            Source::Expression(expression) => {
                rendering.insert("expression".to_owned(), json!(expression));
            }
        }
        entry.push(Value::Object(rendering));
        Value::Array(entry)
    }
}
