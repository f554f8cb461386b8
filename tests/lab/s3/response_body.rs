//! Response bodies: counts the sent bytes for the record, and applies the faults of the plan.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::RequestRecord;
use super::faults::{Ending, Plan};
use crate::listener::{Body, ConnectionControl};
use crate::records::Records;

/// Maximum number of bytes per write. When a client disconnects, the recorded number exceeds the
/// sent one by about this much at most.
const SLICE: usize = 256 * 1024;

/// Updates one request's record; dropped at the end of the response, however it ends.
pub(super) struct RecordUpdater {
    records: Arc<Records<RequestRecord>>,
    place: usize,
    arrived: Instant,
}

impl RecordUpdater {
    pub(super) fn new(
        records: Arc<Records<RequestRecord>>,
        record: RequestRecord,
        arrived: Instant,
    ) -> Self {
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

impl Drop for RecordUpdater {
    fn drop(&mut self) {
        let took = Some(self.arrived.elapsed());
        self.records.amend(self.place, |record| record.took = took);
    }
}

/// Wraps the body of the service.
pub(super) fn wrap(
    response: http::Response<s3s::Body>,
    plan: Plan,
    tally: RecordUpdater,
    line: Arc<ConnectionControl>,
) -> http::Response<Body> {
    let (mut head, body) = response.into_parts();
    head.headers.extend(plan.headers.iter().cloned());
    // The wrapped body is a stream of unknown length, so the length must be declared here.
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
    /// Remaining bytes of the service's body.
    rest: Bytes,
    /// Offset of `rest` in the response body.
    at: u64,
    plan: Plan,
    tally: RecordUpdater,
    line: Arc<ConnectionControl>,
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
            return Some(Err(io::Error::other("an injected fault")));
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

    /// Size of the next write: never past the offset of the next fault.
    fn slice(&self) -> usize {
        let stall = self.plan.stall.as_ref().map(|(after, _)| *after);
        let cut = self.plan.cut.map(|(after, _)| after);
        let link = self.plan.link.as_ref().map_or(SLICE, |l| l.slice());
        [stall, cut]
            .into_iter()
            .filter_map(|place| self.index_of(place, self.rest.len()))
            .fold(self.rest.len().min(link), usize::min)
    }

    /// Index of `place` within the next `length` bytes of the body, if it is there.
    fn index_of(&self, place: Option<u64>, length: usize) -> Option<usize> {
        let index = usize::try_from(place?.checked_sub(self.at)?).ok()?;
        (index < length).then_some(index)
    }
}
