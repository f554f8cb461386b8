//! Labels of versions, as `version_labels` of a manifest has them.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::MAX_LABELS;
use crate::ids::VersionName;

/// Labels of versions, such as `stable`; labels are unique.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct VersionLabels(BTreeMap<VersionName, VersionName>);

impl VersionLabels {
    /// Returns the version with this label.
    #[must_use]
    pub fn version(&self, label: &str) -> Option<&VersionName> {
        let mut labels = self.0.iter();
        labels.find_map(|(name, version)| (name.as_str() == label).then_some(version))
    }

    /// Returns all labels with their versions, ordered by label.
    pub fn iter(&self) -> impl Iterator<Item = (&VersionName, &VersionName)> {
        self.0.iter()
    }
}

impl<'de> Deserialize<'de> for VersionLabels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByLabel;
        impl<'de> Visitor<'de> for ByLabel {
            type Value = VersionLabels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the name of a version for each label")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VersionLabels, A::Error> {
                let mut labels = BTreeMap::new();
                while let Some(label) = map.next_key::<VersionName>()? {
                    if labels.contains_key(&label) {
                        let twice = format!("label {:?} is defined twice", label.as_str());
                        return Err(A::Error::custom(twice));
                    }
                    if labels.len() == MAX_LABELS {
                        let more = format!(
                            "there are more than {MAX_LABELS} labels; the maximum is {MAX_LABELS}"
                        );
                        return Err(A::Error::custom(more));
                    }
                    labels.insert(label, map.next_value()?);
                }
                Ok(VersionLabels(labels))
            }
        }
        deserializer.deserialize_map(ByLabel)
    }
}
