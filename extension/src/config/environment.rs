//! Environment variables and the path of the executable, as a value that is passed in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Path of ONNX Runtime in the layer, relative to the parent of the executable's directory.
const BUNDLED_ONNXRUNTIME: &str = "model-sidecar/lib/libonnxruntime.so.1.28.0";

/// Environment of a process.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    executable: Option<PathBuf>,
    /// First argument of the process: the path by which it was started.
    called: Option<PathBuf>,
}

impl Environment {
    /// Reads the environment of this process. Invalid UTF-8 is read as replacement characters.
    #[must_use]
    pub fn of_this_process() -> Self {
        // `extend` inserts one by one; `collect` sorts first, which adds several kilobytes to the binary.
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

    /// Creates an environment with these variables, and an executable in `/opt/extensions`.
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

    /// Returns the trimmed value of a variable; `None` if it is not set or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// Returns the name of this extension for the platform: the name of its file or link in `/opt/extensions`.
    #[must_use]
    pub fn extension_name(&self) -> String {
        let file = self.called.as_ref().or(self.executable.as_ref());
        let name = file.and_then(|file| file.file_name());
        name.map_or_else(
            || "model-sidecar".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    }

    /// Returns `true` if the process runs on Lambda.
    #[must_use]
    pub fn is_lambda(&self) -> bool {
        self.get("AWS_LAMBDA_RUNTIME_API").is_some()
    }

    /// Returns the names of all variables that start with `MODEL_`.
    pub(super) fn own_names(&self) -> impl Iterator<Item = &str> {
        self.variables
            .keys()
            .map(String::as_str)
            .filter(|name| name.starts_with("MODEL_"))
    }

    /// Returns the path of ONNX Runtime in the layer: `/opt/model-sidecar/lib/…` for `/opt/extensions/model-sidecar`.
    pub(super) fn bundled_onnxruntime(&self) -> PathBuf {
        let root = self
            .executable
            .as_deref()
            .and_then(Path::parent)
            .and_then(Path::parent);
        root.unwrap_or(Path::new("/opt")).join(BUNDLED_ONNXRUNTIME)
    }
}
