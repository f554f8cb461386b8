//! Compressed bodies: what a request says of its own, and whether an answer is worth it.
//!
//! A body is bounded by the same limit before and after, so that a small one cannot become a large one. Both ways take
//! CPU time in proportion to the body, and are done on a thread that may block.

use std::io::{self, Read, Write as _};

use flate2::Compression;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use flate2::write::GzEncoder;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes};
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, VARY,
};

use super::answer::Answer;
use super::body::grown;
use super::error::ApiError;
use super::off_thread::off_thread;
use super::response_body::ResponseBody;
use super::{Context, MAX_BODY};
use crate::clock::Deadline;
use crate::request_memory::{Charge, Stopped};

/// What a request's body may be, for errors.
pub(super) const TAKEN: &str = "gzip, deflate, identity";

/// Below this an answer goes out as it is: on the way to the function there is no line that it would relieve, and behind
/// it Lambda's limit is far.
const MIN_WORTH: u64 = 64 * 1024;

/// How much is decompressed before the deadline is looked at.
const PART: usize = 1024 * 1024;
/// The largest factor by which deflate makes anything smaller.
const MAX_RATIO: usize = 1032;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
}

/// What a request's header says of its body; `None` for one that is as it is.
pub(super) fn coding(headers: &HeaderMap) -> Result<Option<Coding>, ApiError> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    // Two on top of each other nobody sends, and of each the result would have to be bounded.
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
    Err(ApiError::Coding {
        given: all.join(", "),
    })
}

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }

    /// The body that was compressed. `charge` holds `body`, and what comes of it afterwards.
    pub(super) async fn decode(
        self,
        body: Bytes,
        deadline: Deadline,
        charge: &mut Charge,
        context: &Context,
    ) -> Result<Bytes, ApiError> {
        let compressed = body.len();
        let work = move |charge: &mut Charge| self.decode_now(&body, MAX_BODY, charge);
        let decoded = off_thread(charge, deadline, context, work).await?;
        charge.shrink(compressed);
        decoded
    }

    /// The same at once, here.
    pub(super) fn decode_now(
        self,
        body: &[u8],
        most: usize,
        charge: &mut Charge,
    ) -> Result<Bytes, ApiError> {
        let mut rest = body;
        // What `deflate` names is in zlib's wrapping, which many leave out.
        let is_wrapped = matches!(body, [first, second, ..]
            if first & 15 == 8 && (u16::from(*first) << 8 | u16::from(*second)).is_multiple_of(31));
        let decoded = match self {
            Coding::Gzip => {
                let length = gzip_length(body).filter(|length| *length <= most);
                bounded(&mut MultiGzDecoder::new(&mut rest), length, most, charge)
            }
            Coding::Deflate if is_wrapped => {
                bounded(&mut ZlibDecoder::new(&mut rest), None, most, charge)
            }
            Coding::Deflate => bounded(&mut DeflateDecoder::new(&mut rest), None, most, charge),
        };
        let wrong = |problem: String| ApiError::NotCoded {
            coding: self.name(),
            problem,
        };
        let decoded = match decoded {
            Ok(decoded) => decoded,
            Err(Interrupted::Stopped(stopped)) => return Err(stopped.into()),
            Err(Interrupted::Damaged(error)) => return Err(wrong(error.to_string())),
        };
        if decoded.len() > most {
            return Err(ApiError::BodyTooLarge);
        }
        if !rest.is_empty() {
            return Err(wrong(format!("{} bytes stand behind its end", rest.len())));
        }
        Ok(decoded.into())
    }
}

/// Why a body is not decompressed.
enum Interrupted {
    Damaged(io::Error),
    Stopped(Stopped),
}

/// The decompressed length that a gzip body of one member says at its end, as far as that can be. A buffer of just this
/// length needs no room to grow.
fn gzip_length(body: &[u8]) -> Option<usize> {
    let last = body.last_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*last)).ok()?;
    (length <= body.len().saturating_mul(MAX_RATIO)).then_some(length)
}

/// The decompressed bytes, up to one beyond the limit. Where their `length` is known, the buffer begins with it.
fn bounded(
    decoder: &mut dyn Read,
    length: Option<usize>,
    most: usize,
    charge: &mut Charge,
) -> Result<Vec<u8>, Interrupted> {
    let mut whole = Vec::new();
    if let Some(length) = length {
        // One more, so that its end is found without another buffer.
        charge.grow(length + 1).map_err(Interrupted::Stopped)?;
        whole.reserve_exact(length + 1);
    }
    let mut decoder = decoder.take((most as u64).saturating_add(1));
    loop {
        let length = whole.len();
        if length > most {
            return Ok(whole);
        }
        if length == whole.capacity() {
            let (before, capacity) = (whole.capacity(), grown(length + 1).min(most + 1));
            charge.grow(capacity).map_err(Interrupted::Stopped)?;
            whole.reserve_exact(capacity - length);
            charge.shrink(before);
        }
        charge.check().map_err(Interrupted::Stopped)?;
        let room = (whole.capacity() - length).min(PART) as u64;
        // With a limit that fits, the buffer does not grow by itself.
        let read = decoder.by_ref().take(room).read_to_end(&mut whole);
        if read.map_err(Interrupted::Damaged)? == 0 {
            return Ok(whole);
        }
    }
}

/// Whether a caller takes gzip.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|one| {
        let (name, weight) = one.split_once(';').unwrap_or((one, ""));
        let is_gzip = ["gzip", "x-gzip"]
            .iter()
            .any(|it| name.trim().eq_ignore_ascii_case(it));
        // A weight of zero, in up to four digits, means that it is not taken.
        let is_taken = weight.is_empty() || weight.contains(|digit| ('1'..='9').contains(&digit));
        is_gzip && is_taken
    })
}

/// The same answer, compressed where its caller takes that and it is worth it.
pub(super) async fn encode(mut answer: Answer, accepts_gzip: bool) -> Answer {
    let json = HeaderValue::from_static("application/json");
    let is_large = answer.body().size_hint().lower() >= MIN_WORTH;
    let is_done = answer.headers().contains_key(CONTENT_ENCODING);
    if !is_large || is_done || answer.headers().get(CONTENT_TYPE) != Some(&json) {
        return answer;
    }
    let vary = HeaderValue::from_static("accept-encoding");
    answer.headers_mut().insert(VARY, vary);
    if !accepts_gzip {
        return answer;
    }
    let (mut head, mut body) = answer.into_parts();
    let charge = body.take_charge();
    let Ok(whole) = body.collect().await;
    let plain = whole.to_bytes();
    let mut charge = charge.unwrap_or_else(Charge::unlimited);
    // At worst it is as long again. Where there is no memory for that, it goes out as it is.
    if charge.grow(plain.len()).is_err() {
        return Answer::from_parts(head, ResponseBody::from(plain).with_charge(charge));
    }
    let given = plain.clone();
    let encoded = tokio::task::spawn_blocking(move || gzip(&given)).await;
    let body = match encoded {
        Ok(Ok(encoded)) => {
            let gzip = HeaderValue::from_static("gzip");
            head.headers.insert(CONTENT_ENCODING, gzip);
            Bytes::from(encoded)
        }
        // Without the thread there is still the answer.
        Ok(Err(_)) | Err(_) => plain,
    };
    charge.shrink(charge.used().saturating_sub(body.len()));
    charge.settle();
    Answer::from_parts(head, ResponseBody::from(body).with_charge(charge))
}

fn gzip(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish()
}

#[cfg(test)]
mod tests;
