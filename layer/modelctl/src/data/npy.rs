//! Arrays in the format of `numpy.save`.
//!
//! Specification: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use anyhow::{Context as _, bail};

/// Returns the rows of an array: one JSON value for each index of the first dimension.
pub(super) fn rows(bytes: &[u8]) -> anyhow::Result<Vec<String>> {
    let (header, data) = split(bytes).context("it is no .npy file, or a damaged one")?;
    let descr = field(header, "descr").context("its header has no `descr`")?;
    let shape = field(header, "shape").context("its header has no `shape`")?;
    if field(header, "fortran_order") == Some("True") {
        bail!("it is in Fortran order; save numpy.ascontiguousarray(array)");
    }
    let lengths = shape.trim_matches(['(', ')']).split(',').map(str::trim);
    let shape = lengths.filter(|length| !length.is_empty()).map(str::parse);
    let shape = shape.collect::<Result<Vec<usize>, _>>()?;
    let elements = elements(descr.trim_matches(['\'', '"']), data)?;
    let count = shape
        .iter()
        .try_fold(1_usize, |count, length| count.checked_mul(*length));
    if count != Some(elements.len()) {
        bail!(
            "its shape is {shape:?}, and it has {} elements",
            elements.len()
        );
    }
    let Some((rows, inner)) = shape.split_first() else {
        bail!("it is a scalar; an array with a first dimension is needed");
    };
    let size = elements.len() / (*rows).max(1);
    Ok(elements
        .chunks(size.max(1))
        .take(*rows)
        .map(|row| nested(row, inner))
        .collect())
}

/// Splits a file into header and data.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (version, rest) = rest.split_at_checked(2)?;
    let (length, rest) = if version[0] == 1 {
        let (length, rest) = rest.split_first_chunk::<2>()?;
        (usize::from(u16::from_le_bytes(*length)), rest)
    } else {
        let (length, rest) = rest.split_first_chunk::<4>()?;
        (usize::try_from(u32::from_le_bytes(*length)).ok()?, rest)
    };
    let (header, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, data))
}

/// Value of a field of the header, a Python dictionary.
fn field<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{name}':"))?;
    let rest = rest.trim_start();
    let end = if rest.starts_with('(') {
        rest.find(')')? + 1
    } else {
        rest.find([',', '}'])?
    };
    Some(rest[..end].trim())
}

/// Elements as JSON.
fn elements(descr: &str, data: &[u8]) -> anyhow::Result<Vec<String>> {
    macro_rules! numbers {
        ($number:ty) => {
            data.chunks_exact(size_of::<$number>())
                .map(|bytes| {
                    let bytes = bytes.try_into().unwrap_or_default();
                    <$number>::from_le_bytes(bytes).to_string()
                })
                .collect()
        };
    }
    macro_rules! reals {
        ($number:ty) => {
            data.chunks_exact(size_of::<$number>())
                .map(|bytes| {
                    let number = <$number>::from_le_bytes(bytes.try_into().unwrap_or_default());
                    real(number.into())
                })
                .collect()
        };
    }
    Ok(match descr {
        "<f4" => reals!(f32),
        "<f8" => reals!(f64),
        "<f2" => reals!(half::f16),
        "|i1" => numbers!(i8),
        "<i2" => numbers!(i16),
        "<i4" => numbers!(i32),
        "<i8" => numbers!(i64),
        "|u1" => numbers!(u8),
        "<u2" => numbers!(u16),
        "<u4" => numbers!(u32),
        "<u8" => numbers!(u64),
        "|b1" => data.iter().map(|byte| (*byte != 0).to_string()).collect(),
        other => bail!(
            "its elements are {other}; supported are floats, integers and booleans, little endian"
        ),
    })
}

fn real(number: f64) -> String {
    match number {
        number if number.is_nan() => "null".to_owned(),
        f64::INFINITY => "\"Infinity\"".to_owned(),
        f64::NEG_INFINITY => "\"-Infinity\"".to_owned(),
        number => format!("{number:?}"),
    }
}

/// Nests elements by the lengths of dimensions.
fn nested(elements: &[String], lengths: &[usize]) -> String {
    match lengths.split_first() {
        None => elements.first().cloned().unwrap_or_default(),
        Some((length, inner)) => {
            let size = (elements.len() / (*length).max(1)).max(1);
            let parts: Vec<String> = elements
                .chunks(size)
                .map(|part| nested(part, inner))
                .collect();
            format!("[{}]", parts.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let length = u16::try_from(header.len()).expect("short").to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn rows_are_nested_by_the_shape() {
        let floats: Vec<u8> = [1.5_f32, f32::NAN, f32::INFINITY, -0.1]
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect();
        let read = |shape| rows(&file("<f4", shape, &floats)).expect("an array");
        assert_eq!(
            read("(2, 2)"),
            ["[1.5,null]", "[\"Infinity\",-0.10000000149011612]"]
        );
        assert_eq!(read("(1, 2, 2)").len(), 1);
        assert_eq!(read("(4,)")[0], "1.5");
        let whole = rows(&file("<i8", "(1,)", &i64::MAX.to_le_bytes())).expect("an array");
        assert_eq!(whole, [i64::MAX.to_string()]);
    }

    #[test]
    fn damaged_files_are_rejected() {
        for (file, reason) in [
            (b"PK".to_vec(), "no .npy file"),
            (file("<f4", "(3,)", &[0; 8]), "has 2 elements"),
            (file(">f4", "(2,)", &[0; 8]), "elements are >f4"),
            (file("<f4", "()", &[0; 4]), "a scalar"),
        ] {
            let error = rows(&file).expect_err(reason).to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
