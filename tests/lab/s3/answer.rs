//! The way out: an answer's body is counted for the record, and bent as the plan says.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::Record;
use super::faults::{Ending, Plan};
use crate::listener::{Body, Line};
use crate::records::Records;

/// The most that leaves at once, in bytes: what is counted as sent is at most about this much more than
/// what has left when a client breaks off.
const SLICE: usize = 256 * 1024;

/// Keeps one request's record up to date; dropped when the answer is over, whichever way.
pub(super) struct Tally {
    records: Arc<Records<Record>>,
    place: usize,
    arrived: Instant,
}

impl Tally {
    pub(super) fn new(records: Arc<Records<Record>>, record: Record, arrived: Instant) -> Self {
        let place = records.push(record);
        Self {
            records,
            place,
            arrived,
        }
    }

    pub(super) fn answered(&self, status: StatusCode) {
        let status = Some(status.as_u16());
        self.records
            .amend(self.place, |record| record.status = status);
    }

    fn sent(&self, bytes: usize) {
        self.records
            .amend(self.place, |record| record.sent += bytes as u64);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let took = Some(self.arrived.elapsed());
        self.records.amend(self.place, |record| record.took = took);
    }
}

/// Makes the body that leaves out of the one that the service gave.
pub(super) fn shape(
    response: http::Response<s3s::Body>,
    plan: Plan,
    tally: Tally,
    line: Arc<Line>,
) -> http::Response<Body> {
    let (mut head, body) = response.into_parts();
    head.headers.extend(plan.headers.iter().cloned());
    // The body becomes a stream of unknown length: what it promised is to be declared by now.
    if let Some(length) = hyper::body::Body::size_hint(&body).exact()
        && !head.headers.contains_key(http::header::CONTENT_LENGTH)
        && head.status != StatusCode::NOT_MODIFIED
    {
        head.headers
            .insert(http::header::CONTENT_LENGTH, length.into());
    }
    let flow = Flow {
        body,
        rest: Bytes::new(),
        at: 0,
        plan,
        tally,
        line,
    };
    let frames = stream::unfold(flow, |mut flow| async move {
        let frame = flow.next().await?;
        Some((frame.map(Frame::data), flow))
    });
    http::Response::from_parts(head, StreamBody::new(frames).boxed_unsync())
}

struct Flow {
    body: s3s::Body,
    /// What the service gave and has not left yet.
    rest: Bytes,
    /// The offset in the answer's body at which `rest` begins.
    at: u64,
    plan: Plan,
    tally: Tally,
    line: Arc<Line>,
}

impl Flow {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if let Some((_, gate)) = self.plan.stall.take_if(|(after, _)| *after == self.at) {
            self.line.flushed().await;
            gate.pass().await;
        }
        if let Some((_, ending)) = self.plan.cut.take_if(|(after, _)| *after == self.at) {
            self.line.flushed().await;
            if matches!(ending, Ending::Reset) {
                self.line.end_in_reset();
            }
            return Some(Err(io::Error::other("a fault that the test asked for")));
        }
        while self.rest.is_empty() {
            match self.body.frame().await? {
                Ok(frame) => self.rest = frame.into_data().unwrap_or_default(),
                Err(error) => return Some(Err(io::Error::other(error))),
            }
        }
        let mut slice = self.rest.split_to(self.slice());
        if let Some(link) = &self.plan.link {
            link.pass(slice.len()).await;
        }
        if let Some(index) = self.index_of(self.plan.flip, slice.len()) {
            let mut changed = BytesMut::from(&slice[..]);
            changed[index] ^= 0xff;
            slice = changed.freeze();
        }
        self.at += slice.len() as u64;
        self.tally.sent(slice.len());
        Some(Ok(slice))
    }

    /// How much leaves at once: never past the place of the next fault.
    fn slice(&self) -> usize {
        let stall = self.plan.stall.as_ref().map(|(after, _)| *after);
        let cut = self.plan.cut.map(|(after, _)| after);
        let link = self.plan.link.as_ref().map_or(SLICE, |l| l.slice());
        [stall, cut]
            .into_iter()
            .filter_map(|place| self.index_of(place, self.rest.len()))
            .fold(self.rest.len().min(link), usize::min)
    }

    /// Where `place` of the whole body is within the next `length` bytes of it.
    fn index_of(&self, place: Option<u64>, length: usize) -> Option<usize> {
        let index = usize::try_from(place?.checked_sub(self.at)?).ok()?;
        (index < length).then_some(index)
    }
}
