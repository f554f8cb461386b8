//! Detection of common mistakes before JSON is parsed, such as a compressed file or a page of HTML. A JSON parser
//! would only report "expected value at line 1 column 1".

use super::MAX_BYTES;
use super::error::ManifestError;

/// Beginnings of files that are not JSON text, with descriptions.
const BEGINNINGS: &[(&[u8], &str)] = &[
    (
        b"\xEF\xBB\xBF",
        "it begins with a byte order mark; save it as UTF-8 without one",
    ),
    (b"\xFF\xFE", "it is UTF-16 or UTF-32; save it as UTF-8"),
    (b"\xFE\xFF", "it is UTF-16; save it as UTF-8"),
    (b"{\0", "it is UTF-16 or UTF-32; save it as UTF-8"),
    (
        b"\0",
        "it is UTF-16 or UTF-32, or a binary file; save it as UTF-8",
    ),
    (
        b"\x1F\x8B",
        "it is compressed with gzip; store it uncompressed",
    ),
    (
        b"\x28\xB5\x2F\xFD",
        "it is compressed with Zstandard; store it uncompressed",
    ),
    (b"PK\x03\x04", "it is a zip archive"),
];

/// Returns the manifest as text. The error describes what the file is instead.
pub(super) fn text(bytes: &[u8]) -> Result<&str, ManifestError> {
    let not_json = |problem: &str| Err(ManifestError::NotJson(problem.to_owned()));
    if bytes.len() > MAX_BYTES {
        return Err(ManifestError::TooLong(bytes.len()));
    }
    for (beginning, problem) in BEGINNINGS {
        if bytes.starts_with(beginning) {
            return not_json(problem);
        }
    }
    match bytes.trim_ascii_start().first() {
        None => return not_json("it is empty"),
        Some(b'<') => {
            return not_json("it begins with `<`, like HTML or XML; it must begin with `{`");
        }
        Some(_) => {}
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let place = error.valid_up_to();
        let problem = match bytes.get(place) {
            Some(byte) => format!("byte {place} is 0x{byte:02X}, which is not UTF-8"),
            None => "it is not UTF-8".to_owned(),
        };
        ManifestError::NotJson(problem)
    })
}
