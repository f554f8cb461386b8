//! Trace contexts of a request: X-Ray's header, and `traceparent` with `tracestate`.

use http::header::{HeaderMap, HeaderName};

use crate::invocation::TRACE_ID;

/// Trace of the caller.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// State of tracing systems in the caller's trace.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Maximum length of `tracestate` that is exported, in bytes. A longer one is omitted.
const MAX_STATE: usize = 512;

/// Trace of a sampled invocation, as X-Ray's tracing header names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SampledTrace {
    /// `1-`, 8 hexadecimal digits of the time, `-`, 24 hexadecimal digits.
    pub(super) trace_id: String,
    /// Segment of the invocation: 16 hexadecimal digits.
    pub(super) parent_id: String,
}

impl SampledTrace {
    /// Reads a header. Returns `None` for a trace that is not sampled, and for a malformed header.
    pub(super) fn read(header: &str) -> Option<Self> {
        let header = TracingHeader::read(header)?;
        let parent = header.parent.filter(|_| header.is_sampled == Some(true))?;
        Some(Self {
            trace_id: header.root.to_owned(),
            parent_id: parent.to_owned(),
        })
    }
}

/// X-Ray's tracing header, such as `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`. Its
/// fields have any order.
///
/// Source: <https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader>.
struct TracingHeader<'a> {
    root: &'a str,
    parent: Option<&'a str>,
    /// `None` if the decision is not made.
    is_sampled: Option<bool>,
}

impl<'a> TracingHeader<'a> {
    /// Returns `None` without a valid root.
    fn read(header: &'a str) -> Option<Self> {
        let field = |name: &str| {
            header
                .split(';')
                .filter_map(|field| field.trim().split_once('='))
                .find_map(|(key, value)| (key == name).then_some(value))
        };
        Some(Self {
            root: field("Root").filter(|root| is_trace_id(root))?,
            parent: field("Parent").filter(|parent| is_hex(parent, 16)),
            is_sampled: match field("Sampled") {
                Some("1") => Some(true),
                Some("0") => Some(false),
                _ => None,
            },
        })
    }
}

/// Context of a span for OpenTelemetry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SpanContext {
    /// 32 hexadecimal digits.
    pub(super) trace_id: String,
    /// Parent of the span: 16 hexadecimal digits; `None` for the first span of a trace.
    pub(super) parent_id: Option<String>,
    /// The caller's `tracestate`.
    pub(super) state: Option<String>,
}

/// Context that a request carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParentContext {
    pub(super) span: SpanContext,
    /// The parent's decision; `None` if the parent has made none.
    pub(super) is_sampled: Option<bool>,
}

impl ParentContext {
    /// Reads the context of a request: the caller's `traceparent`, or else X-Ray's header. Malformed headers are
    /// ignored, as are several of `traceparent`.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut callers = headers.get_all(TRACEPARENT).iter();
        if let (Some(header), None) = (callers.next(), callers.next())
            && let Some(mut context) = header.to_str().ok().and_then(Self::of_traceparent)
        {
            context.span.state = state(headers);
            return Some(context);
        }
        let header = headers.get(TRACE_ID)?.to_str().ok()?;
        Some(Self::of_x_ray(&TracingHeader::read(header)?))
    }

    /// Reads a `traceparent` such as `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
    ///
    /// Source: <https://www.w3.org/TR/trace-context/#traceparent-header>.
    fn of_traceparent(header: &str) -> Option<Self> {
        let mut fields = header.trim().splitn(5, '-');
        let (version, trace_id) = (fields.next()?, fields.next()?);
        let (parent_id, flags) = (fields.next()?, fields.next()?);
        let has_more = fields.next().is_some();
        let is_lower = |text: &str, digits| {
            is_hex(text, digits) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
        };
        let is_id =
            |text: &str, digits| is_lower(text, digits) && text.bytes().any(|byte| byte != b'0');
        let is_valid = is_lower(version, 2)
            && version != "ff"
            && !(version == "00" && has_more)
            && is_id(trace_id, 32)
            && is_id(parent_id, 16)
            && is_lower(flags, 2);
        if !is_valid {
            return None;
        }
        Some(Self {
            span: SpanContext {
                trace_id: trace_id.to_owned(),
                parent_id: Some(parent_id.to_owned()),
                state: None,
            },
            is_sampled: Some(u8::from_str_radix(flags, 16).ok()? & 1 == 1),
        })
    }

    /// Converts X-Ray's header. The identifier without version and dashes is the one of OpenTelemetry. A segment that
    /// is not sampled exists nowhere, so that it is no parent.
    fn of_x_ray(header: &TracingHeader<'_>) -> Self {
        let digits = header.root.bytes().skip(2).filter(|digit| *digit != b'-');
        let parent = header.parent.filter(|_| header.is_sampled != Some(false));
        Self {
            span: SpanContext {
                trace_id: digits
                    .map(|digit| char::from(digit.to_ascii_lowercase()))
                    .collect(),
                parent_id: parent.map(str::to_ascii_lowercase),
                state: None,
            },
            is_sampled: header.is_sampled,
        }
    }
}

