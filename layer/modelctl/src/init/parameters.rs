//! Parameters of a template, in the order of the answers.

use std::str::FromStr;

use anyhow::bail;

/// Parameter of `--set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) value: String,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("expected NAME=VALUE".to_owned()),
        }
    }
}

/// Names and values. A name occurs once.
#[derive(Default)]
pub(super) struct Parameters(pub(super) Vec<Setting>);

impl Parameters {
    /// Adds a value, if there is one.
    pub(super) fn add(&mut self, name: &str, value: Option<impl ToString>) {
        self.0.extend(value.map(|value| Setting {
            name: name.to_owned(),
            value: value.to_string(),
        }));
    }

    /// Adds those of `--set`. `known` are the names that the template declares.
    pub(super) fn add_further(
        &mut self,
        further: &[Setting],
        known: &[&str],
    ) -> anyhow::Result<()> {
        for setting in further {
            let name = &setting.name;
            if !known.contains(&name.as_str()) {
                bail!(
                    "cannot set {name:?}: the template has no such parameter; it has {}",
                    known.join(", ")
                );
            }
            if self.0.iter().any(|one| one.name == *name) {
                bail!(
                    "cannot set {name:?}: it has a value from another option; remove one of the two"
                );
            }
            self.0.push(setting.clone());
        }
        Ok(())
    }
}
