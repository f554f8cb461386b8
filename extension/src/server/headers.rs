//! Names of the headers that the local API reads and writes.

use hyper::header::HeaderName;

use crate::protocol::v2::HEADER_LENGTH;

/// Deadline of the invocation, as the Runtime API gives it to the function that forwards the request.
pub(super) const DEADLINE: &str = "lambda-runtime-deadline-ms";
/// [`DEADLINE`], parsed once instead of for each request.
pub(super) static DEADLINE_NAME: HeaderName = HeaderName::from_static(DEADLINE);
/// ID of the invocation, as the Runtime API gives it to the function that forwards the request.
pub(super) static REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
/// [`HEADER_LENGTH`], parsed once instead of for each request.
pub(super) static HEADER_LENGTH_NAME: HeaderName = HeaderName::from_static(HEADER_LENGTH);

/// Secret of the execution environment, which authenticates a caller.
pub(super) const TOKEN: &str = "x-model-token";
/// Mark that the handler sets on requests from outside the execution environment, in place of any that their callers
/// sent. A direct caller that sets it only restricts itself.
pub(super) const REMOTE: &str = "x-model-remote";

/// Name of the model that a response is from.
pub(super) static MODEL_NAME: HeaderName = HeaderName::from_static("x-model-name");
/// Name of the version that a response is from.
pub(super) static MODEL_VERSION: HeaderName = HeaderName::from_static("x-model-version");
/// Digest of the files of that version.
pub(super) static MODEL_DIGEST: HeaderName = HeaderName::from_static("x-model-digest");
/// Time that an inference request spent in each stage.
pub(super) static SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
