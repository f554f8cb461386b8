//! Recognition of the format of a body that is not a JSON object.

use std::borrow::Cow;

/// Formats with a signature at the beginning.
const SIGNATURES: &[(&[u8], &str)] = &[
    (b"\x93NUMPY", "a NumPy file (.npy)"),
    (b"PK\x03\x04", "a ZIP archive (.npz, .xlsx)"),
    (
        b"\x1f\x8b",
        "gzip data, which needs the header content-encoding: gzip",
    ),
    (b"\x28\xb5\x2f\xfd", "zstd data, which is not supported"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"Obj\x01", "an Avro file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x89PNG", "an image (PNG)"),
    (b"\xff\xd8\xff", "an image (JPEG)"),
    (b"GIF8", "an image (GIF)"),
    (b"%PDF", "a PDF"),
    (
        b"\xff\xfe\x00\x00",
        "a byte order mark of UTF-32; JSON is UTF-8",
    ),
    (
        b"\x00\x00\xfe\xff",
        "a byte order mark of UTF-32; JSON is UTF-8",
    ),
    (b"\xff\xfe", "a byte order mark of UTF-16; JSON is UTF-8"),
    (b"\xfe\xff", "a byte order mark of UTF-16; JSON is UTF-8"),
];

/// Returns the format of a body that should be the elements of a tensor, each of `size` bytes. `None` if such elements
/// could begin this way. A model may take files of any format as bytes, except files of arrays.
pub(in crate::protocol) fn in_place_of_elements(
    body: &[u8],
    size: Option<usize>,
) -> Option<&'static str> {
    /// Minimum length of a signature: fewer bytes may be the beginning of numbers.
    const MIN_SIGNATURE: usize = 4;
    const NUMPY: &[u8] = SIGNATURES[0].0;
    let takes_files = size.is_none_or(|size| size == 1);
    let counts =
        |signature: &[u8]| signature == NUMPY || (!takes_files && signature.len() >= MIN_SIGNATURE);
    let mut signature = SIGNATURES.iter().filter(|(signature, _)| counts(signature));
    if let Some((_, name)) = signature.find(|(signature, _)| body.starts_with(signature)) {
        return Some(name);
    }
    let is_json = || serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    (!takes_files && body.starts_with(b"{\"") && is_json()).then_some("JSON")
}

/// Returns the recognized format of a body.
pub(super) fn of(body: &[u8]) -> Option<Cow<'static, str>> {
    let signature = SIGNATURES
        .iter()
        .find(|(signature, _)| body.starts_with(signature));
    if let Some((_, name)) = signature {
        return Some((*name).into());
    }
    let text = body.trim_ascii();
    if text.is_empty() {
        return Some("nothing: the body is empty".into());
    }
    // Pickle protocols 2 to 5.
    if let [0x80, 2..=5, ..] = body {
        return Some("a Python pickle".into());
    }
    if let [0, b'{' | b'[', ..] | [b'{' | b'[', 0, ..] = body {
        return Some("text in UTF-16; JSON is UTF-8".into());
    }
    if text.contains(&0) {
        return Some("binary data".into());
    }
    let text = std::str::from_utf8(text).ok()?;
    value(text).or_else(|| lines(text)).map(Cow::Borrowed)
}

/// Returns the format of a JSON value of another type, or of an object in a wrapping.
fn value(text: &str) -> Option<&'static str> {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let inner = |quote: char| {
        let inner = text.strip_prefix(quote)?;
        Some(inner.trim_start().trim_start_matches('\\'))
    };
    Some(match text.chars().next()? {
        '[' if is_json => "an array",
        '"' if is_json && inner('"')?.starts_with('{') => {
            "a string that holds JSON: the body was encoded twice"
        }
        '"' if is_json => "a string",
        _ if is_json && text == "null" => "null",
        _ if is_json && (text == "true" || text == "false") => "a boolean",
        _ if is_json => "a number",
        '\'' if inner('\'')?.starts_with(['{', '[']) => {
            "a single quote before the JSON: this shell does not remove single quotes"
        }
        'b' if text.starts_with("b'") || text.starts_with("b\"") => {
            "the text form of Python's bytes"
        }
        '<' => "XML or HTML",
        '-' if text.starts_with("--") => "a multipart form",
        '@' => "the name of a file after an @, in place of the file's content",
        _ => return None,
    })
}

/// Returns the format of a text by its first line: a form, a table, or encoded JSON.
fn lines(text: &str) -> Option<&'static str> {
    if text.starts_with("%7B") || text.starts_with("%7b") {
        return Some("JSON with URL escapes");
    }
    // `{"` in base64.
    if text.starts_with("eyJ") || text.starts_with("ey") && !text.contains([' ', ',', '=']) {
        return Some("JSON in base64");
    }
    let line = text.lines().next().unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-+%[]".contains(c);
    if let Some((name, _)) = line.split_once('=')
        && !name.is_empty()
        && name.chars().all(is_name)
    {
        return Some("a form (application/x-www-form-urlencoded)");
    }
    if let Some((name, _)) = line
        .split_once(": ")
        .or(line.strip_suffix(':').map(|it| (it, "")))
        && name.chars().all(is_name)
    {
        return Some("YAML, or JSON without its braces");
    }
    let separators = [',', ';', '\t'];
    let starts_as_number = line
        .trim_start_matches(['-', '+', '.'])
        .starts_with(|c: char| c.is_ascii_digit());
    (line.contains(separators) || starts_as_number).then_some("CSV (text/csv)")
}
