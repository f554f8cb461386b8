//! Metadata of a version: the publisher's notes, such as a commit or a training run. The sidecar does not use them.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::{MAX_META, json};

/// Maximum length of a key in characters.
const MAX_KEY: usize = 128;

/// Maximum length of a value in characters.
const MAX_VALUE: usize = 1_024;

/// Metadata by key; keys are unique.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionMeta(BTreeMap<String, String>);

impl VersionMeta {
    /// Returns all entries, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::parsed(deserializer, |key| {
            let fits = (1..=MAX_KEY).contains(&key.chars().count());
            fits.then(|| Self(key.to_owned()))
                .ok_or_else(|| format!("1 to {MAX_KEY} characters"))
        })
    }
}

struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::parsed(deserializer, |text| {
            let fits = text.chars().count() <= MAX_VALUE;
            fits.then(|| Self(text.to_owned()))
                .ok_or_else(|| format!("at most {MAX_VALUE} characters"))
        })
    }
}

impl<'de> Deserialize<'de> for VersionMeta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByKey;
        impl<'de> Visitor<'de> for ByKey {
            type Value = VersionMeta;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a text for each key")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VersionMeta, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(Key(key)) = map.next_key()? {
                    if entries.contains_key(&key) {
                        return Err(A::Error::custom(format!("key {key:?} is defined twice")));
                    }
                    if entries.len() == MAX_META {
                        return Err(A::Error::custom(format!(
                            "there are more than {MAX_META} keys; the maximum is {MAX_META}"
                        )));
                    }
                    let Text(text) = map.next_value()?;
                    entries.insert(key, text);
                }
                Ok(VersionMeta(entries))
            }
        }
        deserializer.deserialize_map(ByKey)
    }
}
