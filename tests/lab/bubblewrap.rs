//! Path of the sandbox program, Debian's `bubblewrap`.

use std::path::PathBuf;

/// `bwrap`, as found on the `PATH`.
pub(crate) fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("bwrap"))
        .find(|program| program.is_file())
}
