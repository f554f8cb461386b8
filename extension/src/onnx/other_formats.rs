//! Recognition of files of other formats that are published under the name of a model.
//!
//! Used only for a file that could not be loaded, since an unusual model may begin with some of these bytes.

/// First bytes of other formats, with the error message.
const BEGINNINGS: &[(&[u8], &str)] = &[
    (
        b"\x1F\x8B",
        "it is compressed with gzip (it begins with 1f 8b), which is not supported: store the model uncompressed, or \
         compressed with Zstandard as .zst",
    ),
    (
        b"\x28\xB5\x2F\xFD",
        "it is compressed with Zstandard, and its name does not end in .zst: only names that end in .zst are decompressed",
    ),
    (
        b"PK\x03\x04",
        "it is a zip archive, such as a PyTorch file: store the ONNX model itself",
    ),
    (
        b"BZh",
        "it is compressed with bzip2, which is not supported: store the model uncompressed",
    ),
    (
        b"\xFD7zXZ\0",
        "it is compressed with xz, which is not supported: store the model uncompressed",
    ),
    (
        b"version https://git-lfs",
        "it is a Git LFS pointer: store the file that it refers to",
    ),
    (
        b"\x89HDF\r\n",
        "it is HDF5, such as a Keras model: export the model to ONNX",
    ),
];

/// Returns an error message if a file with this beginning is known to be of another format.
#[must_use]
pub fn other_format(beginning: &[u8]) -> Option<&'static str> {
    let mut known = BEGINNINGS.iter();
    let (_, message) = known.find(|(bytes, _)| beginning.starts_with(bytes))?;
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_are_named() {
        for (beginning, word) in [
            (&b"\x1F\x8B\x08\x00"[..], "gzip"),
            (b"\x28\xB5\x2F\xFD\x20", "Zstandard"),
            (b"PK\x03\x04\x14", "zip archive"),
            (b"BZh91AY", "bzip2"),
            (b"\xFD7zXZ\0\0", "xz"),
            (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
            (b"\x89HDF\r\n\x1a\n", "HDF5"),
        ] {
            assert!(other_format(beginning).unwrap().contains(word), "{word}");
        }
        for model in [&b"\x08\x08\x12\x00"[..], b"\x1c\0\0\0ORTM", b"", b"\x1F"] {
            assert_eq!(other_format(model), None);
        }
    }
}
