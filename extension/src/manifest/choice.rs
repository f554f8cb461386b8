//! Choice of a version: the newest one, one by name, or the one that has a label.

use std::fmt;

/// Version of a model that an environment should run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The version that the publisher made current.
    #[default]
    Newest,
    /// A fixed version, independent of later releases: its name in a manifest, the number of its folder in a
    /// repository, or its S3 version ID.
    Version(String),
    /// The version to which a manifest gives this label.
    Label(String),
}

impl Choice {
    /// Variable that fixes a version.
    pub const VERSION_VARIABLE: &str = "MODEL_VERSION";
    /// Variable that names a label.
    pub const LABEL_VARIABLE: &str = "MODEL_LABEL";
}

impl fmt::Display for Choice {
    /// Writes the choice as it was configured, for example `MODEL_VERSION="7"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Newest => f.write_str("the newest version"),
            Choice::Version(version) => write!(f, "{}={version:?}", Self::VERSION_VARIABLE),
            Choice::Label(label) => write!(f, "{}={label:?}", Self::LABEL_VARIABLE),
        }
    }
}
