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

    /// The name of the file once it is decompressed, given that at the source.
    #[must_use]
    pub fn plain_name(name: &str) -> &str {
        match Self::of(name) {
            Self::None => name,
            Self::Zstd => name.strip_suffix(ZSTD).unwrap_or(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_how_a_file_is_compressed() {
        for (name, compression, plain) in [
            ("model.onnx", Compression::None, "model.onnx"),
            ("model.onnx.zst", Compression::Zstd, "model.onnx"),
            ("model.zst.onnx", Compression::None, "model.zst.onnx"),
            (".zst", Compression::None, ".zst"),
        ] {
            assert_eq!(Compression::of(name), compression, "{name}");
            assert_eq!(Compression::plain_name(name), plain);
        }
    }
}