/// Returns `tracestate`, whose parts can be in several headers.
fn state(headers: &HeaderMap) -> Option<String> {
    let parts = headers.get_all(TRACESTATE).iter();
    let parts: Option<Vec<&str>> = parts.map(|part| part.to_str().ok()).collect();
    let state = parts?.join(",");
    (1..=MAX_STATE).contains(&state.len()).then_some(state)
}

fn is_trace_id(text: &str) -> bool {
    let mut parts = text.split('-');
    let has = |part: Option<&str>, digits| part.is_some_and(|part| is_hex(part, digits));
    parts.next() == Some("1")
        && has(parts.next(), 8)
        && has(parts.next(), 24)
        && parts.next().is_none()
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "1-5759e988-bd862e3fe1be46a994272793";
    const PARENT: &str = "53995c3f42cd8ad8";

    #[test]
    fn a_sampled_trace_is_read_in_any_order_and_with_other_fields() {
        let expected = SampledTrace {
            trace_id: ROOT.to_owned(),
            parent_id: PARENT.to_owned(),
        };
        for header in [
            format!("Root={ROOT};Parent={PARENT};Sampled=1"),
            format!("Root={ROOT};Parent={PARENT};Sampled=1;Lineage=1:a87bd80c:0"),
            format!("Sampled=1; Parent={PARENT}; Self=1-2-3; Root={ROOT}"),
        ] {
            assert_eq!(
                SampledTrace::read(&header).as_ref(),
                Some(&expected),
                "{header}"
            );
        }
    }

    #[test]
    fn other_traces_and_malformed_headers_are_none() {
        for header in [
            String::new(),
            format!("Root={ROOT}"),
            format!("Root={ROOT};Parent={PARENT}"),
            format!("Root={ROOT};Parent={PARENT};Sampled=0"),
            format!("Root={ROOT};Parent={PARENT};Sampled=?"),
            format!("Root={ROOT};Sampled=1"),
            format!("Parent={PARENT};Sampled=1"),
            format!("Root={ROOT}0;Parent={PARENT};Sampled=1"),
            format!("Root={ROOT}-;Parent={PARENT};Sampled=1"),
            format!("Root=2{};Parent={PARENT};Sampled=1", &ROOT[1..]),
            format!("Root={ROOT};Parent=53995c3f42cd8adg;Sampled=1"),
            format!("Root={ROOT};Parent=é3995c3f42cd8ad;Sampled=1"),
            format!("Root={ROOT};Parent={PARENT};NotSampled=1"),
        ] {
            assert_eq!(SampledTrace::read(&header), None, "{header}");
        }
    }

    const CALLERS: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn parent_of(headers: &[(&'static str, &str)]) -> Option<ParentContext> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        ParentContext::of(&map)
    }

    fn context(trace_id: &str, parent_id: Option<&str>, is_sampled: Option<bool>) -> ParentContext {
        ParentContext {
            span: SpanContext {
                trace_id: trace_id.to_owned(),
                parent_id: parent_id.map(str::to_owned),
                state: None,
            },
            is_sampled,
        }
    }

    #[test]
    fn a_traceparent_is_read() {
        for (version, flags, is_sampled) in [
            ("00", "01", Some(true)),
            ("00", "03", Some(true)),
            ("00", "00", Some(false)),
            ("01", "01-more", Some(true)),
            ("00", "01-more", None),
            ("ff", "01", None),
            ("0A", "01", None),
            ("00", "1", None),
            ("00", "0g", None),
        ] {
            let header = format!("{version}-{CALLERS}-{PARENT}-{flags}");
            let expected = is_sampled.map(|is| context(CALLERS, Some(PARENT), Some(is)));
            assert_eq!(parent_of(&[("traceparent", &header)]), expected, "{header}");
        }
        let zeros = "0".repeat(32);
        for header in [
            format!("00-{zeros}-{PARENT}-01"),
            format!("00-{CALLERS}-{}-01", &zeros[..16]),
            format!("00-{}-{PARENT}-01", CALLERS.to_ascii_uppercase()),
            format!("00-{CALLERS}-{PARENT}"),
            String::new(),
        ] {
            assert_eq!(parent_of(&[("traceparent", &header)]), None, "{header}");
        }
    }

    #[test]
    fn the_callers_trace_precedes_the_one_of_x_ray() {
        let x_ray = format!("Root={ROOT};Parent={PARENT};Sampled=1");
        let of_x_ray = context("5759e988bd862e3fe1be46a994272793", Some(PARENT), Some(true));
        let callers = format!("00-{CALLERS}-00f067aa0ba902b7-00");
        let of_callers = context(CALLERS, Some("00f067aa0ba902b7"), Some(false));
        for (headers, expected) in [
            (&[("x-amzn-trace-id", &*x_ray)][..], Some(&of_x_ray)),
            (
                &[("traceparent", &callers), ("x-amzn-trace-id", &x_ray)],
                Some(&of_callers),
            ),
            (
                &[("traceparent", "00-0-0-00"), ("x-amzn-trace-id", &x_ray)],
                Some(&of_x_ray),
            ),
            (
                &[("traceparent", &callers), ("traceparent", &callers)],
                None,
            ),
        ] {
            assert_eq!(parent_of(headers).as_ref(), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_segment_that_is_not_sampled_is_no_parent() {
        let root = "5759e988bd862e3fe1be46a994272793";
        for (fields, expected) in [
            (
                format!("Root={ROOT};Parent={PARENT};Sampled=0"),
                context(root, None, Some(false)),
            ),
            (
                format!("Root={ROOT};Parent={PARENT};Sampled=?"),
                context(root, Some(PARENT), None),
            ),
            (format!("Root={ROOT}"), context(root, None, None)),
        ] {
            let parent = parent_of(&[("x-amzn-trace-id", &fields)]);
            assert_eq!(parent, Some(expected), "{fields}");
        }
    }

    #[test]
    fn the_state_is_joined_and_bounded() {
        let parent = format!("00-{CALLERS}-{PARENT}-01");
        let long = "x".repeat(MAX_STATE);
        for (states, expected) in [
            (&["a=1", "b=2"][..], Some("a=1,b=2")),
            (&[&long], Some(&*long)),
            (&[&long, "b"], None),
            (&[], None),
        ] {
            let states = states.iter().map(|state| ("tracestate", *state));
            let headers: Vec<_> = states.chain([("traceparent", &*parent)]).collect();
            let state = parent_of(&headers).unwrap().span.state;
            assert_eq!(state.as_deref(), expected);
        }
    }
}
