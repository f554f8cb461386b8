//! Digests of artefacts, and the file that lists them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// Name of the file with the digests.
pub(crate) const SUMS: &str = "SHA256SUMS";

/// Settings that `sam deploy` saves next to its template. They are no part of a release.
const SAM_SETTINGS: &str = "samconfig.toml";

/// SHA-256 in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Lists the files of a release in `SHA256SUMS`, sorted by name, in the form that `sha256sum --check` reads.
///
/// # Errors
/// If the folder or a file cannot be read or written.
pub(crate) fn write_sums(folder: &Path) -> Result<()> {
    let context = || format!("cannot write {SUMS} in {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_file() && ![SUMS, SAM_SETTINGS].contains(&&*name) {
            names.push(name);
        }
    }
    names.sort();
    let mut sums = String::new();
    for name in names {
        let bytes = fs::read(folder.join(&name)).with_context(context)?;
        writeln!(sums, "{}  {name}", sha256(&bytes))?;
    }
    fs::write(folder.join(SUMS), sums).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_are_of_the_artefacts_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["b.zip", "a.json", SAM_SETTINGS, SUMS] {
            fs::write(folder.path().join(name), "x").expect(name);
        }
        write_sums(folder.path()).expect("sums");
        let digest = sha256(b"x");
        let sums = fs::read_to_string(folder.path().join(SUMS)).expect("a text");
        assert_eq!(sums, format!("{digest}  a.json\n{digest}  b.zip\n"));
    }
}
