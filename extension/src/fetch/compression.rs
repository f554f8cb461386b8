//! How a file is compressed at its source: its name says so.

use crate::ids::FilePath;

/// How a file is compressed at its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: what arrives is the file.
    None,
    /// In zstd frames, as the command `zstd` writes them.
    Zstd,
}

impl Compression {
    /// How the file at this path is compressed.
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
    fn a_name_tells_how_a_file_is_compressed() {
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
