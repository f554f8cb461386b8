//! Location of ONNX Runtime.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use model_sidecar::engine::OnnxRuntime;
use model_sidecar::sys;

const NAME: &str = "libonnxruntime.so.1.28.0";

/// Arguments of every command that runs a model.
#[derive(clap::Args)]
pub(crate) struct Library {
    /// ONNX Runtime's library [default: `ORT_DYLIB_PATH`, or the library that `make onnxruntime`
    /// fetched]
    #[arg(long = "onnxruntime", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Library {
    /// Path of the library: as given, or from the sidecar's own variable, or where `make
    /// onnxruntime` puts it. The last is relative to this program in `target/` or to the current
    /// folder.
    pub(crate) fn find(&self) -> anyhow::Result<PathBuf> {
        let set = env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty());
        if let Some(given) = self.file.clone().or_else(|| set.map(PathBuf::from)) {
            return Ok(given);
        }
        let fetched = Path::new("onnxruntime").join(env::consts::ARCH).join(NAME);
        let executable = env::current_exe().unwrap_or_default();
        let above = executable.ancestors().skip(1);
        let found = above
            .map(|folder| folder.join(&fetched))
            .chain([Path::new("target").join(&fetched)])
            .find(|library| library.is_file());
        match found {
            Some(library) => Ok(library),
            None => bail!(
                "ONNX Runtime is not found: run `make onnxruntime`, or name its library with --onnxruntime or \
                 ORT_DYLIB_PATH"
            ),
        }
    }
}

/// Opens the library, with as many threads as there are CPUs.
pub(crate) fn open(library: &Path) -> anyhow::Result<OnnxRuntime> {
    OnnxRuntime::open(library, sys::cpus(), None).context("--onnxruntime")
}

/// `onnxruntime 1.28.0`, from the file name: the library does not expose its version otherwise.
pub(crate) fn version(library: &Path) -> String {
    let real = library.canonicalize().unwrap_or_default();
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    match name.split_once(".so.") {
        Some((_, version)) => format!("onnxruntime {version}"),
        None => "onnxruntime".to_owned(),
    }
}
