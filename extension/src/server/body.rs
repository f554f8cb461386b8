//! A request's body: whole, within its limits, and laid out for the tensors in it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName};

use super::Context;
use super::awake_timeout::Patience;
use super::compression;
use super::error::ApiError;
use super::{BODY_STALL, BODY_TIME, MAX_BODY};
use crate::clock::Deadline;
use crate::protocol::v2::HEADER_LENGTH;
use crate::request_memory::{Charge, expected_bytes};

/// What tensors in binary begin at a multiple of, in memory: as much as any instruction of a CPU asks for.
const ALIGNMENT: usize = 64;

/// The least capacity of a buffer for a body of unknown length.
const MIN_ROOM: usize = 8 * 1024;

/// How much comes at once from a sender who has more ready. A Unix socket holds some 200 KB, so that the rest of a long
/// body waits for room in it.
const BULK: usize = 16 * 1024;
/// For how long the server then looks again before it lets itself be woken. A sender on another CPU is awake by then; to
/// sleep and be woken for each part would take longer than to read it.
const EAGER: Duration = Duration::from_micros(100);

/// [`HEADER_LENGTH`] as a name, which need not be read as one for each request.
pub(super) static HEADER_LENGTH_NAME: HeaderName = HeaderName::from_static(HEADER_LENGTH);

/// How many bytes of the body are JSON, where tensors in binary may follow.
pub(super) fn header_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(value) = headers.get(&HEADER_LENGTH_NAME) else {
        return Ok(None);
    };
    let text = value.to_str().ok();
    let length = text.and_then(|text| text.parse().ok());
    // As numbers, JSON would be answered all the same.
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|value| {
        let essence = value.to_str().ok().and_then(|text| text.split(';').next());
        essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
    });
    let expected = match length {
        Some(0) if is_json => {
            "how many bytes of the body are JSON, since that is its content-type (a body without JSON is application/octet-stream)"
        }
        Some(_) => return Ok(length),
        None => "how many bytes of the body are JSON",
    };
    Err(ApiError::Header {
        name: HEADER_LENGTH,
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
        expected,
    })
}

/// An empty buffer in which what comes behind the first `header` bytes is aligned as elements of tensors must be.
fn laid_out(capacity: usize, header: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(capacity + ALIGNMENT);
    let padding = buffer.as_ptr().addr().wrapping_add(header).wrapping_neg() % ALIGNMENT;
    buffer.resize(padding, 0);
    buffer.advance(padding);
    buffer
}

/// The whole body, as it was before it was compressed; what follows its first `header` bytes is aligned. `charge` holds
/// what it takes, and what decoding is expected to take.
pub(super) async fn body(
    request: Request<Incoming>,
    header: Option<usize>,
    deadline: Deadline,
    charge: &mut Charge,
    context: &Context,
) -> Result<Bytes, ApiError> {
    let coding = compression::coding(request.headers())?;
    let body = request.into_body();
    if let Some(declared) = body.size_hint().exact() {
        let declared = usize::try_from(declared).unwrap_or(usize::MAX);
        if declared > MAX_BODY {
            return Err(ApiError::BodyTooLarge);
        }
        let binary = header.map(|header| declared.saturating_sub(header));
        let expected = expected_bytes(declared, binary, coding.is_some());
        let taken = charge.wait_for(declared, expected);
        let taken = context.thaws.within(&*context.clock, deadline, taken).await;
        taken.unwrap_or_else(|| Err(context.account.refuse(declared).into()))?;
    }
    let whole = received(body, header.unwrap_or(0), charge, context.is_eager).await?;
    match coding {
        Some(coding) => coding.decode(whole, deadline, charge, context).await,
        None => Ok(whole),
    }
}

/// The whole body, as it comes; what follows its first `header` bytes is aligned. `charge` holds its declared length
/// already.
async fn received(
    mut body: Incoming,
    header: usize,
    charge: &mut Charge,
    is_eager: bool,
) -> Result<Bytes, ApiError> {
    let declared = body.size_hint().exact();
    let declared = declared.and_then(|declared| usize::try_from(declared).ok());
    let mut whole = BytesMut::new();
    let (mut stall, mut all) = (Patience::new(BODY_STALL), Patience::new(BODY_TIME));
    // When the last part came, if the next one is at hand.
    let mut bulk: Option<Instant> = None;
    loop {
        let next = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(Some(frame))),
            Poll::Pending if bulk.is_some_and(|came| came.elapsed() < EAGER) => {
                Poll::Ready(Ok(None))
            }
            Poll::Pending if stall.poll_over(cx).is_pending() && all.poll_over(cx).is_pending() => {
                Poll::Pending
            }
            Poll::Pending => Poll::Ready(Err(ApiError::BodyTooSlow)),
        });
        let Some(frame) = next.await? else {
            // The thread's other connections have their turn meanwhile.
            tokio::task::yield_now().await;
            continue;
        };
        stall.renew();
        let Some(frame) = frame else {
            return Ok(whole.freeze());
        };
        let Ok(data) = frame.map_err(|_| ApiError::BodyBroken)?.into_data() else {
            continue;
        };
        if whole.is_empty() && data.len() >= declared.unwrap_or(0) && body.is_end_stream() {
            // All of it came at once: no copy.
            return Ok(data);
        }
        bulk = (is_eager && data.len() >= BULK).then(Instant::now);
        let length = whole.len() + data.len();
        if length > MAX_BODY {
            return Err(ApiError::BodyTooLarge);
        }
        match declared {
            Some(declared) if whole.is_empty() => whole = laid_out(declared, header),
            Some(_) => {}
            None => make_room(&mut whole, data.len(), header, charge)?,
        }
        whole.extend_from_slice(&data);
    }
}

/// Makes room for `more` bytes in a body of unknown length, with a quarter of its length ahead. A chunked body never
/// waits for memory, since it holds some.
fn make_room(
    whole: &mut BytesMut,
    more: usize,
    header: usize,
    charge: &mut Charge,
) -> Result<(), ApiError> {
    let length = whole.len() + more;
    if length <= whole.capacity() {
        return Ok(());
    }
    let capacity = grown(length);
    charge.grow(capacity)?;
    let mut larger = laid_out(capacity, header);
    larger.extend_from_slice(whole);
    let before = std::mem::replace(whole, larger);
    charge.shrink(before.capacity());
    Ok(())
}

/// The capacity of a buffer that has to hold `length` bytes and may have to hold more: a quarter ahead.
pub(super) fn grown(length: usize) -> usize {
    (length + length / 4).max(MIN_ROOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_json_is_aligned_once_the_body_is_whole() {
        for (header, tensor) in [(0, 100_000), (1, 100_001), (63, 1), (64, 0), (117, 602_112)] {
            let mut body = laid_out(header + tensor, header);
            let start = body.as_ptr();
            for byte in 0..header + tensor {
                body.extend_from_slice(&[byte.to_le_bytes()[0]]);
            }
            let body = body.freeze();
            assert_eq!(body.len(), header + tensor);
            assert_eq!(body.as_ptr(), start, "moved for lack of room");
            assert_eq!(body[header..].as_ptr().addr() % ALIGNMENT, 0, "{header}");
            assert!(
                body.iter()
                    .enumerate()
                    .all(|(at, byte)| *byte == at.to_le_bytes()[0])
            );
        }
    }
}
