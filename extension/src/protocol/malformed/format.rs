//! The format of a body that is no JSON object, as far as its first bytes tell.

use std::borrow::Cow;

/// Formats that begin with bytes of their own.
const MAGIC: &[(&[u8], &str)] = &[
    (b"\x93NUMPY", "a NumPy file (.npy) came"),
    (b"PK\x03\x04", "a ZIP archive (.npz, .xlsx) came"),
    (
        b"\x1f\x8b",
        "gzip came: it needs the header content-encoding: gzip",
    ),
    (b"\x28\xb5\x2f\xfd", "zstd came, which is not read here"),
    (b"PAR1", "a Parquet file came"),
    (b"ARROW1", "an Arrow file came"),
    (b"Obj\x01", "an Avro file came"),
    (b"\x89HDF", "an HDF5 file came"),
    (b"\x89PNG", "an image came (PNG)"),
    (b"\xff\xd8\xff", "an image came (JPEG)"),
    (b"GIF8", "an image came (GIF)"),
    (b"%PDF", "a PDF came"),
    (
        b"\xff\xfe\x00\x00",
        "a byte order mark of UTF-32 came; JSON is UTF-8",
    ),
    (
        b"\x00\x00\xfe\xff",
        "a byte order mark of UTF-32 came; JSON is UTF-8",
    ),
    (
        b"\xff\xfe",
        "a byte order mark of UTF-16 came; JSON is UTF-8",
    ),
    (
        b"\xfe\xff",
        "a byte order mark of UTF-16 came; JSON is UTF-8",
    ),
];

/// The format that came in the place of the bare elements of a tensor, of so many bytes each, if it is one that such
/// elements are unlikely to begin with. A model may take files of any format as bytes, but for those of arrays.
pub(in crate::protocol) fn in_place_of_elements(
    body: &[u8],
    size: Option<usize>,
) -> Option<&'static str> {
    /// A few bytes may be the beginning of numbers as well.
    const LEAST: usize = 4;
    const NUMPY: &[u8] = MAGIC[0].0;
    let takes_files = size.is_none_or(|size| size == 1);
    let counts = |magic: &[u8]| magic == NUMPY || (!takes_files && magic.len() >= LEAST);
    let mut magic = MAGIC.iter().filter(|(magic, _)| counts(magic));
    if let Some((_, words)) = magic.find(|(magic, _)| body.starts_with(magic)) {
        return Some(words);
    }
    let is_json = || serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    (!takes_files && body.starts_with(b"{\"") && is_json()).then_some("JSON came")
}

/// The format that came, as far as it can be told.
pub(super) fn of(body: &[u8]) -> Option<Cow<'static, str>> {
    let magic = MAGIC.iter().find(|(magic, _)| body.starts_with(magic));
    if let Some((_, words)) = magic {
        return Some((*words).into());
    }
    let text = body.trim_ascii();
    if text.is_empty() {
        return Some("the body is empty".into());
    }
    // Pickle's protocols from 2 on.
    if let [0x80, 2..=5, ..] = body {
        return Some("a pickle of Python came".into());
    }
    if let [0, b'{' | b'[', ..] | [b'{' | b'[', 0, ..] = body {
        return Some("text in UTF-16 came; JSON is UTF-8".into());
    }
    if text.contains(&0) {
        return Some("bytes came that are no text".into());
    }
    let text = std::str::from_utf8(text).ok()?;
    value(text).or_else(|| lines(text)).map(Cow::Borrowed)
}

/// The format of a text that is a value of another kind, or an object in a wrapping.
fn value(text: &str) -> Option<&'static str> {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let inner = |quote: char| {
        let inner = text.strip_prefix(quote)?;
        Some(inner.trim_start().trim_start_matches('\\'))
    };
    Some(match text.chars().next()? {
        '[' if is_json => "an array came",
        '"' if is_json && inner('"')?.starts_with('{') => {
            "a string came that holds JSON: it was encoded twice"
        }
        '"' if is_json => "a string came",
        _ if is_json && text == "null" => "null came",
        _ if is_json && (text == "true" || text == "false") => "true or false came",
        _ if is_json => "a number came",
        '\'' if inner('\'')?.starts_with(['{', '[']) => {
            "the body begins with a single quote: a shell that knows no single quotes leaves them"
        }
        'b' if text.starts_with("b'") || text.starts_with("b\"") => {
            "the text of Python's bytes came"
        }
        '<' => "XML or HTML came",
        '-' if text.starts_with("--") => "a multipart form came",
        '@' => "the name of a file came, with an @ before it, in the place of what is in it",
        _ => return None,
    })
}

/// The format of a text by its first line: a form, a table, or JSON in an encoding.
fn lines(text: &str) -> Option<&'static str> {
    if text.starts_with("%7B") || text.starts_with("%7b") {
        return Some("JSON came with the escapes of a URL");
    }
    // `{"` in base64.
    if text.starts_with("eyJ") || text.starts_with("ey") && !text.contains([' ', ',', '=']) {
        return Some("JSON came in base64");
    }
    let line = text.lines().next().unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-+%[]".contains(c);
    if let Some((name, _)) = line.split_once('=')
        && !name.is_empty()
        && name.chars().all(is_name)
    {
        return Some("a form came (application/x-www-form-urlencoded)");
    }
    if let Some((name, _)) = line
        .split_once(": ")
        .or(line.strip_suffix(':').map(|it| (it, "")))
        && name.chars().all(is_name)
    {
        return Some("YAML came, or JSON without its braces");
    }
    let separators = [',', ';', '\t'];
    let starts_as_number = line
        .trim_start_matches(['-', '+', '.'])
        .starts_with(|c: char| c.is_ascii_digit());
    (line.contains(separators) || starts_as_number).then_some("CSV came (text/csv)")
}
