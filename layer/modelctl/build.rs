//! Lists the files of the Terraform module, so that `modelctl init` has all of them.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let module = Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default())
        .join("../deploy/terraform")
        .canonicalize()?;
    println!("cargo::rerun-if-changed={}", module.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&module)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "tf"));
    files.sort();
    let entries = files.iter().map(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let path = file.to_string_lossy();
        format!("({name:?}, include_str!({path:?})),")
    });
    let list = format!("&[{}]", entries.collect::<String>());
    let out = env::var_os("OUT_DIR").unwrap_or_default();
    fs::write(Path::new(&out).join("terraform.rs"), list)
}
