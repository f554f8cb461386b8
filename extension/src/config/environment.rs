//! The process's environment, as a map that is handed in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The library's place in the layer, beside the directory that holds the executable.
const BUNDLED_ONNXRUNTIME: &str = "model-sidecar/lib/libonnxruntime.so.1.28.0";

/// Environment variables, and where the executable stands.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    executable: Option<PathBuf>,
    /// As it was called.
    called: Option<PathBuf>,
}

impl Environment {
    /// That of this process. A variable that is not UTF-8 is read with replacement characters.
    #[must_use]
    pub fn of_this_process() -> Self {
        // One after the other: to sort them first, as `collect` does, is several kilobytes of the binary.
        let mut variables = BTreeMap::new();
        variables.extend(std::env::vars_os().map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        }));
        Self {
            variables,
            executable: std::env::current_exe().ok(),
            called: std::env::args_os().next().map(PathBuf::from),
        }
    }

    /// One made of these variables, with an executable in `/opt/extensions`.
    #[must_use]
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self {
            variables,
            executable: Some("/opt/extensions/model-sidecar".into()),
            called: None,
        }
    }

    /// A variable's value, without white space around it; an empty one counts as not set, as in Lambda's console.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// The name by which the platform knows this extension: that of its file among `/opt/extensions`, also where that is a
    /// link.
    #[must_use]
    pub fn extension_name(&self) -> String {
        let file = self.called.as_ref().or(self.executable.as_ref());
        let name = file.and_then(|file| file.file_name());
        name.map_or_else(
            || "model-sidecar".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    }

    /// Whether the Lambda platform started this process.
    #[must_use]
    pub fn is_lambda(&self) -> bool {
        self.get("AWS_LAMBDA_RUNTIME_API").is_some()
    }

    /// The names of all variables that start with `MODEL_`.
    pub(super) fn own_names(&self) -> impl Iterator<Item = &str> {
        self.variables
            .keys()
            .map(String::as_str)
            .filter(|name| name.starts_with("MODEL_"))
    }

    /// Where the layer keeps ONNX Runtime: `/opt/model-sidecar/lib` for `/opt/extensions/model-sidecar`.
    pub(super) fn bundled_onnxruntime(&self) -> PathBuf {
        let root = self
            .executable
            .as_deref()
            .and_then(Path::parent)
            .and_then(Path::parent);
        root.unwrap_or(Path::new("/opt")).join(BUNDLED_ONNXRUNTIME)
    }
}
