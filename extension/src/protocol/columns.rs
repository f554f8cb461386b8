//! A JSON object of values by name, none of which may be given twice.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The values by name, as they were written. Of two with one name none can be said to be meant, and JSON leaves it
/// open, so that they are an error.
#[derive(Debug)]
pub(super) struct Columns<'a>(pub(super) BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Columns<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object).map(Columns)
    }
}

/// A name, which serde would copy if it stood alone.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = BTreeMap<Cow<'de, str>, &'de RawValue>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut columns = BTreeMap::new();
        while let Some(Name(name)) = map.next_key()? {
            if columns.contains_key(&name) {
                return Err(A::Error::custom(format_args!("{name:?} is given twice")));
            }
            columns.insert(name, map.next_value()?);
        }
        Ok(columns)
    }
}
