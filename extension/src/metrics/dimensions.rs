//! Dimensions of a datum: few by default, since CloudWatch charges for each combination of values.
//!
//! `MODEL_METRICS_DIMENSIONS` adds constants of the deployment, and the version. Constants add no combination. The
//! number of versions grows over time, and a process reports at most [`MAX_VERSIONS`] of them under their names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::datum::Datum;
use super::defs::{FUNCTION_LABEL, MODEL_LABEL, Scope, VERSION_LABEL};
use crate::config::MetricsDimensions;

/// Maximum number of versions of a model that are values of the dimension `ModelVersion` in one process, apart from
/// the metric `ActiveVersion`.
const MAX_VERSIONS: usize = 10;
/// Value of the dimension `ModelVersion` for further versions.
const OTHER: &str = "other";

/// Dimensions of all metrics of a process. Clones share the list of versions.
#[derive(Clone, Debug, Default)]
pub struct Dimensions {
    function: Option<String>,
    added: MetricsDimensions,
    versions: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
}

impl Dimensions {
    /// Creates the dimensions of `function`, and of the configuration.
    #[must_use]
    pub fn new(function: Option<String>, added: MetricsDimensions) -> Self {
        Self {
            function,
            added,
            versions: Arc::default(),
        }
    }

    /// Returns the name and value of each dimension of a datum, in a fixed order.
    pub(super) fn of<'a>(&'a self, datum: &'a Datum) -> Vec<(&'a str, &'a str)> {
        let mut dimensions = Vec::with_capacity(3 + self.added.constants.len());
        dimensions.extend(self.function.as_deref().map(|name| (FUNCTION_LABEL, name)));
        dimensions.extend(datum.model.as_deref().map(|model| (MODEL_LABEL, model)));
        let version = match (datum.metric.scope, datum.version.as_deref()) {
            (Scope::Version, version) => version,
            (Scope::Model, Some(version)) if self.added.has_version => {
                Some(self.limited(datum.model.as_deref().unwrap_or_default(), version))
            }
            _ => None,
        };
        dimensions.extend(version.map(|version| (VERSION_LABEL, version)));
        let constants = self.added.constants.iter();
        dimensions.extend(constants.map(|(name, value)| (name.as_str(), value.as_str())));
        dimensions
    }

    /// Returns the version, or [`OTHER`] if the process has reported too many versions of the model.
    fn limited<'a>(&self, model: &str, version: &'a str) -> &'a str {
        let mut all = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(model.to_owned()).or_default();
        if known.iter().any(|one| one == version) {
            return version;
        }
        if known.len() == MAX_VERSIONS {
            return OTHER;
        }
        known.push(version.to_owned());
        version
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::metrics::defs;

    fn datum(name: &str, version: &str) -> Datum {
        Datum {
            metric: defs::find(name).unwrap(),
            model: Some("wine".to_owned()),
            version: Some(version.to_owned()),
            minute: Timestamp(0),
            values: vec![(1.0, 1.0)],
        }
    }

    fn version(dimensions: &Dimensions, datum: &Datum) -> Option<String> {
        let all = dimensions.of(datum);
        let version = all.iter().find(|(name, _)| *name == VERSION_LABEL);
        version.map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn the_active_version_alone_has_the_version_by_default() {
        let dimensions = Dimensions::new(Some("f".to_owned()), MetricsDimensions::default());
        assert_eq!(
            dimensions.of(&datum(defs::INFERENCES, "7")),
            [(FUNCTION_LABEL, "f"), (MODEL_LABEL, "wine")]
        );
        let active = datum(defs::ACTIVE_VERSION, "7");
        assert_eq!(version(&dimensions, &active).as_deref(), Some("7"));
    }

    #[test]
    fn versions_are_limited_where_every_metric_has_them() {
        let added = MetricsDimensions {
            constants: vec![("Stage".to_owned(), "prod".to_owned())],
            has_version: true,
        };
        let dimensions = Dimensions::new(None, added);
        for number in 0..2 * MAX_VERSIONS {
            let name = number.to_string();
            let expected = if number < MAX_VERSIONS { &name } else { OTHER };
            let datum = datum(defs::INFERENCES, &name);
            assert_eq!(version(&dimensions, &datum).as_deref(), Some(expected));
            assert!(dimensions.of(&datum).contains(&("Stage", "prod")));
        }
        let first = datum(defs::INFERENCES, "0");
        assert_eq!(version(&dimensions, &first).as_deref(), Some("0"));
    }
}
