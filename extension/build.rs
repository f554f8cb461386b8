//! Compresses the `OpenAPI` document, which the server carries and every cold start reads.

use std::io::{self, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

fn main() -> io::Result<()> {
    let document = "../docs/openapi.json";
    println!("cargo::rerun-if-changed={document}");
    let folder = std::env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&std::fs::read(document)?)?;
    std::fs::write(
        Path::new(&folder).join("openapi.json.gz"),
        encoder.finish()?,
    )
}
