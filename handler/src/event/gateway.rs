//! HTTP events: API Gateway in both payload formats, function URLs, and Application Load Balancers.

use std::collections::BTreeMap;

use base64::DecodeSliceError;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::Method;
use http::header::ACCEPT_ENCODING;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::path::{BasePath, Mapping, Parameters};
use super::{Call, Envelope, RequestContext, field, headers, target};
use crate::failure::Failure;

/// Standard base64. AWS pads; hand-written test events often do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Length of the JSON before tensors in binary, of the Open Inference Protocol.
const JSON_LENGTH: &str = "inference-header-content-length";

/// Alignment of tensors in bytes: the largest that any CPU instruction requires.
const ALIGNMENT: usize = 64;

/// Payload format 1.0.
pub(super) fn rest(
    envelope: &Envelope,
    context: &RequestContext,
    base_path: &BasePath,
) -> Result<Call, Failure> {
    // Of the two services with this format only an HTTP API, which sets `version`, keeps the stage
    // in the path.
    let stage = match envelope.version {
        Some(_) => field::text("requestContext.stage", context.stage)?,
        None => None,
    };
    let path = field::text("path", envelope.path)?.unwrap_or_default();
    let resource = field::lenient_text(envelope.resource);
    let mapping = Mapping {
        resource: resource.as_deref(),
        parameters: parameters(envelope),
        // With a custom domain the base path precedes this path, and not `path`.
        is_mapped_root: resource.as_deref() == Some("/")
            && field::lenient_text(context.path).is_some_and(|whole| whole == path),
        stage: stage.as_deref(),
    };
    let query = query(envelope, target::encode)?;
    let method = method("httpMethod", envelope.http_method)?;
    let mut call = call(envelope, method, mapping.local(&path, base_path), &query)?;
    // A compressed response is binary, which a REST API returns as base64 text unless the media
    // type is configured. It compresses by itself if configured to.
    call.headers.remove(ACCEPT_ENCODING);
    Ok(call)
}

/// Payload format 2.0.
pub(super) fn http(
    envelope: &Envelope,
    context: &RequestContext,
    base_path: &BasePath,
) -> Result<Call, Failure> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Description<'a> {
        #[serde(borrow)]
        method: Option<&'a RawValue>,
        #[serde(borrow)]
        path: Option<&'a RawValue>,
    }
    let description: Description = context
        .http
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default();
    let route = field::lenient_text(envelope.route_key);
    let (route_method, resource) = match route.as_deref().and_then(|route| route.split_once(' ')) {
        Some((method, resource)) => (Some(method), Some(resource)),
        None => (None, None),
    };
    let method = if description.method.is_some() {
        method("requestContext.http.method", description.method)?
    } else if envelope.http_method.is_some() {
        method("httpMethod", envelope.http_method)?
    } else {
        // Missing in hand-written events.
        let named = route_method.filter(|name| *name != "ANY");
        let usual = if envelope.body.is_some() {
            "POST"
        } else {
            "GET"
        };
        parse_method("routeKey", named.unwrap_or(usual))?
    };
    let stage = field::text("requestContext.stage", context.stage)?;
    let path = if envelope.raw_path.is_some() {
        field::text("rawPath", envelope.raw_path)?
    } else {
        field::lenient_text(description.path.or(envelope.path))
    };
    let mapping = Mapping {
        resource,
        parameters: parameters(envelope),
        is_mapped_root: false,
        stage: stage.as_deref(),
    };
    let path = path.unwrap_or_default();
    let query = field::text("rawQueryString", envelope.raw_query_string)?.unwrap_or_default();
    call(envelope, method, mapping.local(&path, base_path), &query)
}

/// A load balancer's event, which resembles payload format 1.0 but leaves the query as it was sent.
pub(super) fn alb(envelope: &Envelope, base_path: &BasePath) -> Result<Call, Failure> {
    let path = field::text("path", envelope.path)?.unwrap_or_default();
    let query = query(envelope, str::to_owned)?;
    let method = method("httpMethod", envelope.http_method)?;
    let path = Mapping::default().local(&path, base_path);
    call(envelope, method, path, &query)
}

