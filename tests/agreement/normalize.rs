//! Normalisation of traces: ids are numbered in the order of their appearance, and the time left until a deadline is
//! replaced by its class.

use std::fmt::Write as _;

/// Maximum time left at SHUTDOWN in milliseconds, with a tolerance for rounding.
const SHUTDOWN_MS: i64 = 2_001;

/// Normalises a trace.
pub(crate) fn normalize(trace: &str) -> String {
    deadlines(&trace_ids(&uuids(trace)))
}

fn uuids(trace: &str) -> String {
    let mut seen: Vec<&str> = Vec::new();
    let mut normal = String::new();
    let mut rest = trace;
    while let Some(at) = rest
        .char_indices()
        .map(|(at, _)| at)
        .find(|at| is_uuid(&rest[*at..]))
    {
        let (before, from) = rest.split_at(at);
        let (uuid, after) = from.split_at(36);
        let number = seen.iter().position(|known| *known == uuid);
        let number = number.unwrap_or_else(|| {
            seen.push(uuid);
            seen.len() - 1
        });
        normal.push_str(before);
        // Writing to a `String` never fails.
        let _ = write!(normal, "<uuid {}>", number + 1);
        rest = after;
    }
    normal + rest
}

/// Returns `true` if the text begins with a UUID other than the nil UUID, which a case itself uses.
fn is_uuid(text: &str) -> bool {
    let Some(text) = text.get(..36) else {
        return false;
    };
    let shape = text.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    shape && text.bytes().any(|byte| byte != b'0' && byte != b'-')
}

/// Replaces X-Ray trace headers, `Root=1-…;Parent=…`.
fn trace_ids(trace: &str) -> String {
    let mut normal = String::new();
    let mut rest = trace;
    while let Some((before, from)) = rest.split_once("Root=1-") {
        let end = from.find(|c: char| !c.is_ascii_hexdigit() && !"-;=ParentSmpldig".contains(c));
        normal.push_str(before);
        normal.push_str("<trace>");
        rest = &from[end.unwrap_or(from.len())..];
    }
    normal + rest
}

fn deadlines(trace: &str) -> String {
    let mut normal = String::new();
    let mut rest = trace;
    while let Some((before, from)) = rest.split_once(" ms left>") {
        let at = before.rfind('<').unwrap_or_default();
        let left: i64 = before[at + 1..].parse().unwrap_or(-1);
        normal.push_str(&before[..at]);
        normal.push_str(match left {
            ..=0 => "<past>",
            1..=SHUTDOWN_MS => "<2 s or less>",
            _ => "<more than 2 s>",
        });
        rest = from;
    }
    normal + rest
}

#[test]
fn ids_and_deadlines_are_normalised() {
    let one = "11111111-2222-3333-4444-555555555555";
    let two = "a1111111-2222-3333-4444-555555555555";
    let trace = format!("{one} {two} {one} <1999 ms left> <2900 ms left> <-3 ms left>");
    let wanted = "<uuid 1> <uuid 2> <uuid 1> <2 s or less> <more than 2 s> <past>";
    assert_eq!(normalize(&trace), wanted);
    let nil = "00000000-0000-0000-0000-000000000000";
    assert_eq!(normalize(nil), nil);
    let xray = r#"{"value":"Root=1-65f0-abc;Parent=12;Sampled=1"}"#;
    assert_eq!(normalize(xray), r#"{"value":"<trace>"}"#);
}
