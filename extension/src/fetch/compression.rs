//! Compression of a file at its source, by its name.

use crate::ids::FilePath;

/// Compression of a file at its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// No compression.
    None,
    /// Zstandard frames, as the command `zstd` writes them.
    Zstd,
}

impl Compression {
    /// Returns the compression of the file at this path.
    #[must_use]
    pub fn of(path: &FilePath) -> Self {
        if path.is_compressed() {
            Self::Zstd
        } else {
            Self::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_determines_the_compression() {
        for (name, compression) in [
            ("model.onnx", Compression::None),
            ("model.onnx.zst", Compression::Zstd),
            ("model.zst.onnx", Compression::None),
            (".zst", Compression::None),
            ("folder/.zst", Compression::None),
        ] {
            let path = FilePath::parse(name).unwrap();
            assert_eq!(Compression::of(&path), compression, "{name}");
        }
    }
}
