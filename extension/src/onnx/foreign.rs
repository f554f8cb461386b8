//! Files of other formats that are published under the name of a model, told by how they begin. To be asked of a file that
//! could not be loaded: some of these beginnings are possible ones of an unusual model.

/// Beginnings of other formats, and what to do.
const BEGINNINGS: &[(&[u8], &str)] = &[
    (
        b"\x1F\x8B",
        "it is compressed with gzip (it begins with 1f 8b), which is not undone: store the model as it is, or compressed \
         with Zstandard under a name that ends in .zst",
    ),
    (
        b"\x28\xB5\x2F\xFD",
        "it is compressed with Zstandard, and its name does not end in .zst: only then it is decompressed",
    ),
    (
        b"PK\x03\x04",
        "it is a zip archive (as PyTorch writes them, too): store the ONNX model itself",
    ),
    (
        b"BZh",
        "it is compressed with bzip2, which is not undone: store the model as it is",
    ),
    (
        b"\xFD7zXZ\0",
        "it is compressed with xz, which is not undone: store the model as it is",
    ),
    (
        b"version https://git-lfs",
        "it is a pointer of Git LFS: store the file that it points to",
    ),
    (
        b"\x89HDF\r\n",
        "it is HDF5, as Keras writes it: export the model to ONNX",
    ),
];

/// Says what a file is that begins so, if it is known to be something other than a model.
#[must_use]
pub fn foreign(beginning: &[u8]) -> Option<&'static str> {
    let mut known = BEGINNINGS.iter();
    let (_, what) = known.find(|(bytes, _)| beginning.starts_with(bytes))?;
    Some(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_model_begins_with_is_named() {
        for (beginning, word) in [
            (&b"\x1F\x8B\x08\x00"[..], "gzip"),
            (b"\x28\xB5\x2F\xFD\x20", "Zstandard"),
            (b"PK\x03\x04\x14", "zip archive"),
            (b"BZh91AY", "bzip2"),
            (b"\xFD7zXZ\0\0", "xz"),
            (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
            (b"\x89HDF\r\n\x1a\n", "HDF5"),
        ] {
            assert!(foreign(beginning).unwrap().contains(word), "{word}");
        }
        for model in [&b"\x08\x08\x12\x00"[..], b"\x1c\0\0\0ORTM", b"", b"\x1F"] {
            assert_eq!(foreign(model), None);
        }
    }
}
