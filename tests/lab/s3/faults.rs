//! Injected faults: rules that select requests and say how they fail.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};

use super::RequestRecord;
use crate::gate::Gate;
use crate::link::Bandwidth;

/// Selects requests and lists their faults. Begin with [`Rule::on`] or [`Rule::any`],
/// narrow it down, and add one or more faults. The faults of all matching rules are combined; of
/// two faults of one kind the later rule's applies.
///
/// ```
/// # use lab::s3::Rule;
/// let slow_down = Rule::on("GET").key("fraud/model.onnx").first(2).status(503, "SlowDown");
/// ```
#[derive(Debug)]
pub struct Rule {
    method: Option<String>,
    key: Option<String>,
    query: Option<String>,
    skip: usize,
    take: usize,
    matched: AtomicUsize,
    plan: Plan,
}

/// Combined faults of one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) refusal: Option<InjectedError>,
    pub(super) latency: Option<Duration>,
    pub(super) overwrite: Option<Bytes>,
    pub(super) link: Option<Arc<Bandwidth>>,
    pub(super) flip: Option<u64>,
    pub(super) stall: Option<(u64, Gate)>,
    pub(super) cut: Option<(u64, Ending)>,
    /// Additional headers of the response.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    Close,
    Reset,
}

#[derive(Clone, Debug)]
pub(super) struct InjectedError {
    status: u16,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: String,
}

impl Rule {
    /// A rule for all requests of a method: `GET`, `HEAD`, `PUT`, `POST` or `DELETE`.
    #[must_use]
    pub fn on(method: &str) -> Self {
        Self {
            method: Some(method.to_owned()),
            ..Self::any()
        }
    }

    /// A rule for all requests.
    #[must_use]
    pub fn any() -> Self {
        Self {
            method: None,
            key: None,
            query: None,
            skip: 0,
            take: usize::MAX,
            matched: AtomicUsize::new(0),
            plan: Plan::default(),
        }
    }

    /// Restricts the rule to this key.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Restricts the rule to requests whose query string has this part: `partNumber=2`.
    #[must_use]
    pub fn query(mut self, part: &str) -> Self {
        self.query = Some(part.to_owned());
        self
    }

    /// Restricts the rule to the first `count` matching requests.
    #[must_use]
    pub fn first(mut self, count: usize) -> Self {
        (self.skip, self.take) = (0, count);
        self
    }

    /// Restricts the rule to the `n`th matching request, counted from 1 since the rule was added.
    #[must_use]
    pub fn nth(mut self, n: usize) -> Self {
        (self.skip, self.take) = (n.saturating_sub(1), 1);
        self
    }

    /// Responds with an error without reading the request: `503`, `SlowDown`.
    #[must_use]
    pub fn status(self, status: u16, code: &str) -> Self {
        let body = error(code, "an injected fault", "");
        self.answer(status, "application/xml", &body)
    }

    /// Like [`Self::status`], with the given message, followed by the XML elements `more`.
    #[must_use]
    pub fn error(self, status: u16, code: &str, message: &str, more: &str) -> Self {
        self.answer(status, "application/xml", &error(code, message, more))
    }

    /// Responds with this body, which need not be S3's, without reading the request.
    #[must_use]
    pub fn answer(mut self, status: u16, content_type: &'static str, body: &str) -> Self {
        self.plan.refusal = Some(InjectedError {
            status,
            headers: vec![(CONTENT_TYPE, HeaderValue::from_static(content_type))],
            body: body.to_owned(),
        });
        self
    }

    /// Adds a header to the rule's error; without effect if there is none.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        if let Some(refusal) = &mut self.plan.refusal {
            let (name, value) = (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
            refusal.headers.push((name, value));
        }
        self
    }

    /// Adds a header to every response, such as one that was stored with the object.
    #[must_use]
    pub fn answer_header(mut self, name: &'static str, value: &'static str) -> Self {
        let (name, value) = (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        self.plan.headers.push((name, value));
        self
    }

    /// Delays the first byte of the response.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.plan.latency = Some(latency);
        self
    }

    /// Limits bodies to this many bytes per second, shared by all requests of this rule.
    #[must_use]
    pub fn bandwidth(mut self, bytes_per_second: u64) -> Self {
        self.plan.link = Some(Arc::new(Bandwidth::new(bytes_per_second)));
        self
    }

    /// Resets the connection after `bytes` of the body. The reset may overtake data that the client
    /// has not read yet.
    #[must_use]
    pub fn reset_after(mut self, bytes: u64) -> Self {
        self.plan.cut = Some((bytes, Ending::Reset));
        self
    }

    /// Closes the connection after `bytes` of the body: the response is shorter than its declared
    /// length.
    #[must_use]
    pub fn truncate_after(mut self, bytes: u64) -> Self {
        self.plan.cut = Some((bytes, Ending::Close));
        self
    }

    /// Pauses after `bytes` of the body until the gate opens.
    #[must_use]
    pub fn stall_after(mut self, bytes: u64, gate: &Gate) -> Self {
        self.plan.stall = Some((bytes, gate.clone()));
        self
    }

    /// Inverts the byte at `offset` of the response body.
    #[must_use]
    pub fn flip(mut self, offset: u64) -> Self {
        self.plan.flip = Some(offset);
        self
    }

    /// Overwrites the object before responding: an overwrite between two requests of one download.
    #[must_use]
    pub fn overwrite(mut self, bytes: impl Into<Bytes>) -> Self {
        self.plan.overwrite = Some(bytes.into());
        self
    }

    fn applies(&self, request: &RequestRecord) -> bool {
        let meant = self
            .method
            .as_ref()
            .is_none_or(|method| *method == request.method)
            && self.key.as_ref().is_none_or(|key| *key == request.key)
            && self
                .query
                .as_ref()
                .is_none_or(|part| request.query.contains(part));
        if !meant {
            return false;
        }
        let place = self.matched.fetch_add(1, Ordering::Relaxed);
        place >= self.skip && place - self.skip < self.take
    }
}

impl Plan {
    fn merge(self, later: &Self) -> Self {
        Self {
            refusal: later.refusal.clone().or(self.refusal),
            latency: later.latency.or(self.latency),
            overwrite: later.overwrite.clone().or(self.overwrite),
            link: later.link.clone().or(self.link),
            flip: later.flip.or(self.flip),
            stall: later.stall.clone().or(self.stall),
            cut: later.cut.or(self.cut),
            headers: [self.headers, later.headers.clone()].concat(),
        }
    }
}

impl InjectedError {
    pub(super) fn response(&self) -> http::Response<s3s::Body> {
        let mut response = http::Response::new(s3s::Body::from(self.body.clone()));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().extend(self.headers.clone());
        response
    }
}

fn error(code: &str, message: &str, more: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>{message}</Message>{more}</Error>"
    )
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: Mutex<Vec<Rule>>,
}

impl Faults {
    pub(super) fn add(&self, rule: Rule) {
        self.rules().push(rule);
    }

    pub(super) fn clear(&self) {
        self.rules().clear();
    }

    pub(super) fn plan(&self, request: &RequestRecord) -> Plan {
        self.rules()
            .iter()
            .filter(|rule| rule.applies(request))
            .fold(Plan::default(), |plan, rule| plan.merge(&rule.plan))
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
