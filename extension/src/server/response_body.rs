//! Response bodies: parts in memory, which are sent without a copy.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};

use crate::request_memory::Charge;

/// Parts of a response body that are not sent yet, in order.
#[derive(Debug, Default)]
pub(super) struct ResponseBody {
    first: Bytes,
    others: std::vec::IntoIter<Bytes>,
    /// Charge for the memory of the parts, if that is counted.
    charge: Option<Charge>,
}

impl ResponseBody {
    /// Returns the length of all parts in bytes.
    pub(super) fn length(&self) -> usize {
        let others = self.others.as_slice().iter();
        self.first.len() + others.map(Bytes::len).sum::<usize>()
    }

    /// Adds a charge, which is held until the last byte of the body is sent.
    pub(super) fn with_charge(self, charge: Charge) -> Self {
        let charge = Some(charge);
        Self { charge, ..self }
    }

    /// Returns all parts as one, without a copy of a single part.
    pub(super) fn into_bytes(self) -> Bytes {
        if self.others.as_slice().is_empty() {
            return self.first;
        }
        let mut whole = BytesMut::with_capacity(self.length());
        whole.extend_from_slice(&self.first);
        for part in self.others {
            whole.extend_from_slice(&part);
        }
        whole.freeze()
    }

    /// Takes the charge.
    pub(super) fn take_charge(&mut self) -> Option<Charge> {
        self.charge.take()
    }
}

/// Last part of a body. hyper drops it once it is sent, which can be long after the body itself.
struct ChargedPart {
    part: Bytes,
    /// Released with the part.
    _charge: Charge,
}

impl AsRef<[u8]> for ChargedPart {
    fn as_ref(&self) -> &[u8] {
        &self.part
    }
}

impl From<Bytes> for ResponseBody {
    fn from(only: Bytes) -> Self {
        Self {
            first: only,
            others: Vec::new().into_iter(),
            charge: None,
        }
    }
}

impl From<Vec<Bytes>> for ResponseBody {
    fn from(parts: Vec<Bytes>) -> Self {
        let mut others = parts.into_iter();
        Self {
            first: others.next().unwrap_or_default(),
            others,
            charge: None,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            let next = self.others.next();
            let last = next.is_none();
            let part = std::mem::replace(&mut self.first, next.unwrap_or_default());
            if !part.is_empty() {
                let is_last = self.is_end_stream();
                let charge = self
                    .charge
                    .take_if(|charge| is_last && charge.holds_memory());
                let part = match charge {
                    Some(charge) => Bytes::from_owner(ChargedPart {
                        part,
                        _charge: charge,
                    }),
                    None => part,
                };
                return Poll::Ready(Some(Ok(Frame::data(part))));
            }
            if last {
                return Poll::Ready(None);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.others.as_slice().iter().all(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::request_memory::Account;

    #[test]
    fn every_byte_is_sent_once_without_waiting() {
        for parts in [vec![], vec![""], vec!["a"], vec!["", "a", "", "", "bc", ""]] {
            let bytes: Vec<Bytes> = parts.iter().map(|part| Bytes::from(*part)).collect();
            let mut body = ResponseBody::from(bytes);
            let mut all = String::new();
            let mut context = Context::from_waker(std::task::Waker::noop());
            let whole = parts.concat();
            let parts = parts.iter().map(|part| Bytes::from(*part));
            let joined = ResponseBody::from(parts.collect::<Vec<_>>()).into_bytes();
            assert_eq!(joined, whole.as_bytes());
            loop {
                let left = whole.len() - all.len();
                assert_eq!(body.size_hint().exact(), Some(left as u64));
                assert_eq!(body.is_end_stream(), left == 0);
                match Pin::new(&mut body).poll_frame(&mut context) {
                    Poll::Ready(Some(Ok(frame))) => {
                        let data = frame.into_data().unwrap();
                        all.push_str(std::str::from_utf8(&data).unwrap());
                    }
                    Poll::Ready(None) => break,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(all, whole);
        }
    }

    #[test]
    fn the_charge_lasts_as_long_as_the_last_part() {
        const BYTES: usize = 100_000;
        let account = Arc::new(Account::unlimited());
        let mut charge = Charge::new(&account);
        charge.grow(2 * BYTES).unwrap();
        charge.settle();
        let parts = vec![Bytes::from(vec![1; BYTES]), Bytes::from(vec![2; BYTES])];
        let mut body = ResponseBody::from(parts).with_charge(charge);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut next = || match Pin::new(&mut body).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap(),
            other => panic!("{other:?}"),
        };
        let (first, last) = (next(), next());
        assert_eq!((first[0], last[0], last.len()), (1, 2, BYTES));
        drop((body, first));
        assert!(account.held() > BYTES, "a part is not sent yet");
        drop(last);
        assert_eq!(account.held(), 0);
    }
}
