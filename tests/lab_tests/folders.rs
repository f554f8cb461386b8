//! Folders of a sandbox, and a program in them.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::lambda::sandbox::{Running, Sandbox};
use lab::log_capture::LogCapture;
use tempfile::TempDir;

/// A layer, a function and a `/tmp`, with one program as the function's `bootstrap`.
pub(crate) struct Folders {
    root: TempDir,
    pub(crate) log: LogCapture,
}

impl Folders {
    /// With a script, whose first line names its interpreter.
    pub(crate) fn with_script(script: &str) -> Self {
        let written = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(written.path(), script).unwrap();
        Self::with(written.path())
    }

    /// With a program.
    pub(crate) fn with(program: &Path) -> Self {
        let folders = Self {
            root: tempfile::tempdir().unwrap(),
            log: LogCapture::new("sandbox", true),
        };
        for folder in ["layer", "function", "tmp"] {
            std::fs::create_dir(folders.root.path().join(folder)).unwrap();
        }
        // In a child process. Another test's thread could start a process while this one has the
        // file open for writing. That process would inherit the open file, and the file could not
        // be executed.
        let mut install = Command::new("install");
        let target = folders.root.path().join("function/bootstrap");
        install.args(["-m", "755"]).arg(program).arg(target);
        assert!(install.status().unwrap().success());
        folders
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.path().join("tmp")
    }

    pub(crate) fn layer(&self) -> PathBuf {
        self.root.path().join("layer")
    }

    pub(crate) fn sandbox<'a>(&self) -> Sandbox<'a> {
        let function = self.root.path().join("function");
        Sandbox::new("/var/task/bootstrap", &self.layer(), &function, &self.tmp())
            .env("PATH", "/usr/bin:/bin")
    }

    pub(crate) fn start(&self) -> Running {
        self.sandbox().spawn(&self.log).unwrap()
    }
}

/// Returns `true` if this machine's user may create control groups, mount, and the like.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}