fn call(envelope: &Envelope, method: Method, path: &str, query: &str) -> Result<Call, Failure> {
    let headers = headers::read(envelope)?;
    let json = headers
        .get(JSON_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    Ok(Call {
        target: target::build(&method, path, query),
        method,
        body: body(envelope, json.unwrap_or(0))?,
        headers,
    })
}

fn method(name: &str, raw: Option<&RawValue>) -> Result<Method, Failure> {
    parse_method(name, &field::text(name, raw)?.unwrap_or_default())
}

fn parse_method(name: &str, method: &str) -> Result<Method, Failure> {
    Method::from_bytes(method.as_bytes()).map_err(|_| {
        Failure::BadRequest(format!(
            "event field {name} must be an HTTP method, not {:?}",
            field::excerpt(method)
        ))
    })
}

/// Path parameters; empty unless they are an object of strings, since the path alone is sufficient.
fn parameters(envelope: &Envelope) -> Parameters {
    envelope
        .path_parameters
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default()
}

/// Query of an event that contains it as a map; `write` encodes names and values.
fn query(envelope: &Envelope, write: fn(&str) -> String) -> Result<String, Failure> {
    let multi: Option<BTreeMap<String, Option<Vec<String>>>> = field::typed(
        "multiValueQueryStringParameters",
        "an object of lists of strings, or null",
        envelope.multi_value_query_string_parameters,
    )?;
    let single: Option<BTreeMap<String, Option<String>>> = field::typed(
        "queryStringParameters",
        "an object of strings, or null",
        envelope.query_string_parameters,
    )?;

    let pairs: Vec<(String, String)> = match multi.filter(|multi| !multi.is_empty()) {
        Some(multi) => multi
            .into_iter()
            .flat_map(|(name, values)| {
                values
                    .unwrap_or_default()
                    .into_iter()
                    .map(move |value| (name.clone(), value))
            })
            .collect(),
        None => single
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| (name, value.unwrap_or_default()))
            .collect(),
    };
    let written: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{}={}", write(name), write(value)))
        .collect();
    Ok(written.join("&"))
}

/// Decoded body of the event, whose first `json` bytes precede tensors in binary.
fn body(envelope: &Envelope, json: usize) -> Result<Bytes, Failure> {
    let encoded: bool = field::typed(
        "isBase64Encoded",
        "true, false or null",
        envelope.is_base64_encoded,
    )?
    .unwrap_or_default();
    match field::text("body", envelope.body)? {
        None => Ok(Bytes::new()),
        Some(text) if encoded => decode(&text, json),
        Some(text) => Ok(Bytes::from(text.into_owned())),
    }
}

/// Decodes base64 once, with the bytes after the first `json` bytes aligned, so that the sidecar in the same process
/// reads tensors without a copy.
fn decode(text: &str, json: usize) -> Result<Bytes, Failure> {
    let mut buffer = vec![0; base64::decoded_len_estimate(text.len()) + ALIGNMENT];
    let padding = buffer.as_ptr().addr().wrapping_add(json).wrapping_neg() % ALIGNMENT;
    let decoded = BASE64.decode_slice(text, &mut buffer[padding..]);
    let length = decoded.map_err(|error| {
        let problem = match error {
            DecodeSliceError::DecodeError(problem) => problem.to_string(),
            DecodeSliceError::OutputSliceTooSmall => error.to_string(),
        };
        Failure::BadRequest(format!("the body is not valid base64: {problem}"))
    })?;
    buffer.truncate(padding + length);
    Ok(Bytes::from(buffer).slice(padding..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_behind_the_json_are_aligned() {
        let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let text = BASE64.encode(&bytes);
        for json in [0, 1, 63, 64, 117, usize::MAX] {
            let body = decode(&text, json).unwrap();
            assert!(body == bytes, "{json}");
            let tensor = body.as_ptr().addr().wrapping_add(json);
            assert_eq!(tensor % ALIGNMENT, 0, "{json}");
        }
        assert_eq!(decode("", 0).unwrap(), "");
        assert!(decode("a", 0).is_err());
    }
}
