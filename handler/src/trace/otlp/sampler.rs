//! Sampler of spans, as `OTEL_TRACES_SAMPLER` names it.
//!
//! Source: <https://opentelemetry.io/docs/specs/otel/trace/sdk/#built-in-samplers>.

use crate::trace::context::{ParentContext, SpanContext};
use crate::trace::text::new_id;

/// Decides whether a request has spans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::trace) struct Sampler {
    /// The parent's decision precedes the share, if the parent has made one.
    is_parent_based: bool,
    /// Share of the traces, from 0 to 1.
    share: f64,
}

/// The specification's default: `parentbased_always_on`.
impl Default for Sampler {
    fn default() -> Self {
        Self {
            is_parent_based: true,
            share: 1.0,
        }
    }
}

impl Sampler {
    /// Names of all samplers that are supported.
    pub(super) const NAMES: &str = "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off \
                                    or parentbased_traceidratio";

    /// Returns the sampler of this name; `None` if it is unknown. `share` is that of `traceidratio`.
    pub(super) fn of(name: &str, share: f64) -> Option<Self> {
        let root = name.strip_prefix("parentbased_");
        let share = match root.unwrap_or(name) {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => share,
            _ => return None,
        };
        Some(Self {
            is_parent_based: root.is_some(),
            share,
        })
    }

    /// Returns the context of a span with this parent, in a new trace without one; `None` if it is not sampled.
    pub(in crate::trace) fn context(&self, parent: Option<ParentContext>) -> Option<SpanContext> {
        let decided = parent.as_ref().and_then(|parent| parent.is_sampled);
        if self.is_parent_based && decided == Some(false) {
            return None;
        }
        let context = parent.map_or_else(
            || SpanContext {
                trace_id: new_id() + &new_id(),
                ..SpanContext::default()
            },
            |parent| parent.span,
        );
        let is_sampled =
            (self.is_parent_based && decided == Some(true)) || self.has_share(&context.trace_id);
        is_sampled.then_some(context)
    }

    /// Returns `true` if the trace is in the share. The last 64 bits of its identifier decide, so that all processes of
    /// a trace decide alike.
    fn has_share(&self, trace_id: &str) -> bool {
        let random = trace_id
            .get(16..)
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "the share is from 0 to 1; the rounding is that of other implementations"
        )]
        let bound = (self.share * (1_u64 << 63) as f64) as u64;
        random.is_some_and(|random| random >> 1 < bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(name: &str) -> Sampler {
        Sampler::of(name, 0.5).unwrap()
    }

    fn parent(last: &str, is_sampled: Option<bool>) -> ParentContext {
        ParentContext {
            span: SpanContext {
                trace_id: format!("4bf92f3577b34da6{last}"),
                parent_id: Some("00f067aa0ba902b7".to_owned()),
                state: None,
            },
            is_sampled,
        }
    }

    #[test]
    fn a_parent_decides_for_samplers_that_are_based_on_it() {
        let (low, high) = ("0000000000000001", "ffffffffffffffff");
        for (name, low_on, high_on, low_off, high_off, low_open, high_open) in [
            ("always_on", true, true, true, true, true, true),
            ("always_off", false, false, false, false, false, false),
            ("traceidratio", true, false, true, false, true, false),
            (
                "parentbased_always_on",
                true,
                true,
                false,
                false,
                true,
                true,
            ),
            (
                "parentbased_always_off",
                true,
                true,
                false,
                false,
                false,
                false,
            ),
            (
                "parentbased_traceidratio",
                true,
                true,
                false,
                false,
                true,
                false,
            ),
        ] {
            for (last, decision, expected) in [
                (low, Some(true), low_on),
                (high, Some(true), high_on),
                (low, Some(false), low_off),
                (high, Some(false), high_off),
                (low, None, low_open),
                (high, None, high_open),
            ] {
                let context = sampler(name).context(Some(parent(last, decision)));
                let expected = expected.then(|| parent(last, None).span);
                assert_eq!(context, expected, "{name} {last} {decision:?}");
            }
        }
    }

    #[test]
    fn a_request_without_a_parent_begins_a_trace() {
        let [one, other] = [(); 2].map(|()| Sampler::default().context(None).unwrap());
        assert_ne!(one.trace_id, other.trace_id);
        assert_eq!(one.trace_id.len(), 32);
        assert_eq!(one.parent_id, None);
        assert_eq!(sampler("parentbased_always_off").context(None), None);
    }

    #[test]
    fn the_share_is_the_one_of_random_identifiers() {
        let quarter = Sampler::of("traceidratio", 0.25).unwrap();
        let sampled = (0..4000).filter(|_| quarter.context(None).is_some());
        let count = sampled.count();
        // Six standard deviations.
        assert!((835..=1165).contains(&count), "{count}");
    }

    #[test]
    fn unknown_names_are_none() {
        for name in ["", "jaeger_remote", "parentbased_", "always-on"] {
            assert_eq!(Sampler::of(name, 1.0), None, "{name}");
        }
    }
}
