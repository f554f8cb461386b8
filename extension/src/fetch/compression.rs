//! How a file is compressed at its source: its name says so.

/// The ending of the names of files that are compressed with zstd.
const ZSTD: &str = ".zst";

/// How a file is compressed at its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: what arrives is the file.
    None,
    /// In zstd frames, as the command `zstd` writes them.
    Zstd,
}

impl Compression {
    /// How a file of this name is compressed.
    #[must_use]
    pub fn of(name: &str) -> Self {
        if name.len() > ZSTD.len() && name.ends_with(ZSTD) {
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
        ] {
            assert_eq!(Compression::of(name), compression, "{name}");
        }
    }
}
