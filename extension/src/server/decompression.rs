//! Decompression of request bodies, by their header `content-encoding`.
//!
//! The same limit bounds a body before and after, so that a small body cannot become a large one.

use std::io::{self, Read};

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, HeaderMap};

use super::buffer::grown;
use crate::request_memory::{Charge, Stopped};

/// Accepted values of `content-encoding`, for errors.
pub(super) const ACCEPTED_CODINGS: &str = "gzip, deflate, identity";

/// Number of bytes that are decompressed between two checks of the deadline.
const STEP: usize = 1024 * 1024;
/// Maximum compression ratio of deflate.
const MAX_RATIO: usize = 1032;

/// Compression format of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
}

/// Value of `content-encoding` that is not accepted.
#[derive(Debug)]
pub(super) struct UnsupportedCoding(pub(super) String);

/// Error of a body that cannot be decompressed.
#[derive(Debug)]
pub(super) enum RequestDecompressError {
    /// The body is not in the format that the header names.
    Invalid {
        coding: &'static str,
        problem: String,
    },
    /// The decompressed body would exceed the limit.
    TooLarge,
    Stopped(Stopped),
}

/// Returns the format that the header names; `None` for a body that is not compressed.
pub(super) fn coding(headers: &HeaderMap) -> Result<Option<Coding>, UnsupportedCoding> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    // No client compresses a body twice, and each result would need a limit.
    match text.trim().to_ascii_lowercase().as_str() {
        _ if values.next().is_some() => {}
        "gzip" | "x-gzip" => return Ok(Some(Coding::Gzip)),
        "deflate" => return Ok(Some(Coding::Deflate)),
        "identity" | "" => return Ok(None),
        _ => {}
    }
    let all = headers.get_all(CONTENT_ENCODING).iter();
    let all: Vec<_> = all
        .map(|it| String::from_utf8_lossy(it.as_bytes()))
        .collect();
    Err(UnsupportedCoding(all.join(", ")))
}

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }

    /// Decompresses a body of at most `limit` bytes. Takes CPU time in proportion to the result; stops with the error
    /// of the charge.
    pub(super) fn decompress(
        self,
        body: &[u8],
        limit: usize,
        charge: &mut Charge,
    ) -> Result<Bytes, RequestDecompressError> {
        let mut rest = body;
        // RFC 9110 means zlib by `deflate`; many clients send raw deflate.
        let is_zlib = matches!(body, [first, second, ..]
            if first & 15 == 8 && (u16::from(*first) << 8 | u16::from(*second)).is_multiple_of(31));
        let decompressed = match self {
            Coding::Gzip => {
                let length = gzip_length(body).filter(|length| *length <= limit);
                read_bounded(&mut MultiGzDecoder::new(&mut rest), length, limit, charge)
            }
            Coding::Deflate if is_zlib => {
                read_bounded(&mut ZlibDecoder::new(&mut rest), None, limit, charge)
            }
            Coding::Deflate => {
                read_bounded(&mut DeflateDecoder::new(&mut rest), None, limit, charge)
            }
        };
        let invalid = |problem: String| RequestDecompressError::Invalid {
            coding: self.name(),
            problem,
        };
        let decompressed = match decompressed {
            Ok(decompressed) => decompressed,
            Err(DecoderReadError::Stopped(stopped)) => {
                return Err(RequestDecompressError::Stopped(stopped));
            }
            Err(DecoderReadError::Damaged(error)) => return Err(invalid(error.to_string())),
        };
        if decompressed.len() > limit {
            return Err(RequestDecompressError::TooLarge);
        }
        if !rest.is_empty() {
            return Err(invalid(format!("{} bytes follow its end", rest.len())));
        }
        Ok(decompressed.into())
    }
}

/// Error of the decompressor's output.
enum DecoderReadError {
    Damaged(io::Error),
    Stopped(Stopped),
}

/// Returns the decompressed length that a gzip body of one member names at its end; `None` for a length that no such
/// body can have. A buffer of that length never grows.
fn gzip_length(body: &[u8]) -> Option<usize> {
    let last = body.last_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*last)).ok()?;
    (length <= body.len().saturating_mul(MAX_RATIO)).then_some(length)
}

/// Returns the decompressed bytes, at most one more than `limit`. `length` is their expected number.
fn read_bounded(
    decoder: &mut dyn Read,
    length: Option<usize>,
    limit: usize,
    charge: &mut Charge,
) -> Result<Vec<u8>, DecoderReadError> {
    let mut whole = Vec::new();
    if let Some(length) = length {
        // One byte more, so that the end is found without a larger buffer.
        charge.grow(length + 1).map_err(DecoderReadError::Stopped)?;
        whole.reserve_exact(length + 1);
    }
    let mut decoder = decoder.take((limit as u64).saturating_add(1));
    loop {
        let length = whole.len();
        if length > limit {
            return Ok(whole);
        }
        if length == whole.capacity() {
            let (before, capacity) = (whole.capacity(), grown(length + 1).min(limit + 1));
            charge.grow(capacity).map_err(DecoderReadError::Stopped)?;
            whole.reserve_exact(capacity - length);
            charge.shrink(before);
        }
        charge.check().map_err(DecoderReadError::Stopped)?;
        let free = (whole.capacity() - length).min(STEP) as u64;
        // `take` keeps `read_to_end` from growing the buffer beyond its charge.
        let read = decoder.by_ref().take(free).read_to_end(&mut whole);
        if read.map_err(DecoderReadError::Damaged)? == 0 {
            return Ok(whole);
        }
    }
}

#[cfg(test)]
mod tests;
