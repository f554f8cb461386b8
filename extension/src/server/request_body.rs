//! Request bodies: received whole, within limits, decompressed, and aligned for the tensors in them.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hyper::Request;
use hyper::body::Body as _;

use super::buffer::{aligned, grown};
use super::context::ServerContext;
use super::decompression::{self, Coding};
use super::error::ApiError;
use super::inbound_body::InboundBody;
use super::limits::{BODY_STALL_TIMEOUT, BODY_TIMEOUT, MAX_BODY};
use super::off_thread::off_thread;
use crate::clock::{AwakeTimeout, Deadline};
use crate::request_memory::{Charge, expected_bytes};

/// Minimum size of a part from which the next part is polled for without sleep. A Unix socket holds about 200 KB, so
/// that the rest of a long body waits for space in the socket.
const MIN_EAGER_PART: usize = 16 * 1024;
/// Maximum time of that polling. A sender on another CPU is awake by then; a sleep and a wake-up for each part would
/// take longer than the read.
const EAGER_TIME: Duration = Duration::from_micros(100);

/// Returns the whole body, decompressed, with the bytes after its first `header` bytes aligned. `charge` holds the
/// body's memory, and the expected memory of its decoding.
pub(super) async fn read(
    request: Request<InboundBody>,
    header: Option<usize>,
    deadline: Deadline,
    charge: &mut Charge,
    context: &ServerContext,
) -> Result<Bytes, ApiError> {
    let coding = decompression::coding(request.headers())?;
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
        taken.unwrap_or_else(|| Err(context.account.reject(declared).into()))?;
    }
    let body = receive(
        body,
        header.unwrap_or(0),
        charge,
        context.polls_bodies_eagerly,
    )
    .await?;
    match coding {
        Some(coding) => decompress(body, coding, deadline, charge, context).await,
        None => Ok(body),
    }
}

/// Receives the whole body, with the bytes after its first `header` bytes aligned. `charge` already holds the declared
/// length.
async fn receive(
    mut body: InboundBody,
    header: usize,
    charge: &mut Charge,
    is_eager: bool,
) -> Result<Bytes, ApiError> {
    let declared = body.size_hint().exact();
    let declared = declared.and_then(|declared| usize::try_from(declared).ok());
    let mut whole = BytesMut::new();
    let mut stall = AwakeTimeout::new(BODY_STALL_TIMEOUT);
    let mut total = AwakeTimeout::new(BODY_TIMEOUT);
    // Arrival of the last part, if the next one is polled for without sleep.
    let mut eager_since: Option<Instant> = None;
    loop {
        let next = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(Some(frame))),
            Poll::Pending if eager_since.is_some_and(|since| since.elapsed() < EAGER_TIME) => {
                Poll::Ready(Ok(None))
            }
            Poll::Pending
                if stall.poll_over(cx).is_pending() && total.poll_over(cx).is_pending() =>
            {
                Poll::Pending
            }
            Poll::Pending => Poll::Ready(Err(ApiError::BodyTooSlow)),
        });
        let Some(frame) = next.await? else {
            // Let the thread serve its other connections.
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
            // The body is one part: no copy.
            return Ok(data);
        }
        eager_since = (is_eager && data.len() >= MIN_EAGER_PART).then(Instant::now);
        let length = whole.len() + data.len();
        if length > MAX_BODY {
            return Err(ApiError::BodyTooLarge);
        }
        match declared {
            Some(declared) if whole.is_empty() => whole = aligned(declared, header),
            Some(_) => {}
            None => reserve(&mut whole, data.len(), header, charge)?,
        }
        whole.extend_from_slice(&data);
    }
}

/// Reserves capacity for `more` bytes in a body of unknown length. Never waits for memory: a chunked body holds some
/// already, and waiting could block all of them.
fn reserve(
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
    let mut larger = aligned(capacity, header);
    larger.extend_from_slice(whole);
    let before = std::mem::replace(whole, larger);
    charge.shrink(before.capacity());
    Ok(())
}

/// Decompresses a body on a blocking thread. `charge` holds `body` before, and the result afterwards.
async fn decompress(
    body: Bytes,
    coding: Coding,
    deadline: Deadline,
    charge: &mut Charge,
    context: &ServerContext,
) -> Result<Bytes, ApiError> {
    let compressed = body.len();
    let work = move |charge: &mut Charge| coding.decompress(&body, MAX_BODY, charge);
    let decompressed = off_thread(charge, deadline, context, work).await?;
    charge.shrink(compressed);
    Ok(decompressed?)
}
