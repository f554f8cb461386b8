//! OpenTelemetry's standard variables, as far as they apply.
//!
//! No value stops the process. One that cannot be used is reported, and ignored.
//!
//! Sources: <https://opentelemetry.io/docs/specs/otel/protocol/exporter/> and
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>.

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use percent_encoding::percent_decode_str;

use super::endpoint::Endpoint;
use super::resource::{self, Attribute};
use super::sampler::Sampler;

/// Path of the traces below `OTEL_EXPORTER_OTLP_ENDPOINT`.
const TRACES: &str = "/v1/traces";
/// Headers that the export sets itself.
const RESERVED: [HeaderName; 5] = [
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    HOST,
    TRANSFER_ENCODING,
];

/// Receiver of spans, their selection, and the service that they are of.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpSettings {
    pub(super) endpoint: Endpoint,
    /// Headers of each export, which may be secrets.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) resource: Vec<Attribute>,
    pub(super) sampler: Sampler,
}

/// Variable with a value that is ignored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OtlpSettingError {
    /// The endpoint cannot be used. Its value may have a password, and is not shown.
    #[error(
        "cannot export spans to the URL in {0}: it must be http://HOST:PORT, such as http://localhost:4318; for TLS, \
         run a collector in the function that forwards the spans"
    )]
    Endpoint(&'static str),
    /// The protocol cannot be used.
    #[error(
        "cannot export spans with {0}=grpc: only OTLP over HTTP is supported; set http/json, and the endpoint of HTTP, \
         which is port 4318 by default"
    )]
    Protocol(&'static str),
    /// The sampler is unknown.
    #[error(
        "OTEL_TRACES_SAMPLER is {0:?}, but must be {names}; using parentbased_always_on",
        names = Sampler::NAMES
    )]
    Sampler(String),
    /// The share is no number from 0 to 1.
    #[error("OTEL_TRACES_SAMPLER_ARG is {0:?}, but must be a number from 0 to 1; using 1")]
    Share(String),
    /// A header cannot be used. Its value may be a secret, and is not shown.
    #[error(
        "cannot use entry {entry} of {variable}: it must be NAME=VALUE with percent-encoded values, separated by \
         commas, and no header that the export sets itself"
    )]
    Header {
        /// Name of the variable.
        variable: &'static str,
        /// Number of the entry, from 1.
        entry: usize,
    },
    /// The attributes of the resource cannot be read.
    #[error(
        "cannot use OTEL_RESOURCE_ATTRIBUTES: it must be NAME=VALUE,NAME=VALUE with percent-encoded values; all of its \
         attributes are ignored"
    )]
    Resource,
}

impl OtlpSettings {
    /// Reads the settings through `variable`, which returns the value of an environment variable, and the errors in
    /// them. `None` if no spans are to be exported.
    #[must_use]
    pub fn read(
        variable: impl Fn(&str) -> Option<String>,
    ) -> (Option<Self>, Vec<OtlpSettingError>) {
        let get = |name: &str| {
            let value = variable(name)?.trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let mut errors = Vec::new();
        let settings = read(&get, &mut errors);
        (settings, errors)
    }
}

fn read(
    get: &impl Fn(&str) -> Option<String>,
    errors: &mut Vec<OtlpSettingError>,
) -> Option<OtlpSettings> {
    // The variable for traces precedes the one for all signals.
    let first_of = |names: [&'static str; 2]| {
        let mut set = names.into_iter();
        set.find_map(|name| Some((name, get(name)?)))
    };
    let is_disabled =
        get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let exporters = get("OTEL_TRACES_EXPORTER").unwrap_or_else(|| "otlp".to_owned());
    if is_disabled || exporters.split(',').all(|name| name.trim() != "otlp") {
        return None;
    }
    let (name, url) = first_of([
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ])?;
    if let Some((name, protocol)) = first_of([
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ]) && protocol == "grpc"
    {
        errors.push(OtlpSettingError::Protocol(name));
        return None;
    }
    let is_base = name == "OTEL_EXPORTER_OTLP_ENDPOINT";
    let Some(endpoint) = Endpoint::read(&url, if is_base { TRACES } else { "" }) else {
        errors.push(OtlpSettingError::Endpoint(name));
        return None;
    };
    let headers = first_of([
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_EXPORTER_OTLP_HEADERS",
    ]);
    Some(OtlpSettings {
        endpoint,
        headers: headers.map_or_else(Vec::new, |(name, text)| read_headers(name, &text, errors)),
        resource: resource::read(get, errors),
        sampler: read_sampler(get, errors),
    })
}

fn read_sampler(
    get: &impl Fn(&str) -> Option<String>,
    errors: &mut Vec<OtlpSettingError>,
) -> Sampler {
    let Some(name) = get("OTEL_TRACES_SAMPLER") else {
        return Sampler::default();
    };
    let mut share = 1.0;
    if name.ends_with("traceidratio")
        && let Some(text) = get("OTEL_TRACES_SAMPLER_ARG")
    {
        match text.parse() {
            Ok(given) if (0.0..=1.0).contains(&given) => share = given,
            _ => errors.push(OtlpSettingError::Share(text)),
        }
    }
    Sampler::of(&name, share).unwrap_or_else(|| {
        errors.push(OtlpSettingError::Sampler(name));
        Sampler::default()
    })
}

fn read_headers(
    variable: &'static str,
    text: &str,
    errors: &mut Vec<OtlpSettingError>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (index, entry) in text.split(',').enumerate() {
        if entry.trim().is_empty() {
            continue;
        }
        let header = pair(entry).and_then(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            let mut value = HeaderValue::try_from(value).ok()?;
            value.set_sensitive(true);
            (!RESERVED.contains(&name)).then_some((name, value))
        });
        match header {
            Some(header) => headers.push(header),
            None => errors.push(OtlpSettingError::Header {
                variable,
                entry: index + 1,
            }),
        }
    }
    headers
}

