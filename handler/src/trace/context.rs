//! Trace context of an invocation.

/// Trace of a sampled invocation, as X-Ray's tracing header names it.
///
/// Source: <https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SampledTrace {
    /// `1-`, 8 hexadecimal digits of the time, `-`, 24 hexadecimal digits.
    pub(super) trace_id: String,
    /// Segment of the invocation: 16 hexadecimal digits.
    pub(super) parent_id: String,
}

impl SampledTrace {
    /// Reads a header such as `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`. Its fields
    /// have any order. Returns `None` for a trace that is not sampled, and for a malformed header.
    pub(super) fn read(header: &str) -> Option<Self> {
        let field = |name: &str| {
            header
                .split(';')
                .filter_map(|field| field.trim().split_once('='))
                .find_map(|(key, value)| (key == name).then_some(value))
        };
        if field("Sampled")? != "1" {
            return None;
        }
        let (trace_id, parent_id) = (field("Root")?, field("Parent")?);
        (is_trace_id(trace_id) && is_hex(parent_id, 16)).then(|| Self {
            trace_id: trace_id.to_owned(),
            parent_id: parent_id.to_owned(),
        })
    }
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
}