/// Reads `NAME=VALUE` with a percent-encoded value.
pub(super) fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| (name.to_owned(), value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");

    fn read(variables: &[(&str, &str)]) -> (Option<OtlpSettings>, Vec<OtlpSettingError>) {
        OtlpSettings::read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_endpoint_is_a_base_and_that_of_traces_is_not() {
        let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1/x");
        for (variables, expected) in [
            (&[ENDPOINT][..], "http://localhost:4318/v1/traces"),
            (&[ENDPOINT, of_traces], "http://127.0.0.1:1/x"),
        ] {
            let (settings, errors) = read(variables);
            assert_eq!(settings.unwrap().endpoint.to_string(), expected);
            assert_eq!(errors, []);
        }
    }

    #[test]
    fn without_an_endpoint_or_disabled_nothing_is_exported() {
        for variables in [
            &[][..],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
            &[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")],
            &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")],
            &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "console")],
        ] {
            assert_eq!(read(variables), (None, Vec::new()));
        }
        for value in ["otlp", "console, otlp", ""] {
            let (settings, _) = read(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", value)]);
            assert!(settings.is_some(), "{value}");
        }
    }

    #[test]
    fn an_endpoint_that_cannot_be_used_is_an_error_without_its_value() {
        for endpoint in ["https://u:secret@otel.example.com", "secret:4318"] {
            let (settings, errors) = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]);
            assert_eq!(settings, None);
            let words = errors[0].to_string();
            assert!(words.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{words}");
            assert!(!words.contains("secret"), "{words}");
        }
        let (settings, errors) = read(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
        assert_eq!(settings, None);
        assert!(errors[0].to_string().contains("4318"), "{errors:?}");
    }

    #[test]
    fn headers_are_read_and_not_shown() {
        let (settings, errors) = read(&[
            ENDPOINT,
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "x-api-key=a%20secret, bad secret=1,,Host=secret,x-other=2,secret",
            ),
        ]);
        let settings = settings.unwrap();
        let headers: Vec<_> = settings
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        assert_eq!(
            headers,
            [("x-api-key", &b"a secret"[..]), ("x-other", b"2")]
        );
        let entries: Vec<_> = errors
            .iter()
            .map(|error| match error {
                OtlpSettingError::Header { entry, .. } => *entry,
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(entries, [2, 4, 6]);
        let shown = format!("{settings:?} {errors:?} {}", errors[0]);
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn the_sampler_is_read() {
        let sampler = |name: &str, share: &str| {
            let (settings, errors) = read(&[
                ENDPOINT,
                ("OTEL_TRACES_SAMPLER", name),
                ("OTEL_TRACES_SAMPLER_ARG", share),
            ]);
            (settings.unwrap().sampler, errors.len())
        };
        let of = |name, share| Sampler::of(name, share).unwrap();
        assert_eq!(sampler("", ""), (Sampler::default(), 0));
        assert_eq!(sampler("traceidratio", "0.1"), (of("traceidratio", 0.1), 0));
        assert_eq!(sampler("always_off", "x"), (of("always_off", 1.0), 0));
        for share in ["x", "-1", "1.1", "NaN"] {
            assert_eq!(sampler("traceidratio", share), (of("traceidratio", 1.0), 1));
        }
        assert_eq!(sampler("xray", ""), (Sampler::default(), 1));
    }
}
